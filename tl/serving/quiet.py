"""Silence of libraries while they do what the caller reports on."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Leave out what these loggers say below an error.

    Args:
        names: Names of loggers.
    """
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


_LIGHTNING = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero")


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Log what this framework says of the data; nothing of the machine or of Lightning's code."""

    def ours(entry: logging.LogRecord) -> bool:
        return entry.getMessage().startswith("tl: ") or entry.levelno > logging.INFO

    loggers = [logging.getLogger(name) for name in _LIGHTNING]
    for logger in loggers:
        logger.addFilter(ours)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(ours)
