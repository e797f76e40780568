from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml

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


def test_the_card_names_the_source_that_was_chosen() -> None:
    data = {"photos": {"kind": "real"}, "scans": {"kind": "real"}}
    config = {**CONFIG, "kind": "texts", "inputs": [], "data": data, "source": "scans"}
    text = card(RunScores({}), config=config)
    assert 'model.predict("a text", source="scans")' in text
    assert "only the tasks of the source scans answer" in text
    text = card(RunScores({}), config={**config, "source": None})
    assert 'source="photos"' in text
    assert "only the tasks of the source" not in text
