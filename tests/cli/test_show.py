from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.test_verbs import failure
from tests.images import class_folders
from tl.cli import main
from tl.cli.resolved import ResolvedConfiguration

ROOT = Path(__file__).resolve().parents[2]
MULTITASK, QUICK = (f"{ROOT}/configs/{name}.yaml" for name in ("multitask", "overlays/quick"))


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict[str, str], str]:
    """Comments by the line's YAML, and the whole text."""
    assert main(["show", *words]) == 0
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines() if not line.startswith("#")) <= 100
    lines = [line.split("  #") for line in text.splitlines() if "  #" in line]
    return {line[0].strip(): line[-1].strip() for line in lines}, text


def test_each_value_stands_with_its_source(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    notes, text = shown(capsys, MULTITASK, QUICK, "--epochs=3", "--balancer", "pcgrad")
    assert notes["batch_size: 64"] == "quick.yaml, over 256 in multitask.yaml"
    assert notes["max_epochs: 3"] == "command line, over 5 in quick.yaml"
    assert notes["class_path: torchjd.aggregation.PCGrad"] == "pcgrad.yaml"
    assert notes["benchmark: true"] == "multitask.yaml"
    assert notes["seed: 0"] == "seed_everything"
    assert "gradient_clip_val" not in text
    assert "values that nobody set are left out; --all shows them." in text
    assert f"quick.yaml      {QUICK}" in text


def test_what_it_shows_is_the_same_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, text = shown(capsys, MULTITASK, QUICK)
    (tmp_path / "mine.yaml").write_text(text)
    _, whole = shown(capsys, str(tmp_path / "mine.yaml"), "--all")
    both = [f"--config={MULTITASK}", f"--config={QUICK}"]
    assert yaml.safe_load(whole) == ResolvedConfiguration(["fit", *both]).found


def test_a_run_shows_what_is_not_a_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found: dict[str, Any] = ResolvedConfiguration(["fit", f"--config={MULTITASK}"]).found
    for version, epochs in ((2, 4), (10, 7)):
        found["trainer"]["max_epochs"] = epochs
        file = tmp_path / "run" / f"version_{version}" / "config.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(yaml.safe_dump(found))
    notes, text = shown(capsys, str(tmp_path / "run"), "--trainer.min_epochs=2")
    assert notes["max_epochs: 7"] == "config.yaml"
    assert notes["min_epochs: 2"] == "command line, over null in config.yaml"
    assert "max_steps" not in text
    assert "channels_last" not in text


def test_a_folder_of_images_shows_the_usual_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = class_folders(tmp_path / "photos", count=2, size=40)
    notes, _ = shown(capsys, str(folder), "--strategy", "linear_probe", "--data.size=16")
    assert notes["max_epochs: 30"] == "usual recipe"
    assert notes["size: 16"] == "command line, over 32 in usual recipe"


def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "give a configuration, such as tl show configs" in failure(capsys, "show")
    assert "no such file" in failure(capsys, "show", str(tmp_path / "a.yaml"))
    assert "no such folder or table" in failure(capsys, "show", str(tmp_path / "a"))
    said = failure(capsys, "show", MULTITASK, "--model.root=1")
    assert "Did you mean 'data.init_args.root'?" in said
