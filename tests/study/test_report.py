from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from tests.studies import content, leave_results, noise, write_study
from tests.study.test_cells import WAYS, mixed, two_tasks
from tests.study.test_sections import SEARCH
from tl.study.findings import as_dict, report_of
from tl.study.folders import RunFolders
from tl.study.points import Point
from tl.study.report import _p, markdown, write_report
from tl.study.study_file import read_study


def helped(point: Point) -> dict[str, float]:
    """Fine-tuning gains 20 points at a tenth of the data, and nothing that is told at half."""
    value = 0.3 + noise(point)["test/acc"] / 1000
    if point.values.get("method") == "full":
        value += 0.2 if point.values["data.part"] == 0.1 else noise(point)["test/acc"] / 100
    return {"test/acc": value}


def test_a_claim_is_made_only_where_the_interval_allows_it(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    settings = ("seed_everything=[0,1,2,3]",)
    path.write_text(path.read_text().replace("- 0\n      - 1\n", "- 0\n      - 1\n      - 2\n"))
    study, _ = leave_results(path, tmp_path / "out", helped)
    text = markdown(report_of(study, tmp_path / "out"))
    assert "| 0.1 | full | 50.0 ± " in text
    assert "- test/acc: part 0.1, full is better than scratch by 20.0 points ± " in text
    assert "part 0.5, full is better" not in text or "+0" in text
    assert "cannot be told apart with 3 seeds" in text
    assert "## Missing" not in text
    assert settings


def test_an_unfinished_study_says_what_is_missing(tmp_path: Path) -> None:
    study = read_study(write_study(tmp_path))
    text = markdown(report_of(study, tmp_path / "out"))
    assert "0 of 10 runs are done." in text
    assert "| 0.1 | scratch | - | - | 0 of 2 |" in text
    assert "nothing to compare yet" in text
    assert text.count("has not ended") == 10


def test_unequal_budgets_are_marked(tmp_path: Path) -> None:
    study, points = leave_results(write_study(tmp_path), tmp_path / "out", helped)
    for point in points.values():
        if point.values.get("method") == "full" and point.values["data.part"] == 0.1:
            path = RunFolders(tmp_path / "out").of(point) / "version_0" / "results.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "steps": 30}))
    text = markdown(report_of(study, tmp_path / "out"))
    assert "| 0.1 | full ‡ |" in text
    assert "| 0.5 | full |" in text
    assert (
        "- part 0.1, full: 30 steps, 120 samples, 0 tuning trials, against 10 steps, 40 samples, "
        "0 tuning trials" in text
    )


def test_the_files_are_written(tmp_path: Path) -> None:
    study, _ = leave_results(write_study(tmp_path), tmp_path / "out", helped)
    paths = write_report(report_of(study, tmp_path / "out"), tmp_path / "out")
    assert [path.name for path in paths] == ["report.md", "report.json", "runs.csv"]
    assert json.loads(paths[1].read_text())["question"] == "Does a source help?"


def test_tasks_are_set_beside_their_own_networks(tmp_path: Path) -> None:
    metrics, out = ["test/seg/miou", "test/depth/abs"], tmp_path / "out"

    def score(point: Point) -> dict[str, float]:
        seed = point.values["seed_everything"]
        return {name: value + 0.001 * seed for name, value in two_tasks(point).items()}

    study, points = leave_results(write_study(tmp_path, mixed(metrics)), out, score, ways=WAYS)
    report = report_of(study, out)
    text = markdown(report)
    assert "| method | test/seg/miou, % over 50.0 ± 0.6 | test/depth/abs over 0.4005 ± " in text
    # by hand: 0.55 and 0.45 against 0.5; an error of 0.3 and 0.5, and another 0.001 in the second
    # run, against 0.4; with equal differences only the sign is told
    assert re.search(r"\| sum \| \+5.0 ± 0.0 \| \+0.0995 ± 0.00635 \* \|", text)
    assert re.search(r"\| other \| -5.0 ± 0.0 \| -0.1005 ± 0.00635 \* \|", text)
    line = "- test/depth/abs: sum is better than a network for this task alone by 0.0995 ± 0.00635"
    assert re.search(rf"{re.escape(line)} \(p = [\d.e-]+\): positive transfer\.", text)
    assert "other is worse than a network for this task" not in text  # nothing is against it
    assert [gain["verdict"] for gain in as_dict(report)["single"]["test/depth/abs"]["gains"]] == [
        "better",
        "worse",
    ]
    for point in points.values():
        if point.values.get("task") == "depth":
            change(point, out, steps=9)
    text = markdown(report_of(study, out))
    assert "| sum ‡ | +5.0" in text
    assert (
        "- test/depth/abs: 10 steps, 40 samples, 0 tuning trials, against 9 steps, 36 samples, 0"
        in text
    )
    assert "positive transfer (‡ with another budget)." in text


def test_what_was_chosen_is_a_table(tmp_path: Path) -> None:
    out, path = tmp_path / "out", write_study(tmp_path, content(search=SEARCH))
    study, points = leave_results(path, out, lambda _: {"val/acc": 0.5, "test/acc": 0.5})
    folders = RunFolders(out)
    for point in points.values():
        folders.write(point, "point.json", {"chosen": {"model.lr": 0.25}})
    text = markdown(report_of(study, out))
    assert "Chosen by 3 trials for each method, by val/acc alone:" in text
    assert "| method | lr | val/acc, % |" in text
    assert "| full | 0.25 | 50 |" in text
    [failed, *_] = [p for p in points.values() if p.group == ("full",) and p.trial is not None]
    folders.write(failed, "failed.json", {"error": "it broke"})
    assert "| full | 0.25 | 50 (2 trials have a score) |" in markdown(report_of(study, out))


def test_a_p_value_is_written_on_its_side_of_the_level() -> None:
    assert [_p(value) for value in (0.0497, 0.0503, 0.05, 0.00123, 1.0)] == [
        *("0.0497", "0.05", "0.05", "0.0012", "1")
    ]


def test_a_name_does_not_break_the_table(tmp_path: Path) -> None:
    given = content()
    given["stages"]["target"]["vary"]["method"] = {"a|b": {}, "full": "more.yaml"}
    given["stages"]["target"]["except"] = {}
    given["report"]["against"] = {"method": "a|b"}
    study, _ = leave_results(write_study(tmp_path, given), tmp_path / "out", helped)
    assert "| 0.1 | a\\|b |" in markdown(report_of(study, tmp_path / "out"))


def change(point: Point, out: Path, **results: object) -> None:
    """Change what a run has left."""
    path = RunFolders(out).of(point) / "version_0" / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **results}))


def test_a_score_that_is_no_number_is_counted_and_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    study, points = leave_results(write_study(tmp_path), out, helped)
    full = [p for p in points.values() if p.values.get("method") == "full"]
    change(full[0], out, metrics={"test/acc": None})
    report = report_of(study, out)
    text = markdown(report)
    assert re.search(r"\| 0.1 \| full \| [\d.]+ \(one run\) .*\| 1 of 2 \|", text)
    assert f"- {full[0].title} ended without a finite test/acc; means and gains leave" in text
    assert as_dict(report)["undefined"] == {full[0].name: ["test/acc"]}
    for point in points.values():
        change(point, out, metrics={"test/acc": None})
    assert "| 0.5 | full | - | - | 0 of 2 |" in markdown(report_of(study, out))


def test_budgets_are_compared_over_rows_that_nothing_is_compared_with(tmp_path: Path) -> None:
    out = tmp_path / "out"
    study, points = leave_results(write_study(tmp_path), out, helped)
    for point in points.values():
        if point.values.get("data.part") == 0.5:
            change(point, out, steps=999)
    text = markdown(report_of(study, out))
    assert "| 0.5 | scratch ‡ |" in text  # not the same steps over the parts
    assert "| 0.5 | full |" in text
    alone = replace(study, report=replace(study.report, against={}))
    text = markdown(report_of(alone, out))
    assert "| 0.5 | scratch ‡ |" in text
    assert "| 0.5 | full ‡ |" in text


def test_trials_that_failed_are_no_trials(tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = write_study(tmp_path, content(search=SEARCH))
    study, points = leave_results(path, out, helped)
    assert "tuning trials, against" not in markdown(report_of(study, out))
    folders = RunFolders(out)
    [failed, *_] = [p for p in points.values() if p.group == ("full",) and p.trial is not None]
    folders.write(failed, "failed.json", {"error": "it broke"})
    text = markdown(report_of(study, out))
    assert "2 tuning trials, against 10 steps, 40 samples, 3 tuning trials" in text


def test_validation_is_that_of_the_checkpoint_that_is_tested(tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = content()
    given["report"]["metric"] = "val/acc"
    study, points = leave_results(write_study(tmp_path, given), out, lambda _: {"val/acc": 0.1})
    for point in points.values():
        best = {"monitor": "val/loss", "metrics": {"val/acc": 0.9, "train/acc": 0.3}}
        change(point, out, best=best, metrics={"val/acc": 0.1, "test/acc": 0.2})
    assert "| 0.1 | scratch | 90.0 ± 0.0 |" in markdown(report_of(study, out))


def test_fewer_seeds_of_a_column_are_said(tmp_path: Path) -> None:
    out = tmp_path / "out"
    study, points = leave_results(
        write_study(tmp_path, mixed(["test/seg/miou"])),
        out,
        lambda p: {"test/miou": 0.5} if p.stage == "alone" else {"test/seg/miou": 0.6},
    )
    assert "| sum | 60.0 ± 0.0 | - | 20.0 ± 0.0 | - | 2 of 2 |" in markdown(report_of(study, out))
    [gone, *_] = [p for p in points.values() if p.values.get("task") == "seg"]
    change(gone, out, metrics={"test/miou": None})
    text = markdown(report_of(study, out))
    assert "| sum | 60.0 ± 0.0 | - | 20.0 (one run) | - | 1 to 2 of 2 |" in text


def test_a_direction_that_no_run_records_is_said(tmp_path: Path) -> None:
    out, given = tmp_path / "out", content()
    given["report"]["metric"] = ["test/rmse", "test/acc", "test/loss"]
    scores = {"test/rmse": 0.5, "test/acc": 0.5, "test/loss": 0.5}
    study, points = leave_results(write_study(tmp_path, given), out, lambda _: scores)
    line = "No run records which way test/rmse is better: higher, unless"
    assert line in markdown(report_of(study, out))
    named = replace(study, report=replace(study.report, lower_is_better=("test/rmse",)))
    assert "No run records" not in markdown(report_of(named, out))
    for point in points.values():
        change(point, out, scores={"a": {"rmse": "min"}})
    assert "No run records" not in markdown(report_of(study, out))


def test_a_report_says_why_delta_m_cannot_be_computed(tmp_path: Path) -> None:
    metrics = ["test/seg/miou", "test/depth/r2"]

    def score(point: Point) -> dict[str, float]:
        if point.stage == "alone":
            return {"test/miou": 0.5, "test/r2": -0.1}
        return {"test/seg/miou": 0.5, "test/depth/r2": 0.5}

    path = write_study(tmp_path, mixed(metrics))
    study, _ = leave_results(path, tmp_path / "out", score)
    report = report_of(study, tmp_path / "out")
    text = markdown(report)
    assert "Delta_m cannot be computed for 4 runs, such as together/method=sum-seed=0-" in text
    why = "Delta_m needs positive scores, and the baseline of 'depth/r2' is -0.1; compare another "
    assert f": {why}score, such as mae or rmse in place of r2." in text
    assert "- Delta_m: cannot be computed." in text
    assert "- test/depth/r2: " in text
    found = as_dict(report)["no_delta_m"]
    assert len(found) == 4
    assert all(line.startswith(why) for line in found.values())
