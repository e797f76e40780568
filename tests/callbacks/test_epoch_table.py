from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule

from tests.small import module, multitask_module, tiny_data, trainer, two_sources
from tl.callbacks import EpochTable, KNNMonitor, RunCheckpoint, Throughput
from tl.callbacks.epoch_table import fitted, middle_cut, rounded


def test_every_epoch_is_a_line_with_each_task_s_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = two_sources()
    table, best = EpochTable(), RunCheckpoint(monitor="auto", dirpath=tmp_path)
    run = trainer(
        tmp_path, callbacks=[Throughput(mfu=False), table, best], enable_checkpointing=True
    )
    run.fit(multitask_module(data), data)
    said = capsys.readouterr().out
    legend, header, first, second = [line for line in said.splitlines() if line.strip()][:4]
    assert legend.endswith("* is the best so far.")
    reached = run.callback_metrics
    for name in ("train loss", "val loss", "val acc", "ten", "hundred_fine", "hundred_coarse"):
        assert f"  {name}" in header
    assert first.split()[0] == "1/2*", "the first epoch is the best so far"
    assert second.split()[0].startswith("2/2")
    shown = dict(
        zip(
            header.replace("train loss", "train").replace("val ", "v").split(),
            second.split(),
            strict=True,
        )
    )
    assert float(shown["vacc"]) == pytest.approx(float(reached["val/acc"]), abs=1e-4)
    assert float(shown["ten"]) == pytest.approx(float(reached["val/ten/acc"]), abs=1e-4)
    assert "\r" not in said
    assert table.best_epoch is not None
    assert table.best["val/acc"] == float(best.best_model_score)  # type: ignore[arg-type]


def test_an_epoch_without_validation_has_no_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tiny_data()
    run = trainer(tmp_path, callbacks=[EpochTable()], check_val_every_n_epoch=2, max_epochs=3)
    run.fit(module(data), data)
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [row[0] for row in rows] == ["Scores", "epoch", "1/3", "epoch", "2/3", "3/3"]
    # the scores have columns as soon as there are any: before the second epoch nothing is validated
    assert "val" not in rows[1]
    assert rows[3].count("val") == 2
    reached = run.callback_metrics
    assert float(rows[4][2]) == pytest.approx(float(reached["val/loss"]), abs=1e-4)
    assert rows[5][2:4] == ["-", "-"]


def test_an_epoch_that_saves_no_checkpoint_is_not_the_best(tmp_path: Path) -> None:
    data, table = tiny_data(), EpochTable()
    best = RunCheckpoint(monitor="auto", dirpath=tmp_path, every_n_epochs=2)
    run = trainer(tmp_path, callbacks=[table, best], max_epochs=3, enable_checkpointing=True)
    run.fit(module(data), data)
    assert table.best_epoch == 1
    assert torch.load(best.best_model_path, weights_only=True)["epoch"] == 1


def test_of_several_validations_the_line_of_the_best_epoch_shows_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, table = tiny_data(), EpochTable()
    best = RunCheckpoint(monitor="val/loss", dirpath=tmp_path)
    run = trainer(
        tmp_path,
        callbacks=[table, best],
        max_epochs=1,
        val_check_interval=2,
        enable_checkpointing=True,
    )
    run.fit(module(data), data)
    row = next(line.split() for line in capsys.readouterr().out.splitlines() if "1/1*" in line)
    assert float(row[2]) == pytest.approx(float(best.best_model_score), abs=1e-4)  # type: ignore[arg-type]


def test_the_metric_that_decides_has_a_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = two_sources()
    best = RunCheckpoint(monitor="val/ten/loss", dirpath=tmp_path)
    run = trainer(tmp_path, callbacks=[EpochTable(), best], max_epochs=1, enable_checkpointing=True)
    run.fit(multitask_module(data), data)
    header, row = [line for line in capsys.readouterr().out.splitlines() if line.strip()][1:3]
    assert "  val ten/loss  " in header
    value = row.split()[
        header.replace("train loss", "train").replace("val ", "").split().index("ten/loss")
    ]
    assert float(value) == pytest.approx(float(best.best_model_score), abs=1e-4)  # type: ignore[arg-type]


def test_a_best_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    data, table = tiny_data(), EpochTable()
    table.best_epoch, table.best = 3, {"val/acc": 2.0}
    best = RunCheckpoint(monitor="auto", dirpath=tmp_path)
    run = trainer(tmp_path, callbacks=[table, best], max_epochs=1, enable_checkpointing=True)
    run.fit(module(data), data)
    assert table.best_epoch == 0


def test_the_best_epoch_survives_a_resume() -> None:
    table = EpochTable()
    table.best_epoch, table.best = 3, {"val/acc": 0.5}
    again = EpochTable()
    again.load_state_dict(table.state_dict())
    assert (again.best_epoch, again.best) == (3, {"val/acc": 0.5})


def test_an_epoch_that_a_resume_completes_has_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tiny_data()
    run = trainer(tmp_path, max_epochs=-1, max_steps=1)
    run.fit(module(data), data)
    run.save_checkpoint(tmp_path / "within.ckpt")
    again = trainer(tmp_path, callbacks=[EpochTable()], max_epochs=2)
    capsys.readouterr()
    again.fit(module(data), data, ckpt_path=str(tmp_path / "within.ckpt"), weights_only=False)
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [row[0] for row in rows] == ["Scores", "epoch", "1/2", "2/2"]


def test_columns_give_way_and_names_are_cut_in_their_middle() -> None:
    wanted = {"epoch": 6, "train loss": 10, "cifar100_coarse": 15, "time": 5, "img/s": 7}
    assert [label for label, _ in fitted(wanted, None)] == [*wanted]
    narrow = fitted(wanted, 24)
    assert [label for label, _ in narrow] == ["epoch", "cifar100_coarse"]
    tight = fitted(wanted, 18)
    assert sum(width for _, width in tight) + 2 * (len(tight) - 1) <= 18
    assert middle_cut("cifar100_coarse", 9) == "cifa…arse"
    assert middle_cut("ten", 9) == "ten"


def test_numbers_are_short() -> None:
    assert [rounded(value) for value in (0.12345, 12.5, 123456.0)] == [
        "0.1235" if round(0.12345, 4) == 0.1235 else "0.1234",
        "12.5000",
        "1.235e+05",
    ]


def test_another_module_s_metrics_are_shown_as_they_are(tmp_path: Path) -> None:
    from tl.callbacks.epoch_table import score_columns  # noqa: PLC0415

    run = trainer(tmp_path)
    run.callback_metrics.update({"val_loss": 1.0, "train_loss": 2.0})  # type: ignore[dict-item]
    assert score_columns(run, LightningModule()) == {"val_loss": "val_loss"}


@pytest.mark.parametrize("several", [False, True], ids=["one source", "two sources"])
def test_the_accuracy_of_neighbours_has_a_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], several: bool
) -> None:
    run = trainer(tmp_path, callbacks=[KNNMonitor(k=3, bank_size=20), EpochTable()], max_epochs=1)
    if several:
        sources = two_sources()
        run.fit(multitask_module(sources), sources)
    else:
        data = tiny_data()
        run.fit(module(data), data)
    _, header, row = [line for line in capsys.readouterr().out.splitlines() if line.strip()][:3]
    for source in ("ten", "hundred") if several else ("",):
        label, metric = f"{source} knn_acc".strip(), f"val/{source}/knn_acc".replace("//", "/")
        assert label in header
        assert f"{float(run.callback_metrics[metric]):.4f}" in row
