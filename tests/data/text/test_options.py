"""Options that a source of text has itself, or takes from around it."""

from __future__ import annotations

import pytest

from tests.text import read
from tl.data import DataError


def test_what_is_not_set_is_taken_or_the_default() -> None:
    data = read(batch_size=None)
    assert (data.batch_size, data.eval_batch_size, data.seed) == (64, 256, 0)
    assert data.takes("batch_size")
    assert data.takes("tokenizer")
    assert not data.takes("root")
    data.inherit(batch_size=8, root="elsewhere")
    assert data.batch_size == 8
    data.inherit()
    assert data.batch_size == 64


def test_what_is_set_stays() -> None:
    data = read(batch_size=16)
    data.inherit(batch_size=8)
    assert data.batch_size == 16
    data.val_size = 0.5  # set later
    data.inherit(val_size=0.2)
    assert data.val_size == 0.5


def test_another_split_is_loaded_anew() -> None:
    data = read()
    data.setup("fit")
    before = data.fingerprint
    data.inherit(batch_size=8)
    assert "train" in data.splits
    data.inherit(seed=1)
    assert not data.splits
    data.setup("fit")
    assert data.fingerprint != before


def test_a_wrong_option_is_refused() -> None:
    with pytest.raises(ValueError, match="`batch_size` must be 1 or more, got 0"):
        read(batch_size=0)


def test_an_option_that_is_set_later_takes_effect() -> None:
    data = read()
    data.setup("fit")
    before = data.fingerprint
    data.seed = 1
    data.setup("fit")
    assert data.fingerprint != before
    assert data.describe()["seed"] == 1
    data.max_length = 6
    data.setup("fit")
    assert max(map(int, data.splits["train"].lengths)) <= 6
    data.__setattr__("tokenizer", "nowhere.json")
    with pytest.raises(DataError, match="no such file or folder: nowhere"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("val_size", 3.0, "`val_size` must be 0 or more and below 1, got 3.0"),
        ("on_long", "drop", "`on_long` must be cut or error, got 'drop'"),
    ],
)
def test_a_wrong_option_is_refused_later_too(option: str, value: object, error: str) -> None:
    data = read()
    before = getattr(data, option)
    with pytest.raises(ValueError, match=error):
        setattr(data, option, value)
    assert getattr(data, option) == before


def test_what_has_no_effect_is_refused() -> None:
    data = read()
    with pytest.raises(AttributeError, match="no option 'batchsize'"):
        data.batchsize = 8
    with pytest.raises(AttributeError, match="`targets` cannot change; make a new Synthetic"):
        data.targets = "topic"
