"""Forgetting: the accuracy that the source's own head keeps."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LambdaCallback
from torch import nn

from tests.small import Tiny, module, multitask_module, tiny_data, two_sources
from tl import TransferModule
from tl.callbacks import SourceAccuracy
from tl.transfer import LinearProbe
from tl.transfer.penalties import LwF


def source_data() -> Any:
    return tiny_data(seed=3, train_size=600, test_size=300)


def target_data() -> Any:
    return tiny_data(classes=100, train_size=200, test_size=100)


def trainer(folder: Path, *callbacks: Any, **settings: Any) -> Trainer:
    quiet: dict[str, Any] = {
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "max_epochs": 2,
        "logger": False,
        "default_root_dir": folder,
    }
    return Trainer(callbacks=list(callbacks), **{**quiet, **settings})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, float]:
    """A source's checkpoint, and its accuracy on its test images."""
    folder = tmp_path_factory.mktemp("source")
    data = source_data()
    model = module(data, optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
    run = trainer(folder, max_epochs=5)
    run.fit(model, data)
    run.save_checkpoint(folder / "source.ckpt")
    [found] = run.test(model, data, verbose=False)
    return str(folder / "source.ckpt"), found["test/acc"]


def fit(path: str, folder: Path, *callbacks: Any, **settings: Any) -> tuple[TransferModule, Any]:
    data = target_data()
    model = module(
        data,
        init_from=path,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        **settings,
    )
    run = trainer(folder, *callbacks)
    run.fit(model, data)
    return model, run


def test_before_is_the_source_and_after_is_its_head_on_the_new_features(
    source: tuple[str, float], tmp_path: Path
) -> None:
    path, accuracy = source
    watch = SourceAccuracy(source_data())
    model, run = fit(path, tmp_path, watch)
    assert watch.before == pytest.approx(accuracy, abs=1e-6)

    # by hand: the trained backbone under the source's head
    data = source_data()
    other = TransferModule(Tiny(), data.tasks[0])
    other.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    other.backbone.load_state_dict(model.backbone.state_dict())
    [found] = trainer(tmp_path).test(other, data, verbose=False)
    assert watch.after == pytest.approx(found["test/acc"], abs=1e-6)
    assert watch.after != watch.before
    assert watch.before is not None
    assert watch.after is not None
    logged = {k: float(v) for k, v in run.callback_metrics.items()}
    assert logged["transfer/forgetting"] == pytest.approx(watch.before - watch.after, abs=1e-6)
    assert logged["transfer/source_acc"] == pytest.approx(watch.after, abs=1e-6)


def test_a_frozen_backbone_forgets_nothing(source: tuple[str, float], tmp_path: Path) -> None:
    watch = SourceAccuracy(source_data())
    fit(source[0], tmp_path, watch, strategy=LinearProbe())
    assert watch.after == watch.before


def test_watching_changes_nothing(source: tuple[str, float], tmp_path: Path) -> None:
    watched, _ = fit(source[0], tmp_path, SourceAccuracy(source_data()))
    alone, _ = fit(source[0], tmp_path)
    for one, other in zip(watched.state_dict().values(), alone.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_head_that_goes_on_training_answers(source: tuple[str, float], tmp_path: Path) -> None:
    watch = SourceAccuracy(source_data())
    model, run = fit(source[0], tmp_path, watch, penalties=LwF())
    assert watch.before == pytest.approx(source[1], abs=1e-6)
    penalty = cast("LwF", model.penalties[0])
    layer = cast("nn.Linear", penalty.head.linear)
    kept = {k: v.clone() for k, v in layer.state_dict().items()}
    layer.weight.data.zero_()
    layer.bias.data.copy_(torch.eye(10)[0])
    # class 0 every time now: a tenth of the drawn images
    assert watch._accuracy(run, model) == pytest.approx(0.1, abs=0.05)
    layer.load_state_dict(kept)
    assert watch._accuracy(run, model) == watch.after


def test_the_kept_head_of_another_source_does_not_answer(
    source: tuple[str, float], tmp_path: Path
) -> None:
    other = shutil.copy(source[0], tmp_path / "other.ckpt")
    watch = SourceAccuracy(source_data(), checkpoint=source[0])
    model, _ = fit(str(other), tmp_path, watch, penalties=LwF())
    assert watch._kept_head(model) is None
    assert watch.before == pytest.approx(source[1], abs=1e-6)


def test_statistics_per_source_answer_by_their_mixture(
    source: tuple[str, float], tmp_path: Path
) -> None:
    watch, data = SourceAccuracy(source_data()), two_sources()
    model = multitask_module(data, batch_norm="per_source_statistics", init_from=source[0])
    trainer(tmp_path, watch, max_epochs=1).fit(model, data)
    assert watch.before == pytest.approx(source[1], abs=1e-6)
    assert watch.after != watch.before


@pytest.mark.parametrize("steps", [12, -1])
def test_the_last_epoch_is_measured_whatever_ends_the_run(
    steps: int, source: tuple[str, float], tmp_path: Path
) -> None:
    watch, data = SourceAccuracy(source_data(), every_n_epochs=10), target_data()
    stop = LambdaCallback(on_validation_end=lambda run, _: setattr(run, "should_stop", True))
    ends = [] if steps > 0 else [stop]
    limits = {"max_steps": steps, "max_epochs": -1 if steps > 0 else 5, "num_sanity_val_steps": 0}
    run = trainer(tmp_path, watch, *ends, **limits)
    run.fit(module(data, init_from=source[0]), data)
    assert watch._epochs == (3 if steps > 0 else 1)


def test_epochs_between_are_left_out_and_a_resume_remembers(
    source: tuple[str, float], tmp_path: Path
) -> None:
    data = target_data()
    first = SourceAccuracy(source_data(), every_n_epochs=10)
    run = trainer(tmp_path, first, max_epochs=1)
    run.fit(module(data, init_from=source[0]), data)
    assert first._epochs == 1  # the last one
    run.save_checkpoint(tmp_path / "half.ckpt")
    second = SourceAccuracy(source_data(), every_n_epochs=10)
    run = trainer(tmp_path, second, max_epochs=3)
    data = target_data()
    run.fit(module(data, init_from=source[0]), data, ckpt_path=str(tmp_path / "half.ckpt"))
    assert (second.before, second._epochs) == (first.before, 3)


@pytest.mark.parametrize(
    ("data", "settings", "line"),
    [
        (lambda: tiny_data(classes=100, train_size=200, test_size=100), {}, "has 10 classes"),
        (source_data, {"source_task": "birds"}, "none of them is 'birds'"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    data: Any, settings: Any, line: str, source: tuple[str, float], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=line):
        fit(source[0], tmp_path, SourceAccuracy(data(), **settings))


def test_without_a_source_there_is_nothing_to_forget(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no source: give its checkpoint with the run's"):
        fit(None, tmp_path, SourceAccuracy(source_data()))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`every_n_epochs` must be 1 or more, got 0"):
        SourceAccuracy(source_data(), every_n_epochs=0)
