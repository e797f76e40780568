from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tl.data.images.decoding import decode
from tl.serving.card import ModelCard
from tl.serving.run_scores import RunScores

CONFIG: dict[str, Any] = {
    "versions": {"tl": "1"},
    "checkpoint": {"file": "best.ckpt", "sha256": "ab", "epoch": 3, "step": 40},
    "architecture": {"name": "Net", "parameters": 1234},
    "network": {"class_path": "tl.modules.TransferModule"},
    "kind": None,
    "inputs": None,
    "tasks": {
        "a": {"answers": "12 classes", "shape": None, "class_names": [f"c{i}" for i in range(12)]}
    },
    "data": {},
    "source": None,
}


def card(scores: RunScores, **given: Any) -> str:
    usual = {"licence": None, "files": ("model.safetensors",), "problems": (), "config": CONFIG}
    options = {**usual, **given}
    shown = ModelCard(name="n", scores=scores, lineage="random", frozen="Nothing.", **options)
    return shown.text()


def test_scores_stand_with_their_seeds_or_say_that_there_are_none() -> None:
    seeds = {"test/acc": (0.72, 0.031, 3)}
    text = card(RunScores({"test/acc": 0.75, "val/acc": 0.8}, {}, "methods", seeds))
    assert "| test/acc | 0.75 | 0.72 ± 0.031 (3 seeds) |" in text
    assert "| val/acc | 0.8 | - |" in text
    assert "the study *methods*" in text
    alone = card(RunScores({"val/acc": 0.8}))
    assert "One run with one seed" in alone
    assert "no test scores: this checkpoint was not tested" in alone
    adapted = card(RunScores({"val/acc": 0.8}, set_aside="adaptation AdaBN"))
    assert "its last test was with adaptation AdaBN" in adapted
    assert "was not tested" not in adapted
    assert "records no scores" in card(RunScores({}))


def test_the_code_without_tl_shows_classes_and_maps(capsys: pytest.CaptureFixture[str]) -> None:
    part = {"name": "x", "shape": [3], "dtype": "uint8"}
    config = {**CONFIG, "kind": "tensors", "inputs": [part], "named_inputs": False}
    text = card(RunScores({}), files=("model.safetensors", "model.pt2"), config=config)
    lines = text[text.index("for task, answer in answers") :].partition("```")[0]
    rose, maps = torch.tensor([[0.1, 0.9]]), torch.full((1, 4, 4), 5)
    known = {"class_names": ["leaf", "rose"]}
    exec(lines, {"answers": {"a": rose, "b": maps}, "tasks": {"a": known, "b": known}})  # noqa: S102 - the card's code
    assert capsys.readouterr().out == "a rose\nb (1, 4, 4)\n"


def test_the_licence_is_a_field_of_the_header() -> None:
    text = card(RunScores({}), licence='weird: "one"', problems=("model.pt2 is missing: why",))
    header = yaml.safe_load(text.split("---")[1])
    assert header["license"] == 'weird: "one"'
    assert "Note: model.pt2 is missing: why" in text
    assert "c9, ... (12 in `config.json`)" in text
    assert "torch.export" not in text


@pytest.mark.parametrize("deep", [True, False])
def test_the_code_without_tl_reads_more_than_8_bits_as_in_training(
    deep: bool, tmp_path: Path
) -> None:
    part = {"name": "pixels", "shape": [2, 2, 3], "dtype": "uint8"}
    data = {"kind": "real", "pixel_range": [1000.0, 3000.0] if deep else None}
    others = {"first": {"kind": "real", "pixel_range": [0.0, 9.0]}, "a": data}
    config = {**CONFIG, "kind": "images", "inputs": [part], "data": others, "source": "a"}
    text = card(RunScores({}), files=("model.safetensors", "model.pt2"), config=config)
    assert ("1000 becomes black and 3000 white" in text) == deep
    code = text[text.index("import json") :].partition("program =")[0]
    path = tmp_path / "photo.png"
    Image.fromarray(np.full((2, 2), 1400, np.uint16)).save(path)
    found: dict[str, Any] = {}
    lines = code.replace("photo.png", str(path))
    if not deep:
        with pytest.raises(SystemExit, match="more than 8 bits"):
            exec(lines, found)  # noqa: S102 - the card's code
        return
    exec(lines, found)  # noqa: S102 - the card's code
    expected = decode(path, 2, (1000, 3000))
    assert found["pixels"][0].tolist() == expected.tolist()
    assert expected.max() == 51


def test_the_card_names_the_source_that_was_chosen() -> None:
    data = {"photos": {"kind": "real"}, "scans": {"kind": "real"}}
    config = {**CONFIG, "kind": "texts", "inputs": [], "data": data, "source": "scans"}
    text = card(RunScores({}), config=config)
    assert 'model.predict("a text", source="scans")' in text
    assert "only the tasks of the source scans answer" in text
    text = card(RunScores({}), config={**config, "source": None})
    assert 'source="photos"' in text
    assert "only the tasks of the source" not in text
