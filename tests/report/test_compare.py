from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import tl
from tl.report.compare import compare


def leave(folder: Path, seed: int, acc: float, **settings: object) -> Path:
    folder.mkdir(parents=True)
    results = {
        "metrics": {"val/acc": acc / 4, "train/loss": 1.0, "test/a/acc": acc / 2},
        "seconds": 10.0,
        "images_per_second": 100.0,
        "best": {"monitor": "val/acc", "metrics": {"val/acc": acc}},
    }
    (folder / "results.json").write_text(json.dumps(results))
    config = {"seed_everything": seed, "name": folder.parent.name, "model": {"lr": 0.1, **settings}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics.csv").write_text(f"step,val/acc\n1,{acc / 2}\n2,{acc}\n")
    return folder


def test_seeds_are_folded_and_settings_that_differ_are_shown(tmp_path: Path) -> None:
    runs = [
        leave(tmp_path / "a" / "version_0", 0, 0.5),
        leave(tmp_path / "a" / "version_1", 1, 0.6),
        leave(tmp_path / "b" / "version_0", 0, 0.9, depth=3),
    ]
    found = compare(*runs, runs[0])
    assert {name: len(group) for name, group in found.groups.items()} == {"a": 2, "b": 1}
    assert found.differing == {"model.depth": ["not set", 3]}
    score = found.score("a", "val/acc")
    assert score is not None
    assert score.mean == pytest.approx(0.55)
    assert score.count == 2
    text = found.table()
    assert "| seeds | 0, 1 | 0 |" in text
    assert "| model.depth | not set | 3 |" in text
    assert "| test/a/acc | 0.275 ± 0.32 | 0.45 |" in text
    assert "train/loss" not in text
    assert "| samples per second | 100 ± 0 | 100 |" in text
    assert "3 runs of 2 settings, which differ in model.depth. One run does not show" in text


def test_a_comparison_is_written_with_its_curves(tmp_path: Path) -> None:
    leave(tmp_path / "a" / "version_0", 0, 0.5)
    leave(tmp_path / "a" / "version_3", 0, 0.7)
    found = tl.compare(tmp_path / "a")  # the newest
    assert found.groups["a"][0].folder.name == "version_3"
    paths = found.write(tmp_path / "out")
    assert all(path.stat().st_size for path in paths)
    assert json.loads(paths[1].read_text())["groups"]["a"]["metrics"]["val/acc"]["mean"] == 0.7
    [plot] = found.figure().axes
    assert np.asarray(plot.lines[0].get_xydata()).tolist() == [[1, 0.35], [2, 0.7]]
    with pytest.raises(ValueError, match=r"No run has a curve of val/f1 in its metrics\.csv"):
        found.figure("val/f1")


def test_the_only_task_of_a_run_stands_beside_the_same_of_several(tmp_path: Path) -> None:
    alone = leave(tmp_path / "alone" / "version_0", 0, 0.5, dropout=None)
    both = leave(tmp_path / "both" / "version_0", 0, 0.7)
    for run, tasks in ((alone, ["a"]), (both, ["a", "b"])):
        results = json.loads((run / "results.json").read_text())
        results["scores"] = {task: {"acc": "max"} for task in tasks}
        if run is both:
            results["best"]["metrics"] |= {"val/a/acc": 0.8, "val/b/acc": 0.6}
        (run / "results.json").write_text(json.dumps(results))
    (both / "metrics.csv").write_text("step,val/a/acc\n1,0.8\n")
    found = compare(alone, both)
    text = found.table()
    assert "| val/a/acc | 0.5 | 0.8 |" in text
    assert "| val/b/acc | - | 0.6 |" in text
    assert "dropout" not in text  # null and not set are alike
    [plot] = found.figure("val/a/acc").axes
    assert len(plot.lines) == 2


def test_a_source_of_another_seed_is_the_same_setting(tmp_path: Path) -> None:
    out = "studies/x/source"
    runs = [
        leave(tmp_path / str(n) / "version_0", n, 0.5, init_from=f"{out}/seed={n}-{'0a' * 5}/best")
        for n in range(2)
    ]
    scratch = leave(tmp_path / "s" / "version_0", 0, 0.5, init_from=None)
    assert [len(group) for group in compare(*runs, scratch).groups.values()] == [2, 1]


def test_an_adapted_test_is_no_other_seed_of_a_plain_one(tmp_path: Path) -> None:
    plain, adapted = (leave(tmp_path / str(n) / "version_0", n, 0.5) for n in range(2))
    results = json.loads((adapted / "results.json").read_text())
    results["evaluated"] = {"test": {"adaptation": [{"name": "AdaBN"}]}}
    (adapted / "results.json").write_text(json.dumps(results))
    found = compare(plain, adapted)
    assert found.differing == {"test: adaptation": ["not set", "AdaBN"]}


def test_what_is_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no results\.json; name the folder of a run"):
        compare(tmp_path)
    with pytest.raises(ValueError, match="Name one run folder or more"):
        compare()


def test_runs_that_are_no_replicates_are_not_folded(tmp_path: Path) -> None:
    unknown = [leave(tmp_path / name / "version_0", 0, 0.5) for name in "ab"]
    for run in unknown:
        (run / "config.yaml").unlink()
    again = [leave(tmp_path / name / "version_0", 3, 0.5) for name in "cd"]
    found = compare(*unknown, *again)
    assert [len(runs) for runs in found.groups.values()] == [1, 1, 1, 1]


def test_a_comparison_without_a_curve_is_written_without_the_picture(tmp_path: Path) -> None:
    run = leave(tmp_path / "a" / "version_0", 0, 0.5)
    (run / "metrics.csv").unlink()
    paths = compare(run).write(tmp_path / "out")
    assert [path.name for path in paths] == ["comparison.md", "comparison.json"]
    with pytest.raises(ValueError, match="No run has a curve of val/acc"):
        compare(run).write(tmp_path / "out", "val/acc")


def test_the_seconds_of_a_resumed_run_are_marked(tmp_path: Path) -> None:
    leave(tmp_path / "a" / "version_0", 0, 0.5)
    run = leave(tmp_path / "a" / "version_1", 0, 0.6)
    results = json.loads((run / "results.json").read_text())
    results["resumed_from"] = "../version_0/checkpoints/last.ckpt"
    (run / "results.json").write_text(json.dumps(results))
    assert "| seconds | 10 since resumed |" in compare(run).table()


def test_folded_runs_of_a_study_have_no_seed_in_their_name(tmp_path: Path) -> None:
    runs = [
        leave(tmp_path / f"method=full-seed={seed}-012345678{seed}" / "version_0", seed, 0.5)
        for seed in (0, 1)
    ]
    assert list(compare(*runs).groups) == ["method=full"]
    assert list(compare(runs[1]).groups) == ["method=full-seed=1-0123456781"]


def test_what_only_some_runs_have_is_counted(tmp_path: Path) -> None:
    runs = [leave(tmp_path / str(seed) / "version_0", seed, 0.5) for seed in (10, 2, 3)]
    results = json.loads((runs[0] / "results.json").read_text())
    results["metrics"]["test/a/acc"] = None
    (runs[0] / "results.json").write_text(json.dumps(results))
    text = compare(*runs).table()
    assert "| seeds | 2, 3, 10 |" in text
    assert "| test/a/acc | 0.25 ± 0 (2 of 3) |" in text
    assert "| val/acc | 0.5 ± 0 |" in text


def test_settings_are_counted_and_not_columns(tmp_path: Path) -> None:
    again = [leave(tmp_path / name / "version_0", 0, 0.5) for name in "ab"]
    other = leave(tmp_path / "c" / "version_0", 0, 0.5, depth=3)
    found = compare(*again, other)
    assert len(found.groups) == 3
    assert "3 runs of 2 settings, which differ in model.depth" in found.table()


def test_the_seconds_are_marked_though_the_resumed_run_is_gone(tmp_path: Path) -> None:
    run = leave(tmp_path / "a" / "version_1", 0, 0.6)
    results = json.loads((run / "results.json").read_text())
    results["resumed_from"] = "../version_0/checkpoints/last.ckpt"
    (run / "results.json").write_text(json.dumps(results))
    found = compare(run)
    assert "| seconds | 10 since resumed |" in found.table()
    assert found.groups["a"][0].curve("val/acc") == [(1, 0.3), (2, 0.6)]


def from_source(folder: Path, seed: int, init_from: str, data: str, sha256: str = "") -> Path:
    """A run whose results record its source, trained on these data with the same seed."""
    run = leave(folder / "version_0", seed, 0.5, init_from=init_from)
    results = json.loads((run / "results.json").read_text())
    described = {"name": data, "seed": seed}
    results["provenance"] = {"sha256": sha256 or init_from, "data": described, "parent": None}
    (run / "results.json").write_text(json.dumps(results))
    return run


def test_other_sources_are_shown_and_are_no_seeds(tmp_path: Path) -> None:
    sources = [f"src/version_{n}/checkpoints/best.ckpt" for n in range(2)]
    same_seed = [
        leave(tmp_path / f"a{n}" / "version_0", 0, 0.5, init_from=s) for n, s in enumerate(sources)
    ]
    found = compare(*same_seed)
    assert found.differing == {"model.init_from": sources}
    assert "2 runs of 2 settings, which differ in model.init_from." in found.table()
    assert f"| model.init_from | {sources[0]} | {sources[1]} |" in found.table()
    other_seed = leave(tmp_path / "b" / "version_0", 1, 0.7, init_from=sources[1])
    found = compare(same_seed[0], other_seed)  # nothing tells that the sources are alike
    assert [len(group) for group in found.groups.values()] == [1, 1]
    assert found.differing == {"model.init_from": sources}


def test_sources_with_equal_records_are_seeds_and_others_are_not(tmp_path: Path) -> None:
    sources = [f"src/version_{n}/best.ckpt" for n in range(3)]
    first = from_source(tmp_path / "a", 0, sources[0], "cifar10")
    alike = from_source(tmp_path / "b", 1, sources[1], "cifar10")
    other = from_source(tmp_path / "c", 2, sources[2], "cifar100", "0a0a")
    found = compare(first, alike, other)
    assert [len(group) for group in found.groups.values()] == [2, 1]
    assert found.differing == {"model.init_from": [sources[0], sources[2]]}
    anew = from_source(tmp_path / "d", 2, sources[2], "cifar10", "1b1b")  # at the same path
    shown = [f"{sources[2]} (0a0a)", f"{sources[2]} (1b1b)"]
    assert compare(other, anew).differing == {"model.init_from": shown}


def test_sources_of_one_seed_are_shown_though_their_records_are_equal(tmp_path: Path) -> None:
    sources = [f"src/version_{n}/best.ckpt" for n in range(2)]
    runs = [from_source(tmp_path / s, 0, s, "cifar10") for s in sources]
    assert compare(*runs).differing == {"model.init_from": sources}


def test_another_seed_of_the_data_alone_is_shown(tmp_path: Path) -> None:
    runs = [leave(tmp_path / name / "version_0", 0, 0.5) for name in "ab"]
    for number, run in enumerate(runs):
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["data"] = {"init_args": {"seed": number}}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
    found = compare(*runs)
    assert found.differing == {"data.init_args.seed": [0, 1]}
    assert "2 runs of 2 settings, which differ in data.init_args.seed" in found.table()


def test_a_long_path_of_a_source_is_shown_by_its_end(tmp_path: Path) -> None:
    sources = [f"{'x' * 60}/version_{n}/best.ckpt" for n in range(2)]
    runs = [leave(tmp_path / s / "version_0", 0, 0.5, init_from=s) for s in sources]
    text = compare(*runs).table()
    assert "xxx/version_0/best.ckpt | ...x" in text
    assert "xxx/version_1/best.ckpt |" in text
