from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tl.runs.same_run import (
    configuration_in,
    differences,
    meaning,
    said,
    say_other_length,
    say_other_settings,
)

BASE: dict[str, Any] = {
    "seed_everything": 0,
    "data": {
        "class_path": "tl.data.CifarDataModule",
        "init_args": {
            "root": "data",
            "batch_size": 64,
            "num_workers": 0,
            "augment": {"flip": True},
        },
    },
    "model": {
        "class_path": "tl.modules.TransferModule",
        "init_args": {
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
            "strategy": None,
            "penalties": [{"init_args": {"data": {"init_args": {"root": "data"}}}}],
        },
    },
    "trainer": {"max_epochs": 5, "accumulate_grad_batches": 1, "devices": "auto"},
}


def changed(key: str, value: object) -> dict[str, Any]:
    """The configuration with one key set, numbers being places in lists."""
    copy: dict[str, Any] = yaml.safe_load(yaml.safe_dump(BASE))
    place: Any = copy
    *path, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    for part in path:
        place = place[part]
    place[last] = value
    return copy


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed_everything", 1),
        ("data.class_path", "tl.data.FolderDataModule"),
        ("data.init_args.batch_size", 32),
        ("data.init_args.augment.flip", False),
        ("data.init_args.val_size", 0.2),
        ("model.class_path", "tl.modules.MultiTaskModule"),
        ("model.init_args.optimizer.init_args.lr", 0.2),
        ("model.init_args.strategy", {"class_path": "tl.transfer.LPFT"}),
        ("model.init_args.penalties", None),
        ("trainer.accumulate_grad_batches", 2),
        ("trainer.gradient_clip_val", 1.0),
        ("trainer.limit_train_batches", 3),
    ],
)
def test_a_change_that_makes_another_run(key: str, value: object) -> None:
    here = changed(key, value)
    assert meaning(BASE, here)
    assert meaning(here, BASE)
    assert all(name.startswith(key) for name, _, _ in meaning(BASE, here))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.init_args.root", "/elsewhere"),
        ("data.init_args.num_workers", 4),
        ("data.init_args.resident_share", 0.5),
        ("data.init_args.predict_folder", "images"),
        ("model.init_args.on_nonfinite", "skip"),
        ("model.init_args.max_skips", 3),
        ("model.init_args.cuda_graph", False),  # runs of older versions do not have it
        ("model.init_args.penalties.0.init_args.data.init_args.root", "/elsewhere"),
        ("trainer.max_epochs", 9),
        ("trainer.devices", 2),
        ("trainer.log_every_n_steps", 1),
        ("checkpoint", {"save_top_k": 3}),
    ],
)
def test_a_change_that_does_not(key: str, value: object) -> None:
    assert not meaning(BASE, changed(key, value))


def with_views(views: object, key: str, size: int | None) -> dict[str, Any]:
    """The configuration with two sources, one of which may learn from views; a key is set."""
    sources = {"labels": {"init_args": {"learns": None}}, "views": {"init_args": {"learns": views}}}
    found = changed("data", {"init_args": {"sources": sources}})
    place = found["data"]["init_args"]
    (place if key == "all" else place["sources"][key]["init_args"])["eval_batch_size"] = size
    return found


@pytest.mark.parametrize("views", [{"class_path": "tl.tasks.NTXent"}, "tl.tasks.VICReg"])
@pytest.mark.parametrize("key", ["all", "views"])
def test_the_size_of_evaluated_batches_counts_where_their_images_are_compared(
    views: object, key: str
) -> None:
    """Of batches of 10 and 50 images, NT-Xent's losses of the same weights are 2.9 and 4.2."""
    before, after = (with_views(views, key, size) for size in (10, 50))
    [(name, *sizes)] = meaning(before, after)
    assert name.endswith("init_args.eval_batch_size")
    assert sizes == [10, 50]


def test_the_size_of_evaluated_batches_is_free_elsewhere() -> None:
    assert not meaning(BASE, changed("data.init_args.eval_batch_size", 50))
    for views, key in ((None, "all"), (None, "views"), ("tl.tasks.VICReg", "labels")):
        assert not meaning(*(with_views(views, key, size) for size in (10, 50)))


def test_both_values_are_shown() -> None:
    changes = differences(BASE, changed("data.init_args.batch_size", 32))
    assert said(changes) == "data.init_args.batch_size 64 there, 32 here"
    several = [(str(number), 0, "x" * 100) for number in range(6)]
    assert said(several).endswith("; and 2 more")
    assert len(said(several)) < 400


def test_a_checkpoints_own_configuration_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    assert configuration_in({}, path) is None
    (tmp_path / "config.yaml").write_text("data: [")
    assert configuration_in({}, path) is None
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(BASE))
    assert configuration_in({}, path) == BASE
    assert configuration_in({"tl": {"configuration": {"a": 1}}}, path) == {"a": 1}


def test_another_length_is_said_where_a_schedule_may_follow_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("tl.runs.same_run.rank_zero_info", lines.append)
    longer = changed("trainer.max_epochs", 9)
    say_other_length(BASE, longer)  # without a schedule
    longer["model"]["init_args"]["scheduler"] = {"class_path": "tl.modules.WarmupCosine"}
    say_other_length(longer, longer)
    assert not lines
    say_other_length(BASE, longer)
    [line] = lines
    assert "trainer.max_epochs 5 there, 9 here" in line
    assert "learning rates may jump" in line


def test_a_checkpoint_that_is_named_may_have_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("tl.runs.same_run.rank_zero_info", lines.append)
    content = {"tl": {"configuration": BASE}}
    say_other_settings(tmp_path / "a.ckpt", content, BASE)
    assert not lines
    say_other_settings(
        tmp_path / "a.ckpt", content, changed("model.init_args.optimizer.init_args.lr", 0.2)
    )
    [line] = lines
    assert "lr 0.1 there, 0.2 here" in line
    assert "including learning rates, come from the checkpoint" in line
    say_other_settings(tmp_path / "a.ckpt", content, changed("trainer.devices", 2))
    assert 'devices "auto" there, 2 here' in lines[1] or "devices auto there, 2 here" in lines[1]


def test_an_option_that_an_older_run_does_not_know_is_no_difference() -> None:
    assert not differences(BASE, changed("model.init_args.scheduler_interval", None))
    assert differences(BASE, changed("model.init_args.scheduler_interval", "step"))
