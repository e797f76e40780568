from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from tests.cli.test_verbs import failure
from tests.small import tiny_data
from tests.sources import saved_source
from tests.text import read
from tl.cli import main
from tl.cli.rank import target_data
from tl.data import FolderDataModule
from tl.questions.samples import by_size, samples_of


def config(where: Path, kind: str, **options: Any) -> str:
    path = where / "target.yaml"
    content = {"data": {"class_path": f"tl.data.{kind}", "init_args": options}}
    path.write_text(yaml.safe_dump({**content, "model": {"not": "read"}}))
    return str(path)


def generated(folder: Path, **options: Any) -> str:
    given = {"train_size": 60, "test_size": 20, **options}
    return config(folder, "GeneratedDataModule", **given)


def test_sources_are_ranked_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = [str(saved_source(tmp_path, tiny_data(), seed)) for seed in range(2)]
    common = [*sources, f"--config={generated(tmp_path)}", f"--out={tmp_path / 'out'}"]
    main(["rank", *common, "--samples=40", "--resamples=20"])
    said = capsys.readouterr()
    assert "40 samples, 10 classes" in said.out
    assert all(Path(source).name in said.out for source in sources)
    assert f"sources: {tmp_path}/*" in said.out
    assert "SYNTHETIC" in said.out
    assert said.out.rstrip().endswith(".")
    first = json.loads((tmp_path / "out" / "rank.json").read_text())
    assert {each["name"] for each in first["sources"]} == set(sources)
    assert first["data"]["kind"] == "generated"
    assert (tmp_path / "out" / "rank.png").stat().st_size > 1000
    main(["rank", *common, "--samples=40", "--resamples=20", "--json"])
    assert json.loads(capsys.readouterr().out) == first  # the same from the cache
    scores = first["sources"][0]["scores"]
    assert scores["leep"] <= 0
    assert scores["accuracy"] is not None


def test_images_in_folders_are_read_at_the_size_of_a_source(tmp_path: Path) -> None:
    for kind, colour in (("a", 10), ("b", 200)):
        for number in range(4):
            path = tmp_path / "set" / "train" / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 48), (colour, number, 0)).save(path)
    data = target_data([config(tmp_path, "FolderDataModule", root=str(tmp_path), folder="set")])
    assert isinstance(data, FolderDataModule)
    at = by_size(data, lambda: samples_of(data, "train", 100))
    small, large = at(16), at(40)
    sizes = [each.data.pixels(each.data.index[:1]).shape for each in (small, large)]  # type: ignore[attr-defined]
    assert sizes == [(1, 16, 16, 3), (1, 40, 40, 3)]
    assert at(16) is small
    assert at((24, 40)) is large  # whatever came before
    usual = at(None).data  # type: ignore[attr-defined]
    assert usual.pixels(usual.index[:1]).shape == (1, 32, 32, 3)
    [one], [other] = small.targets.values(), large.targets.values()
    assert one.tolist() == other.tolist()


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(saved_source(tmp_path, tiny_data()))
    capsys.readouterr()
    target = f"--config={generated(tmp_path)}"
    said = failure(capsys, "rank", source, target)
    assert said.startswith("tl: A ranking compares sources, got 1; name two or more")
    assert "`--samples` must be 1 or more, got 0" in failure(
        capsys, "rank", source, source, target, "--samples=0"
    )
    assert "no configuration" in failure(capsys, "rank", source, "b", "--config=none.yaml")
    (tmp_path / "empty.yaml").write_text("model: {}\n")
    empty = f"--config={tmp_path / 'empty.yaml'}"
    assert "has no section `data`" in failure(capsys, "rank", source, "b", empty)
    assert "`--where` must be AXIS=VALUE" in failure(
        capsys, "rank", source, source, target, "--measured=s.yaml", "--where=x"
    )
    assert "`--where` and `--study-out` are of a study; name it by `--measured`" in failure(
        capsys, "rank", source, "b", target, "--where=a=b"
    )
    assert "nosuch:net names the library 'nosuch'; expected one of torchvision, timm, " in failure(
        capsys, "rank", source, "nosuch:net", target
    )
    folder = str(Path(source).parent.parent)
    assert "is named twice, first as " in failure(capsys, "rank", source, folder, target)
    several = config(
        tmp_path,
        "MultiTaskDataModule",
        sources={"a": {"class_path": "tl.data.GeneratedDataModule"}},
    )
    assert "The target has the sources a; give the configuration of one" in failure(
        capsys, "rank", source, source, f"--config={several}"
    )


def test_another_modality_and_single_images_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [str(saved_source(tmp_path, tiny_data(), seed)) for seed in range(2)]
    capsys.readouterr()
    one = generated(tmp_path, label_fraction=0.2)
    said = failure(capsys, "rank", *sources, f"--config={one}", f"--out={tmp_path}").split("tl: ")
    assert "one sample of each class of task" in said[-1]
    assert read()  # texts as a target
    text = config(tmp_path, "SyntheticTextDataModule", targets="topic", train_size=60, test_size=20)
    said = failure(capsys, "rank", *sources, f"--config={text}", f"--out={tmp_path}").split("tl: ")
    assert "reads images, and the target has texts; name sources of texts." in said[-1]
