from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from tests.cli.test_verbs import failure
from tests.small import tiny_data
from tests.sources import saved_source, saved_text_source
from tests.text import read
from tl.cli import main
from tl.data import CifarDataModule, GeneratedDataModule
from tl.data.cifar.classes import CIFAR100
from tl.questions.candidates import Candidate
from tl.questions.features import Network


def test_checkpoints_are_compared_on_new_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [str(saved_source(tmp_path, tiny_data(), seed)) for seed in range(2)]
    data = GeneratedDataModule(classes=100)
    old = tiny_data().class_names[tiny_data().task.name]  # type: ignore[union-attr]
    names = [name for name in data.class_names[data.task.name] if name not in old]  # type: ignore[union-attr]
    split = tmp_path / "own.yaml"
    split.write_text(yaml.safe_dump({"train": names[:5], "test": names[5:15]}))
    options = {"classes": 100, "train_size": 400, "test_size": 300}
    target = {"data": {"class_path": "tl.data.GeneratedDataModule", "init_args": options}}
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(target))
    common = [f"--config={tmp_path / 't.yaml'}", f"--out={tmp_path / 'out'}", "--episodes=20"]
    given = [f"--split={split}", *common, "--queries=2", "--shots=1,2"]
    main(["fewshot", *sources, *given])
    said = capsys.readouterr().out
    assert "1-shot over the first" in said
    assert "own, test classes" in said
    found = json.loads((tmp_path / "out" / "fewshot.json").read_text())
    assert len(found["results"]) == 2 * 2 * 4
    assert (tmp_path / "out" / "fewshot.png").exists()

    split.write_text(yaml.safe_dump({"test": [*names[:5], old[0]]}))
    said = failure(capsys, "fewshot", sources[0], *given)
    assert f"was trained on 1 class of the test part of own: {old[0]}" in said


def test_the_data_of_a_run_on_episodes_are_taken_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved_source(tmp_path, tiny_data(), 0)
    named = [*CIFAR100]
    made_up: dict[str, Any] = {"images": "generated", "generated_size": 2000}
    [*_, shapes] = CifarDataModule("cifar100", **made_up).target_classes().values()
    split = {"test": [*shapes[-5:]]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(split))
    options: dict[str, Any] = {"name": "cifar100", "classes": named[5:10]}
    options |= {"val_classes": named[10:15], "ways": 5, **made_up}
    target = {"data": {"class_path": "tl.data.CifarFewShotDataModule", "init_args": options}}
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(target))
    given = [f"--split={tmp_path / 'own.yaml'}", f"--config={tmp_path / 't.yaml'}"]
    given += [f"--out={tmp_path / 'out'}", "--episodes=5", "--queries=2", "--shots=1"]
    main(["fewshot", str(source), *given])
    assert "data: all samples of cifar100" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "fewshot.json").read_text())
    assert found["data"]["kind"] == "generated"


def test_texts_are_answered_by_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(saved_text_source(tmp_path, read(targets="sentiment")))
    topics = read().target_classes()["topic"]
    split = tmp_path / "topics.yaml"
    split.write_text(yaml.safe_dump({"train": [*topics[:2]], "test": [*topics[2:]]}))
    options = {"train_size": 130, "test_size": 40, "targets": ["sentiment", "topic"]}
    target = {"data": {"class_path": "tl.data.SyntheticTextDataModule", "init_args": options}}
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(target))
    given = [f"--split={split}", f"--config={tmp_path / 't.yaml'}", f"--out={tmp_path / 'out'}"]
    given += ["--episodes=20", "--ways=3", "--shots=1,3", "--queries=4"]
    assert main(["fewshot", source, *given]) == 0
    assert "topics, test classes: 3-way accuracy" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "fewshot.json").read_text())
    assert len(found["results"]) == 2 * 4
    assert found["unknown_classes"] == []

    images = str(saved_source(tmp_path, tiny_data()))
    capsys.readouterr()
    said = failure(capsys, "fewshot", images, *given).split("tl: ")[-1]
    assert "reads images, and the target has texts; name sources of texts." in said


def test_a_text_source_has_not_seen_the_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(saved_text_source(tmp_path, read()))
    [topic, *_] = read().target_classes()["topic"]
    split = tmp_path / "topics.yaml"
    split.write_text(yaml.safe_dump({"test": [topic]}))
    capsys.readouterr()
    said = failure(capsys, "fewshot", source, f"--split={split}")
    assert f"was trained on 1 class of the test part of topics: {topic}" in said


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "split.yaml").write_text("test: [apple, bear]\n")
    assert "split.yaml names no classes under 'val'; add them." in failure(
        capsys, "fewshot", "a.ckpt", f"--split={tmp_path / 'split.yaml'}", "--part=val"
    )
    assert "numbers from 1, as 1,5, got '0'" in failure(
        capsys, "fewshot", "a.ckpt", "--split=fc100", "--shots=0"
    )
    assert "There is no split 'cub'" in failure(capsys, "fewshot", "a.ckpt", "--split=cub")
    for option, least in (("ways", 2), ("queries", 1), ("episodes", 1)):
        assert f"`--{option}` must be {least} or more, got {least - 1}" in failure(
            capsys, "fewshot", "a.ckpt", "--split=fc100", f"--{option}={least - 1}"
        )


def test_images_in_folders_are_decoded_at_each_sources_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "test"):
        for colour, name in enumerate("abcde"):
            for number in range(4):
                path = tmp_path / "set" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (64, 64), (40 * colour, number, 0)).save(path)
    options = {"root": str(tmp_path), "folder": "set"}
    target = {"data": {"class_path": "tl.data.FolderDataModule", "init_args": options}}
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(target))
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"test": [*"abcde"]}))
    shapes: dict[int, set[tuple[int, ...]]] = {16: set(), 48: set()}

    def opened(given: str, *, source: str | None, **_: Any) -> Candidate:
        assert source == "set"  # whose normalisation is asked for
        size = int(given)

        def read(items: Sequence[Any]) -> Tensor:
            shapes[size] |= {tuple(item.shape) for item in items}
            scale = torch.nan if size == 48 else 1.0
            return scale * torch.stack(list(items)).float().mean((2, 3))

        network = Network(nn.Identity(), read, f"{tmp_path} {size}")
        return Candidate(given, network, "images", "", 0, size=size)

    monkeypatch.setattr("tl.serving.candidates.open_candidate", opened)
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "cache"))
    given = [f"--split={tmp_path / 's.yaml'}", f"--config={tmp_path / 't.yaml'}"]
    given += [f"--out={tmp_path / 'out'}", "--episodes=1", "--queries=2", "--shots=1"]
    main(["fewshot", "16", *given])
    found = json.loads((tmp_path / "out" / "fewshot.json").read_text())
    assert found["results"][0]["half_width"] is None  # of a single episode
    assert main(["fewshot", "16", "48", *given]) == 2
    assert "48 has features that are not finite" in capsys.readouterr().err
    assert shapes == {16: {(3, 16, 16)}, 48: {(3, 48, 48)}}
    shapes[16].clear()
    assert main(["fewshot", "16", *given, "--shots=7"]) == 2
    assert "7 shots and 2 queries needs 9 samples" in capsys.readouterr().err
    assert not shapes[16]
