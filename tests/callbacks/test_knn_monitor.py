from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.small import module, multitask_module, tiny_data, trainer, two_sources
from tl.callbacks import KNNMonitor
from tl.callbacks.checkpoint import RunCheckpoint
from tl.modules.direction import check_direction, direction_of
from tl.questions.neighbours import knn_accuracy, leave_one_out_accuracy
from tl.tasks import NTXent


def fit(folder: Path, ours: Any, data: Any, *callbacks: Any, **settings: Any) -> Any:
    run = trainer(folder, callbacks=list(callbacks), **settings)
    torch.manual_seed(1)
    run.fit(ours, data)
    return run


def test_it_logs_what_neighbours_say_and_changes_nothing(tmp_path: Path) -> None:
    data = tiny_data(val_size=0.25)
    watched = module(data)
    run = fit(tmp_path, watched, data, KNNMonitor(k=5))
    other = tiny_data(val_size=0.25)
    alone = module(other)
    fit(tmp_path, alone, other)
    for (name, one), two in zip(
        watched.state_dict().items(), alone.state_dict().values(), strict=True
    ):
        if isinstance(one, Tensor):
            assert torch.equal(one, two), name
    parts = []
    watched.eval()
    for split in ("train", "val"):
        images = data.splits[split]
        with torch.no_grad():
            inputs, labels = data.transform(images[torch.arange(len(images))], None)
            parts += [watched.backbone(inputs), labels]
    wanted = knn_accuracy(parts[2], parts[3], parts[0], parts[1], k=5)
    assert float(run.callback_metrics["val/knn_acc"]) == pytest.approx(wanted)
    assert direction_of("val/knn_acc") == "max"


def test_each_source_has_its_own_with_a_bank_that_is_cut(tmp_path: Path) -> None:
    data = two_sources(val_size=0.3)
    callback = KNNMonitor(k=3, bank_size=40, every_n_epochs=2)
    run = fit(tmp_path, multitask_module(data, batch_norm="per_source"), data, callback)
    values = {k: float(v) for k, v in run.callback_metrics.items() if k.endswith("knn_acc")}
    assert set(values) == {"val/ten/knn_acc", "val/hundred/knn_acc"}
    assert all(0 <= value <= 1 for value in values.values())


def test_a_run_without_labels_is_chosen_by_it_on_plain_images(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"train_size": 60, "batch_size": 12, "val_size": 0.2}
    data = tiny_data(learns=NTXent(hidden=8, size=4), **settings)
    ours = module(data)
    best = RunCheckpoint(tmp_path, monitor="val/knn_acc")
    run = fit(tmp_path, ours, data, KNNMonitor(k=5), best, max_epochs=3, enable_checkpointing=True)
    assert best.mode == "max"
    assert best.best_model_path
    value = float(run.callback_metrics["val/knn_acc"])
    assert best.best_model_score is not None
    assert float(best.best_model_score) >= value
    plain = tiny_data(**settings)
    plain.prepare_data()
    plain.setup("fit")
    rows = torch.arange(5)
    shown = data.transform(data.splits["val"][rows], None)[0]
    assert torch.equal(shown, plain.transform(plain.splits["val"][rows], None)[0])


def test_without_labels_validation_images_are_compared_with_one_another(tmp_path: Path) -> None:
    data = tiny_data(learns=NTXent(hidden=8, size=4), val_size=0.3, labels="none")
    ours = module(data)
    run = fit(tmp_path, ours, data, KNNMonitor(k=5), max_epochs=1)
    assert "val/knn_acc" not in run.callback_metrics
    images, [target] = data.splits["val"], data.splits["val"].targets
    with torch.no_grad():
        inputs, _ = data.transform(images[torch.arange(len(images))], None)
        features = ours.eval().backbone(inputs)
    wanted = leave_one_out_accuracy(features, images.targets[target], k=5)
    assert float(run.callback_metrics["val/oracle_knn_acc"]) == pytest.approx(wanted)
    assert not data.splits["train"].targets
    with pytest.raises(ValueError, match="computed from labels that training withholds"):
        check_direction("val/oracle_knn_acc", None, "EarlyStopping")


def test_mistakes_are_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`k` must be 1 or more, got 0"):
        KNNMonitor(k=0)
    with pytest.raises(ValueError, match="`temperature` must be above 0, got 0"):
        KNNMonitor(temperature=0)
    data = tiny_data(val_size=0)
    with pytest.raises(ValueError, match="no images with classes in both the training and the"):
        fit(tmp_path, module(data), data, KNNMonitor())
    data = tiny_data()
    with pytest.raises(ValueError, match="no images with labels 'coarse'"):
        fit(tmp_path, module(data), data, KNNMonitor(target="coarse"))
    data = tiny_data(val_size=0.3)
    best = RunCheckpoint(tmp_path, monitor="val/knn_acc")
    monitor = KNNMonitor(every_n_epochs=2)
    with pytest.raises(ValueError, match=r"RunCheckpoint monitors val/knn_acc, .* every 2 epochs"):
        fit(tmp_path, module(data), data, monitor, best, enable_checkpointing=True)
