from __future__ import annotations

import json
from pathlib import Path

from tl.report.closing import closing_table, duration, next_commands

RESULTS = {
    "metrics": {"val/acc": 0.5, "val/a/acc": 0.4, "val/b/acc": 0.6, "test/a/acc": 0.3},
    "scores": {"a": {"acc": "max"}, "b": {"acc": "max"}},
    "best": {"epoch": 2, "monitor": "val/acc", "metrics": {"val/acc": 0.55, "val/a/acc": 0.5}},
    "epochs": 3,
    "seconds": 125.0,
    "images_per_second": 3401.2,
    "mfu": 0.43,
    "peak_memory_bytes": 2_100_000_000,
}


def table(folder: Path, results: object) -> list[list[str]]:
    (folder / "results.json").write_text(json.dumps(results))
    return [line.split() for line in closing_table(folder)]


def test_tasks_are_rows_with_their_scores(tmp_path: Path) -> None:
    head, mean, a, b, cost = table(tmp_path, RESULTS)
    assert head == ["task", "score", "best", "val", "last", "val", "test"]
    assert mean == ["mean", "acc", "0.5500", "0.5000", "-"]
    assert a == ["a", "acc", "0.5000", "0.4000", "0.3000"]
    assert b == ["b", "acc", "-", "0.6000", "-"]
    assert " ".join(cost) == (
        "best epoch 2 of 3 by val/acc, 2m05s, 3,401 images/s, 43% of the device's peak, 2.1 GB."
    )


def test_a_run_on_texts_counts_texts(tmp_path: Path) -> None:
    data = {"glosses": {"tokenizer": {"hash": "a", "vocab_size": 9}}}
    assert "3,401 texts/s," in " ".join(table(tmp_path, {**RESULTS, "data": data})[-1])


def test_data_that_describe_themselves_in_their_own_way_are_images(tmp_path: Path) -> None:
    data = {"rows": 64, "file": "x.csv"}
    assert "3,401 images/s," in " ".join(table(tmp_path, {**RESULTS, "data": data})[-1])


def test_the_only_task_has_metrics_without_its_name(tmp_path: Path) -> None:
    found = {"metrics": {"val/mae": 0.5}, "scores": {"level": {"mae": "min"}}}
    assert table(tmp_path, found)[1] == ["level", "mae", "0.5000"]


def test_an_adapted_test_is_named(tmp_path: Path) -> None:
    adapted = {"test": {"adaptation": [{"name": "Tent", "lr": 0.1}]}}
    rows = table(tmp_path, {**RESULTS, "evaluated": adapted})
    assert " ".join(rows[-1]) == "test: adaptation Tent (lr 0.1)."


def test_a_validation_of_the_finished_run_has_a_column(tmp_path: Path) -> None:
    fog = {"shift": {"name": "fog", "severity": 3, "seed": 0}}
    val = {"metrics": {"val/acc": 0.25, "val/a/acc": 0.125}, "data": {"x": fog}}
    head, mean, a, _, _, said = table(tmp_path, {**RESULTS, "evaluated": {"val": val}})
    assert head[-2:] == ["validated", "test"]
    assert mean[2:] == ["0.5500", "0.5000", "0.2500", "-"]
    assert a[2:] == ["0.5000", "0.4000", "0.1250", "0.3000"]
    assert " ".join(said) == "validated: shift fog 3."


def test_loaders_are_rows(tmp_path: Path) -> None:
    metrics = {"val/acc/dataloader_idx_0": 0.5, "val/acc/dataloader_idx_1": 0.25}
    rows = table(tmp_path, {"metrics": metrics, "scores": {"a": {"acc": "max"}}})
    assert rows[1:3] == [["a", "0", "acc", "0.5000"], ["a", "1", "acc", "0.2500"]]


def test_a_folder_without_results_has_no_table(tmp_path: Path) -> None:
    assert closing_table(tmp_path) == []


def test_paths_in_commands_can_be_typed(tmp_path: Path) -> None:
    run = tmp_path / "my runs" / "version_0"
    lines = next_commands(run, str(run / "checkpoints/best.ckpt"))
    assert lines[0] == "next:"
    assert lines[1] == f"  tl test '{run}'"
    assert lines[3] == f"  tl fit FOLDER --from '{run}'"
    assert len(next_commands(run, "")) == 2  # nothing to test without a checkpoint


def test_times_are_short() -> None:
    assert [duration(s) for s in (3.21, 125, 3 * 3600 + 420)] == ["3.2s", "2m05s", "3h07m"]
