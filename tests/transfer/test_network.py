from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.transfer.penalties.steps import checkpoint, images, network
from tl.checkpoints.files import CheckpointError
from tl.transfer.network import SourceHead, SourceNetwork
from tl.transfer.source import Head


def test_a_network_answers_as_the_source_did(tmp_path: Path) -> None:
    backbone, heads = network(seed=1)
    path = checkpoint(tmp_path / "source.ckpt", backbone, heads)
    source = SourceNetwork(network(seed=2)[0])
    source.load(path)
    source.train()
    answers = source(images())
    torch.testing.assert_close(answers, heads["task"](backbone(images())))
    assert not answers.requires_grad
    assert not any(p.requires_grad for p in source.parameters())
    assert not any(module.training for module in source.modules())


def test_names_are_mapped_as_those_of_the_run(tmp_path: Path) -> None:
    backbone, heads = network(seed=1)
    renamed = nn.ModuleDict(
        {"first": backbone.get_submodule("conv"), "second": backbone.get_submodule("top")}
    )
    path = checkpoint(tmp_path / "source.ckpt", renamed, heads)
    source = SourceNetwork(network(seed=2)[0])
    with pytest.raises(CheckpointError):
        source.load(path)
    source.load(path, rename={"first": "conv", "second": "top"})
    torch.testing.assert_close(source(images()), heads["task"](backbone(images())))


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    backbone, heads = network()
    path = checkpoint(tmp_path / "source.ckpt", backbone, heads)
    source, before = SourceNetwork(backbone), torch.get_rng_state()
    source.load(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_head_grows_to_what_a_state_dict_holds() -> None:
    head, other = SourceHead(trains=True), SourceHead(trains=False)
    with pytest.raises(ValueError, match="has no weights yet"):
        head(torch.zeros(1, 4))
    head.set(Head("a", torch.randn(3, 4), torch.randn(3)))
    other.load_state_dict(head.state_dict())
    assert torch.equal(head(torch.ones(1, 4)), other(torch.ones(1, 4)))
    assert all(p.requires_grad for p in head.parameters())
    assert not any(p.requires_grad for p in other.parameters())


def test_weights_that_an_optimizer_holds_stay_the_same_objects() -> None:
    head = SourceHead(trains=True)
    head.set(Head("a", torch.randn(3, 4), None))
    held = list(head.parameters())
    head.load_state_dict({"linear.weight": torch.ones(3, 4)})
    assert [p is q for p, q in zip(head.parameters(), held, strict=True)] == [True]
    assert float(held[0].sum()) == 12
