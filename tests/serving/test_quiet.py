"""Silence of loggers for a while."""

from __future__ import annotations

import logging

import pytest

from tl.serving.quiet import quiet


def test_errors_are_heard_and_the_level_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tests.quiet")
    logger.setLevel(logging.INFO)
    with quiet("tests.quiet"):
        logger.info("progress")
        logger.error("an error")
    logger.info("after")
    assert [entry.message for entry in caplog.records] == ["an error", "after"]
    assert logger.level == logging.INFO
