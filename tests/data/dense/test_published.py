from __future__ import annotations

from pathlib import Path

from tl.data.dense.published import PUBLISHED, expected_files
from tl.tasks import Depth, Segmentation


def test_the_published_sets_have_their_classes_and_units() -> None:
    nyu, city = PUBLISHED["nyuv2"], PUBLISHED["cityscapes"]
    assert [task.name for task in nyu.tasks] == ["segmentation", "depth", "normals"]
    assert [task.name for task in city.tasks] == ["segmentation", "depth"]
    counts = [s.tasks[0].num_classes for s in (nyu, city) if isinstance(s.tasks[0], Segmentation)]
    assert counts == [13, 7]
    assert len(set(nyu.classes["label"])) == 13
    inverse = [t.inverse for s in (nyu, city) for t in s.tasks if isinstance(t, Depth)]
    assert inverse == [False, True]


def test_every_void_value_belongs_to_a_task() -> None:
    for published in PUBLISHED.values():
        assert set(published.void) == {task.target for task in published.tasks}


def test_a_layout_is_said_in_a_line() -> None:
    said = expected_files(Path("a"), "files", "image", ["depth", "kinds"])
    assert said.startswith("Expected a/{train,val,test}/image/NAME.* and a map {depth,kinds}/NAME")
    said = expected_files(Path("a"), "cityscapes", "image", ["label", "depth"])
    assert "a/{train,val}/{image,label,depth}/0.npy" in said
    assert "inverse depth" in said
