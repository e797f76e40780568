from __future__ import annotations

from typing import Any

from tl.questions.candidates import lineage_words, seen_classes
from tl.transfer.lineage import Ancestor


def data(name: str) -> dict[str, Any]:
    return {name: {"images": 10, "fingerprint": "x"}}


def test_five_words_at_most() -> None:
    scratch = Ancestor("a.ckpt", data=data("cifar10"))
    tuned = Ancestor("b.ckpt", data=data("cifar100") | data("x y"), sources=(scratch,))
    library = Ancestor("c.ckpt", data=data("t"), sources=(Ancestor("resnet18.pth", note="n"),))
    average = Ancestor("d.ckpt", note="uniform soup", sources=(scratch, tuned))
    said = [lineage_words(each) for each in (scratch, tuned, library, average, Ancestor("e"))]
    assert said == [
        "cifar10 from random weights",
        "cifar100+x_y after cifar10",
        "t after resnet18.pth",
        "average of 2 checkpoints",
        "of unknown origin",
    ]
    assert max(len(each.split()) for each in said) <= 5
    made_up = {
        "cifar10": {"fingerprint": "generated:12"},
        "generated10": {"fingerprint": "generated:3"},
    }
    said_of = lineage_words(Ancestor("f.ckpt", data=made_up))
    assert said_of == "synthetic-cifar10+generated10 from random weights"


def test_classes_of_all_ancestors_are_seen() -> None:
    first = {
        "data": {"name": "a", "fingerprint": "x", "class_names": {"coarse": ["fruit"]}},
        "parent": None,
    }
    first["data"]["groups"] = {"apple": "fruit", "pear": "fruit"}  # type: ignore[index]
    second = {"data": {"s": {"class_names": {"fine": ["cat"]}}}, "provenance": first}
    assert seen_classes(second) == (frozenset({"fruit", "apple", "pear", "cat"}), True)
    soup = {"class_names": {"t": ["dog"]}, "provenance": {"ingredients": [first, second]}}
    assert seen_classes(soup) == (frozenset({"fruit", "apple", "pear", "cat", "dog"}), True)
    library = {"class_names": {"t": ["cat"]}, "provenance": {"parent": None}}
    assert seen_classes(library) == (frozenset({"cat"}), False)  # what is known is kept
    assert seen_classes({}) == (frozenset(), False)
