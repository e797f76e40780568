"""Which reader a checkpoint's description of its data asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl.data.text.known import read_text_record
from tl.data.trained_on import read_record
from tl.serving.readers.image_reader import ImageReader
from tl.serving.readers.reader import Reader
from tl.serving.readers.tensor_reader import TensorReader
from tl.serving.readers.text_reader import TextReader


def reader_of(record: Mapping[str, Any]) -> Reader:
    """Return what reads a source's samples, from its description in a checkpoint.

    Args:
        record: The description; empty for data that described nothing.

    Raises:
        DataError: If the tokenizer in it is damaged.
    """
    if (text := read_text_record(record)) is not None:
        return TextReader(text, record.get("columns") or {}, record.get("encoding") or "utf-8")
    if (images := read_record(record)) is not None:
        return ImageReader(images)
    return TensorReader(record)
