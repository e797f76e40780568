"""The writer, and what data tell that may be anybody's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from tests.small import trainer
from tl.callbacks.board import as_markdown, class_names_of, statistics_of, writer_of


def test_the_writer_is_tensorboards_or_none(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    assert writer_of(trainer(tmp_path, logger=[CSVLogger(tmp_path), logger])) is logger.experiment
    assert writer_of(trainer(tmp_path, logger=CSVLogger(tmp_path))) is None
    assert writer_of(trainer(tmp_path)) is None


def test_data_tell_what_they_have() -> None:
    def around(**data: Any) -> Any:
        return cast("Any", SimpleNamespace(datamodule=SimpleNamespace(**data)))

    assert class_names_of(around(), "a") is None
    assert class_names_of(around(class_names={"a": ("x", "y"), "b": ("z",)}), "a") == ["x", "y"]
    assert class_names_of(around(class_names={"b": ("z",)}), "a") == ["z"]  # the only one
    two = (torch.zeros(3), torch.ones(3))
    assert statistics_of(around(), None) is None
    assert statistics_of(around(statistics=two), None) is two
    assert statistics_of(around(sources={"s": SimpleNamespace(statistics=two)}), "s") is two


def test_plain_types_are_an_indented_block() -> None:
    assert as_markdown({"a": Path("b")}) == '    {\n      "a": "b"\n    }'
