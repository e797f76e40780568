from __future__ import annotations

import torch

from tests.small import tiny_data
from tests.text import read
from tl.serving.readers import ImageReader, TensorReader, TextReader, reader_of


def test_nothing_known_reads_tensors() -> None:
    reader = reader_of({})
    assert isinstance(reader, TensorReader)
    rows, single = reader.spread(torch.zeros(4, 3))
    assert len(rows) == 4
    assert not single


def test_the_record_of_each_kind_of_data_has_its_reader() -> None:
    texts, images = read(), tiny_data()
    for data in (texts, images):
        data.setup("fit")
    assert isinstance(reader_of(texts.describe()), TextReader)
    assert isinstance(reader_of(images.describe()), ImageReader)
