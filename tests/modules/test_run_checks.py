from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.callbacks import BackboneFinetuning, BatchSizeFinder, EarlyStopping

from tests.small import module, multitask_module, one_source, tiny_data, trainer
from tests.text import build
from tl import Classification, SyntheticTextDataModule
from tl.modules.run_checks import (
    check_answers,
    check_monitors,
    check_unlabelled,
    refuse_batch_size_search,
)
from tl.transfer.adaptation import CORAL, DANN
from tl.transfer.penalties import L2SP


def test_a_head_of_another_size_than_the_data_is_refused() -> None:
    here = {"a": Classification("a", 3)}
    check_answers(here, SimpleNamespace(tasks=[Classification("other", 3)]))
    check_answers(here, None)
    with pytest.raises(ValueError, match="'a' has a head of 3 classes, the data have 4 classes"):
        check_answers(here, SimpleNamespace(tasks=[Classification("a", 4)]))


def test_callbacks_that_mislead_are_refused() -> None:
    check_monitors([EarlyStopping("val/loss")])
    with pytest.raises(ValueError, match="EarlyStopping"):
        check_monitors([EarlyStopping("val/acc", mode="min")])
    with pytest.raises(ValueError, match=r"use a strategy of `tl\.transfer`"):
        check_monitors([BackboneFinetuning()])


def test_a_batch_size_is_searched_from_one() -> None:
    refuse_batch_size_search([], tiny_data(batch_size=None))
    refuse_batch_size_search([BatchSizeFinder()], tiny_data())
    with pytest.raises(ValueError, match="which is not set"):
        refuse_batch_size_search([BatchSizeFinder()], tiny_data(batch_size=None))


def test_a_source_that_a_penalty_adapts_to_must_be_read() -> None:
    tasks = {
        "a": Classification("a", 3, source="a"),
        "b": Classification("b", 3, source="b", shares="a", trains=False),
        "c": Classification("c", 3, source="c", shares="a", trains=False),
    }

    def check(*penalties: object, read: str, by_source: bool = False) -> None:
        data = SimpleNamespace(trained_sources=dict.fromkeys(read))
        check_unlabelled(penalties, tasks, data, by_source=by_source)

    check(L2SP(), read="a")
    check(CORAL(), read="ab")
    check(CORAL(), read="abc", by_source=True)
    check_unlabelled([CORAL()], tasks, object(), by_source=True)  # a user's own loaders
    with pytest.raises(ValueError, match=r"^DANN adapts .* not read b and c: .*`labels: none`"):
        check(L2SP(), DANN(), read="a")
    with pytest.raises(ValueError, match=r"cannot evaluate the source 'c', whose statistics"):
        check(CORAL(), read="ab", by_source=True)


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("several", [False, True])
def test_loaders_of_ours_come_with_their_data_module(
    verb: str, several: bool, tmp_path: Path
) -> None:
    data: Any = one_source() if several else tiny_data()
    ours: Any = (multitask_module if several else module)(data)
    data.setup(verb)
    split = {"fit": "train", "validate": "val"}.get(verb, verb)
    loader = getattr(data, f"{split}_dataloader")()
    with pytest.raises(ValueError, match=rf"the data module itself: trainer\.{verb}\(model, data"):
        getattr(trainer(tmp_path), verb)(ours, loader)


def test_batches_of_texts_need_no_data_module(tmp_path: Path) -> None:
    data = SyntheticTextDataModule(40, 20, targets="topic", vocab_size=100)
    data.setup("fit")
    data.setup("test")
    ours = build(data)
    alone = trainer(tmp_path).test(ours, data.test_dataloader(), verbose=False)
    assert alone == trainer(tmp_path).test(ours, data, verbose=False)
