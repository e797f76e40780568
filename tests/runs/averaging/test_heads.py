"""Heads are told apart by task, and their classes reordered where the layer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.runs.averaging.dense import PYRAMID
from tl.runs.averaging.heads import Head, heads_of, named, reordered
from tl.tasks import Segmentation
from tl.tasks.heads import linear_head

ROWS = [2, 0, 1]


def test_a_task_is_the_first_part_of_a_name() -> None:
    names = ["heads.a.weight", "heads.b_1.blocks.0.weight", "heads.b_1.last.bias"]
    weights = {name: torch.full((1,), float(i)) for i, name in enumerate(names)}
    found = heads_of({**weights, "backbone.heads.weight": torch.zeros(1)})
    layers = {task: list(head) for task, head in found.items()}
    assert layers == {"a": ["weight"], "b_1": ["blocks.0.weight", "last.bias"]}
    assert named(found) == weights


def test_a_linear_head_answers_in_the_other_order() -> None:
    head = linear_head(5, 3)
    head.bias.data.copy_(torch.randn(3))
    inputs = torch.randn(4, 5)
    before = head(inputs)
    head.load_state_dict(reordered(head.state_dict(), ROWS, None, "the head"))
    torch.testing.assert_close(head(inputs), before[:, ROWS])


@pytest.mark.parametrize("decoder", [PYRAMID, "tl.tasks.decoders.DeepLab"])
def test_our_decoders_answer_in_the_other_order(decoder: str) -> None:
    torch.manual_seed(0)
    head = Segmentation("a", 3, decoder=decoder, width=3).head([4, 6]).eval()
    nn.init.normal_(head.get_parameter("last.bias"))
    maps: list[Tensor] = [torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4)]
    before = head(maps, (8, 8))
    # other layers have 3 rows too, and keep them
    head.load_state_dict(reordered(head.state_dict(), ROWS, decoder, "the head"))
    torch.testing.assert_close(head(maps, (8, 8)), before[:, ROWS])


@pytest.mark.parametrize(
    ("names", "decoder"),
    [
        (["0.weight", "1.weight", "1.bias"], None),  # several layers
        (["weight", "bias", "scale"], None),  # a linear layer and more
        (["last.weight", "last.bias"], "mine.Decoder"),
        (["conv.weight", "conv.bias"], PYRAMID),
        ([], None),
    ],
)
def test_unknown_layers_are_refused(names: list[str], decoder: str | None) -> None:
    head: Head = {name: torch.zeros(3, 2) for name in names}
    with pytest.raises(ValueError, match="the head has its classes in another order, and which"):
        reordered(head, ROWS, decoder, "the head")


def test_another_number_of_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="which of its layers has a row for each class"):
        reordered({"weight": torch.zeros(4, 2)}, ROWS, None, "the head")
