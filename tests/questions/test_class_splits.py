from __future__ import annotations

from pathlib import Path

import pytest

from tl.data.cifar.classes import CIFAR100
from tl.questions.class_splits import SPLITS, read_split


@pytest.mark.parametrize(("name", "sizes"), [("cifar-fs", (64, 16, 20)), ("fc100", (60, 20, 20))])
def test_the_named_splits_divide_all_classes(name: str, sizes: tuple[int, ...]) -> None:
    split = SPLITS[name]()
    parts = [split.train, split.val, split.test]
    assert tuple(map(len, parts)) == sizes
    assert sorted(each for part in parts for each in part) == sorted(CIFAR100)
    assert "whale" in split.test  # an aquatic mammal
    assert split.part("val") == split.val


def test_a_file_names_its_own(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("train: [a, b]\ntest: [c]\n")
    found = read_split(str(file))
    assert (found.name, found.train, found.val, found.test) == ("own", ("a", "b"), (), ("c",))
    for content, said in (
        ("test: [a]\ntrain: [a]", "a stands in both 'train' and 'test'"),
        ("train: [a]", "names no class under 'test'"),
        ("[a]", "must hold lists of class names under train, val and test"),
        ("test: [a", "own.yaml cannot be read as YAML in UTF-8"),
        ("test: [[a], [b]]", r"'test' holds \['a'\], which is not a class name"),
        ("test: [no, a]", "'test' holds False, which is not a class name"),
        ("test: [null, a]", "'test' holds None, which is not a class name"),
        ("test: [a, a]", "'test' must be a list of different class names"),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=said):
            read_split(str(file))
    file.write_bytes(b"\xff\xfe\x00test")
    with pytest.raises(ValueError, match=r"own\.yaml cannot be read as YAML in UTF-8"):
        read_split(str(file))
    file.write_text('test: ["no", 7]')
    assert read_split(str(file)).test == ("no", "7")
    with pytest.raises(ValueError, match="There is no split 'cub'; choose cifar-fs, fc100, or a"):
        read_split("cub")
