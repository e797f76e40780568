"""Silence of loggers for a while."""

from __future__ import annotations

import logging
import warnings

import pytest

from tl.serving.quiet import quiet, quiet_lightning


def test_errors_are_heard_and_the_level_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tests.quiet")
    logger.setLevel(logging.INFO)
    with quiet("tests.quiet"):
        logger.info("progress")
        logger.error("an error")
    logger.info("after")
    assert [entry.message for entry in caplog.records] == ["an error", "after"]
    assert logger.level == logging.INFO


def test_of_lightning_its_warnings_and_our_lines_are_heard(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    caplog.set_level(logging.INFO, logger.name)
    with quiet_lightning(), warnings.catch_warnings(record=True) as heard:
        warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated", stacklevel=1)
        warnings.warn("labels look wrong", stacklevel=1)
        logger.info("GPU available: False")
        logger.info("tl: 40 images")
        logger.warning("a warning")
    logger.info("GPU available: False")
    expected = ["tl: 40 images", "a warning", "GPU available: False"]
    assert [entry.message for entry in caplog.records] == expected
    assert [str(each.message) for each in heard] == ["labels look wrong"]
