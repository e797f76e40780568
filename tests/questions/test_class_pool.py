from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.small import tiny_data, two_sources
from tests.text import read
from tl.data import CifarDataModule, CifarFewShotDataModule
from tl.data.errors import DataError
from tl.questions.class_pool import ClassPool, pool_of
from tl.questions.class_splits import ClassSplit


def split(*test: str, train: tuple[str, ...] = ()) -> ClassSplit:
    return ClassSplit("own", train, (), test)


def test_images_of_both_files_come_with_their_labels() -> None:
    data = tiny_data()
    [task] = data.tasks
    names = data.class_names[task.name]
    pool = pool_of(data, split(*names[:3]))
    samples, labels = pool.samples(names[:3]), pool.labels(names[:3])
    assert [each.modality for each in samples] == ["images", "images"]
    assert sum(map(len, samples)) == len(labels) == (120 + 30) * 3 // 10
    assert set(labels.tolist()) == {0, 1, 2}
    some = pool.some(names[:3], 6)
    assert len(some) == 6


def test_episodes_give_every_class_its_own_images() -> None:
    options: dict[str, Any] = {"images": "generated", "generated_size": 500}
    whole = CifarDataModule("cifar100", **options)
    classes = ("apple", "bear", "bee", "bottle", "bowl")
    others = ("beaver", "beetle", "butterfly", "camel", "cattle")
    episodes = CifarFewShotDataModule(
        "cifar100", classes=classes, val_classes=others, ways=5, **options
    )
    pool, wanted = (pool_of(each, split()) for each in (episodes, whole))
    assert pool.names == wanted.names
    [*_, name] = pool.names
    for one, other in zip(pool.samples([name]), wanted.samples([name]), strict=True):
        assert one.fingerprint == other.fingerprint


def test_texts_of_all_files_come_with_their_labels() -> None:
    data = read(targets=["sentiment", "topic"], label_fraction=0.3)
    topics = data.target_classes()["topic"]
    pool = pool_of(data, split(topics[1], topics[3]))
    assert pool.target == "topic"  # the target that has these classes
    wanted: list[tuple[str, int]] = []
    for file in ("train", "test"):
        table = data.read(file)
        assert table is not None
        both = zip(table.columns["text"], table.columns["topic"], strict=True)
        wanted += [(text, topics.index(t)) for text, t in both if t in (topics[1], topics[3])]
    samples = pool.samples([topics[1], topics[3]])
    texts = [text for each in samples for text in each.items(torch.arange(len(each)))]
    labels = pool.labels([topics[1], topics[3]]).tolist()
    assert list(zip(texts, labels, strict=True)) == wanted
    base = pool.some([topics[0], topics[2]], 10)
    assert len(base) == 10
    assert not {*base.items(torch.arange(10))} & {*texts}


def test_what_has_no_classes_is_refused() -> None:
    with pytest.raises(DataError, match="the images or texts of one source, got a MultiTask"):
        pool_of(two_sources(), split("a"))
    words = read(targets=None, masked_tokens=0.15)
    with pytest.raises(DataError, match="sentences has no target with classes; name a column"):
        pool_of(words, split("a"))
    with pytest.raises(ValueError, match="The data have no class a of the split"):
        pool_of(read(), split("a")).samples(["a"])
    pool = pool_of(read(), split("a"))
    gone = ClassPool([part.subset(torch.arange(0)) for part in pool.parts], pool.target, ["a"])
    with pytest.raises(DataError, match="have no sample of the classes a"):
        gone.labels(["a"])
