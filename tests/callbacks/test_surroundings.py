from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from lightning.pytorch import Callback

from tl.callbacks.surroundings import callbacks_of, data_by_source, data_of


class Mine(Callback):
    pass


def test_callbacks_are_found_by_their_kind() -> None:
    first, second = Mine(), Mine()
    trainer: Any = SimpleNamespace(callbacks=[first, Callback(), second])
    assert callbacks_of(trainer, Mine) == [first, second]


def test_a_single_source_answers_to_any_name() -> None:
    data = SimpleNamespace()
    assert data_by_source(data) == {None: data}
    one: Any = SimpleNamespace(datamodule=data)
    assert data_of(one, "any") is data_of(one, None) is data


def test_several_sources_answer_to_their_own() -> None:
    sources = {"a": object(), "b": object()}
    several: Any = SimpleNamespace(datamodule=SimpleNamespace(sources=sources))
    assert data_of(several, "b") is sources["b"]
    assert data_of(several, "c") is None
    nothing: Any = SimpleNamespace()  # loaders without a data module
    assert data_of(nothing, "a") is None
