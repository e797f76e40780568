"""Which checkpoints fit together, and how heads are matched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runs.averaging.dense import Rooms
from tests.runs.averaging.runs import average, make_run, read, weights
from tests.small import multitask_module, trainer, two_sources
from tl.runs.averaging import average_checkpoints


def test_other_heads_are_refused_or_left_alone(made: list[Path], tmp_path: Path) -> None:
    data = two_sources()
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=1)
    run.fit(multitask_module(data), data)
    run.save_checkpoint(tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="has the heads ten ") as caught:
        average([tmp_path / "other.ckpt", made[0]], tmp_path / "c.ckpt")
    assert "generated10 (10, 8)" in str(caught.value)
    assert "--backbone-only" in str(caught.value)
    average([tmp_path / "other.ckpt", made[0]], tmp_path / "c.ckpt", backbone_only=True)
    a, b, c = (weights(p) for p in (tmp_path / "other.ckpt", made[0], tmp_path / "c.ckpt"))
    torch.testing.assert_close(
        c["backbone.conv.weight"], (a["backbone.conv.weight"] + b["backbone.conv.weight"]) / 2
    )
    assert torch.equal(c["heads.generated10.weight"], b["heads.generated10.weight"])


def test_selection_on_images_that_were_trained_on_is_refused(
    made: list[Path], tmp_path: Path
) -> None:
    other = make_run(tmp_path / "run", 0, val_size=0.2)
    with pytest.raises(ValueError, match="would bias the selection"):
        average([other, made[0]], tmp_path / "c.ckpt", greedy=True)
    average([other, made[0]], tmp_path / "c.ckpt")  # nothing is selected


def rename_classes(path: Path, out: Path, names: list[str], task: str | None = None) -> Path:
    """Write a checkpoint whose only head has classes of these names, and another task's name."""
    content = read(path)
    [old] = content["tl"]["class_names"]
    new = task or old
    content["tl"]["class_names"] = {new: names}
    content["tl"]["tasks"][0]["name"] = new
    content["state_dict"] = {
        name.replace(f"heads.{old}.", f"heads.{new}."): value
        for name, value in content["state_dict"].items()
    }
    torch.save(content, out)
    return out


@pytest.mark.parametrize("task", [None, "other"])
def test_heads_of_permuted_classes_are_averaged_by_name(
    made: list[Path], tmp_path: Path, task: str | None
) -> None:
    [(own, names)] = read(made[1])["tl"]["class_names"].items()
    turned = rename_classes(made[0], tmp_path / "turned.ckpt", names[::-1], task)
    out = tmp_path / "out.ckpt"
    average_checkpoints([turned, made[1]], out, average_statistics=True)
    first, last, mean = (read(path)["state_dict"] for path in (made[0], made[1], out))
    key = f"heads.{own}.weight"
    torch.testing.assert_close(mean[key], (first[key].flip(0) + last[key]) / 2)


@pytest.mark.parametrize("task", [None, "other"])
def test_decoders_of_permuted_classes_are_averaged_by_name(
    rooms: Rooms, tmp_path: Path, task: str | None
) -> None:
    paths = [rooms.saved(f"order{seed}", "classes", seed=seed) for seed in (0, 1)]
    [names] = read(paths[1])["tl"]["class_names"].values()
    turned = rename_classes(paths[0], tmp_path / "turned.ckpt", names[::-1], task)
    out = tmp_path / "out.ckpt"
    average_checkpoints([turned, paths[1]], out, average_statistics=True)
    first, last, mean = (read(path)["state_dict"] for path in (*paths, out))
    for name, value in mean.items():
        if name.startswith("heads.") and value.is_floating_point():
            own = first[name].flip(0) if ".last." in name else first[name]
            torch.testing.assert_close(value, (own + last[name]) / 2)


def test_classes_belong_to_the_only_head_whatever_the_data_call_it(
    made: list[Path], tmp_path: Path
) -> None:
    paths = [tmp_path / "first.ckpt", tmp_path / "last.ckpt"]
    for path, trained, step in zip(paths, made, (-1, 1), strict=False):
        content = read(trained)
        [names] = content["tl"]["class_names"].values()
        content["tl"]["class_names"] = {"photos": names[::step]}
        torch.save(content, path)
    out = tmp_path / "out.ckpt"
    average_checkpoints(paths, out, average_statistics=True)
    first, last, mean = (weights(path) for path in (made[0], made[1], out))
    key = "heads.generated10.weight"
    torch.testing.assert_close(mean[key], (first[key].flip(0) + last[key]) / 2)


def test_permuted_classes_of_a_foreign_decoder_are_refused(rooms: Rooms, tmp_path: Path) -> None:
    paths = [rooms.saved(f"foreign{seed}", "classes", seed=seed) for seed in (0, 1)]
    content = read(paths[0])
    content["tl"]["tasks"][0]["decoder"] = "mine.Decoder"
    content["tl"]["class_names"]["classes"].reverse()
    torch.save(content, tmp_path / "turned.ckpt")
    given = [tmp_path / "turned.ckpt", paths[1]]
    with pytest.raises(ValueError, match=r"turned.ckpt: the head of 'classes' has its classes in"):
        average_checkpoints(given, tmp_path / "out.ckpt", average_statistics=True)
    average_checkpoints(given, tmp_path / "out.ckpt", average_statistics=True, backbone_only=True)


def test_other_dense_heads_are_named_by_task(rooms: Rooms, tmp_path: Path) -> None:
    paths = [rooms.saved(f"named-{source}", source) for source in ("classes", "metres")]
    with pytest.raises(ValueError, match=r"has the heads classes, .*metres.ckpt has metres; only"):
        average_checkpoints(paths, tmp_path / "out.ckpt", average_statistics=True)


def test_heads_of_other_classes_are_refused_with_both_lists(
    made: list[Path], tmp_path: Path
) -> None:
    [names] = read(made[1])["tl"]["class_names"].values()
    other = rename_classes(made[0], tmp_path / "other.ckpt", ["zebra", *names[1:]])
    with pytest.raises(ValueError, match=rf"zebra.*{names[0]}"):
        average_checkpoints([other, made[1]], tmp_path / "out.ckpt", average_statistics=True)


def test_heads_of_other_groups_of_the_same_names_are_refused(
    made: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.ckpt"
    for number, groups in enumerate(({"ant": "a", "bee": "a"}, {"ant": "a", "bee": "b"})):
        content = read(made[number])
        content["tl"]["data"] |= {"groups": groups, "class_names": {"coarse": ["a", "b"]}}
        torch.save(content, tmp_path / f"{number}.ckpt")
    paths = [tmp_path / "0.ckpt", tmp_path / "1.ckpt"]
    with pytest.raises(ValueError, match=r"groups 1 class differently .* bee a there, b in"):
        average_checkpoints(paths, out, average_statistics=True)
    average_checkpoints(paths, out, average_statistics=True, backbone_only=True)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"image_size": 16}, "of 16x16 pixels, the last checkpoint on 32x32"),
        ({"mean": [1.0, 2.0, 3.0]}, r"by the mean 1\.00, 2\.00, 3\.00, the last checkpoint by \d"),
        ({"std": [1.0, 2.0, 3.0]}, r"by the std 1\.00, 2\.00, 3\.00, the last checkpoint by \d"),
    ],
)
def test_weights_of_other_inputs_are_refused(
    made: list[Path], tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    content, other, out = read(made[0]), tmp_path / "other.ckpt", tmp_path / "out.ckpt"
    content["tl"]["data"] |= changed
    torch.save(content, other)
    with pytest.raises(ValueError, match=rf"other\.ckpt was trained on images .*{said}"):
        average_checkpoints([other, made[1]], out, average_statistics=True)


def test_the_rounding_of_statistics_is_not_another_normalisation(
    made: list[Path], tmp_path: Path
) -> None:
    content, other, out = read(made[0]), tmp_path / "other.ckpt", tmp_path / "out.ckpt"
    content["tl"]["data"]["mean"] = [value + 1e-4 for value in content["tl"]["data"]["mean"]]
    torch.save(content, other)
    average_checkpoints([other, made[1]], out, average_statistics=True)
    content["tl"]["data"]["mean"] = [1.0, 2.0, 3.0]  # a source's own, as WiSE-FT has it
    torch.save(content, other)
    average_checkpoints(
        [other, made[1]], tmp_path / "b.ckpt", average_statistics=True, backbone_only=True
    )


def test_backbones_of_other_image_sizes_are_refused_whatever_their_sources_are_called(
    made: list[Path], tmp_path: Path
) -> None:
    content, other, out = read(made[0]), tmp_path / "other.ckpt", tmp_path / "out.ckpt"
    one = {**content["tl"]["data"], "image_size": 64}
    content["tl"]["data"] = {"a": {**one, "name": "a"}, "b": {**one, "name": "b"}}
    torch.save(content, other)
    with pytest.raises(ValueError, match="images of 64x64 pixels, the last checkpoint on 32x32"):
        average_checkpoints([other, made[1]], out, average_statistics=True, backbone_only=True)


def test_an_image_size_that_is_not_recorded_is_named(made: list[Path], tmp_path: Path) -> None:
    content, other = read(made[0]), tmp_path / "other.ckpt"
    del content["tl"]["data"]["image_size"]
    torch.save(content, other)
    options: dict[str, Any] = {"average_statistics": True, "backbone_only": True}
    said = average_checkpoints([other, made[1]], tmp_path / "a.ckpt", **options)
    assert said.splitlines()[-1].startswith(f"tl: {other} does not record the size of its images")
    assert "does not record" not in average_checkpoints(made[:2], tmp_path / "b.ckpt", **options)
