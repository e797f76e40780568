from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from tl.questions.candidates import Candidate
from tl.questions.class_splits import ClassSplit
from tl.questions.episodes import METHODS
from tl.questions.features import Network
from tl.questions.fewshot import (
    FewShot,
    as_dict,
    check_unseen,
    class_positions,
    few_shot,
    figure_of,
    sentence,
    table,
    write,
)

SPLIT = ClassSplit("own", ("a",), (), ("b", "c", "d", "e", "f"))


def result() -> FewShot:
    labels = torch.arange(150) % 5
    noise = torch.randn(150, 8, generator=torch.Generator().manual_seed(0))
    better = noise + 4 * functional.one_hot(labels, 8)
    worse = noise + 1 * functional.one_hot(labels, 8)
    features = {"worse": worse, "same": worse.clone(), "better": better}
    return few_shot(features, labels, {}, split=SPLIT, episodes=60, queries=5, unknown=["same"])


def test_differences_are_paired_on_the_same_episodes() -> None:
    found = result()
    same = found.difference("same", 1, "ridge")
    assert (same.mean, same.half_width) == (0, 0)
    gain = found.difference("better", 5, "nearest mean")
    assert gain.mean > gain.half_width > 0
    one, five = (found.estimate("better", k, "centred mean").mean for k in (1, 5))
    assert one < five


def test_it_is_a_table_that_ends_in_a_sentence(tmp_path: Path) -> None:
    found = result()
    lines = table(found).splitlines()
    assert "own, test classes: 5-way accuracy in %, 60 episodes of 5 queries" in lines[0]
    assert "Not all classes that same was trained on are known" in table(found)
    assert "minus the mean of each episode's shots" in lines[1]
    assert as_dict(found)["centred_by"] == "mean of each episode's shots"
    assert as_dict(found)["seed"] == 0
    assert lines[-1] == sentence(found)
    assert lines[-1].startswith("better with ")
    paths = write(found, tmp_path)
    assert json.loads(paths[1].read_text()) == as_dict(found)
    assert len(figure_of(found).axes) == 4
    assert paths[2].stat().st_size > 1000


def test_each_source_is_compared_by_its_best_method() -> None:
    drawn = torch.Generator().manual_seed(0)
    accuracy = {"a": (0.5, 0.6, 0.8, 0.5), "b": (0.5, 0.6, 0.7, 0.7999), "c": (0.5, 0.6, 0.5, 0.7)}
    found = {
        (source, 5, method): value + 0.05 * torch.randn(2000, generator=drawn).double()
        for source, values in accuracy.items()
        for method, value in zip(METHODS, values, strict=True)
    }
    said = sentence(FewShot("own", "test", 5, 15, 2000, (5,), found))
    [first, second] = ("a with ridge", "b with logistic")
    if said.startswith(second):
        first, second = second, first
    assert said.startswith(f"{first} reaches 80.")
    assert f"; {second} cannot be distinguished from it on the same episodes" in said
    assert "c with" not in said


def test_a_class_that_was_seen_is_refused() -> None:
    network = Network(nn.Identity(), lambda samples: torch.stack(list(samples)), "")
    seen = Candidate("s", network, "images", "", 0, seen=frozenset({"a", "c"}))
    with pytest.raises(ValueError, match="trained on 1 class of the test part of own: c"):
        check_unseen(seen, SPLIT, "test")
    check_unseen(seen, SPLIT, "val")
    check_unseen(Candidate("u", network, "images", "", 0), SPLIT, "test")


def test_positions_of_classes_by_name() -> None:
    labels = torch.tensor([0, 1, 2, 1])
    assert class_positions(labels, ["x", "y", "z"], ["y", "z"]).tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="have no class q of the split"):
        class_positions(labels, ["x", "y", "z"], ["q"])


def test_a_single_episode_is_no_run_and_centres_are_told() -> None:
    labels = torch.arange(150) % 5
    features = torch.randn(150, 8, generator=torch.Generator().manual_seed(0))
    about = {"name": "ten", "kind": "generated", "split": "all samples"}
    found = few_shot(
        *({"a": features}, labels, {"a": features.mean(0)}),
        split=SPLIT,
        episodes=1,
        shots=[1],
        about=about,
    )
    assert "% (one episode) with 1 labelled sample of each class" in sentence(found)
    assert "minus the mean of 1 training class" in table(found)
    assert "data: all samples of ten, SYNTHETIC" in table(found)
