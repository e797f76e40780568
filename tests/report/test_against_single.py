from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tl.cli import main
from tl.report import against_single


def leave(
    folder: Path,
    metrics: dict[str, float],
    seed: int,
    *,
    epochs: int = 3,
    tested: int = 10,
    **data: str,
) -> Path:
    """Write the files of a tested run."""
    folder.mkdir(parents=True)
    about = {name: {"fingerprint": mark} for name, mark in data.items()}
    samples = {"test": {name: {"from": tested, "of": 10} for name in data}}
    content = {"metrics": metrics, "data": about, "epochs": epochs, "samples": samples}
    (folder / "results.json").write_text(json.dumps(content))
    (folder / "config.yaml").write_text(f"seed_everything: {seed}\n")
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Any]:
    """Two seeds: Delta_m -10 % and +5 % by hand, given in different orders."""
    together = [
        leave(
            tmp_path / f"sum-{seed}",
            {"test/acc": 0.5, "test/a/acc": a, "test/b/acc": b, "test/a/loss": 1.0},
            seed,
            a="x",
            b="y",
        )
        for seed, a, b in ((0, 0.45, 0.36), (1, 0.66, 0.40))
    ]
    alone = {
        "a": [
            leave(tmp_path / f"a-{seed}", {"test/acc": value}, seed, a="x")
            for seed, value in ((1, 0.60), (0, 0.50))
        ],
        "b": [leave(tmp_path / f"b-{seed}", {"test/acc": 0.40}, seed, b="y") for seed in (0, 1)],
    }
    return {"together": together, "alone": alone, "root": tmp_path}


def test_each_seed_is_set_against_its_own(folders: dict[str, Any]) -> None:
    found = against_single(folders["together"], folders["alone"])
    assert list(found.seeds) == [0, 1]
    # seed 0: (-0.1 - 0.1) / 2; seed 1: (0.1 + 0) / 2
    assert found.delta_m.mean == pytest.approx((-0.1 + 0.05) / 2)
    lines = found.table().splitlines()
    assert lines[2].startswith("| a | 55.0 ± ")
    assert "| 55.5 ± " in lines[2]
    assert lines[-1].startswith("Delta_m -2.5 ± ")
    assert lines[-1].endswith("% (by seed: 0: -10.0, 1: +5.0)")


def test_the_command_prints_it(folders: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"--baseline={t}={f}" for t, found in folders["alone"].items() for f in found]
    main(["delta_m", *map(str, folders["together"]), *given])
    assert "Delta_m -2.5 ±" in capsys.readouterr().out
    code = main(["delta_m", str(folders["together"][0]), "--baseline=a"])
    assert code == 2
    assert "`--baseline` must be TASK=FOLDER, got 'a'" in capsys.readouterr().err


def test_a_baseline_that_is_not_positive_is_one_line(
    folders: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = folders["alone"]["b"][0] / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"metrics": {"test/acc": -0.1}}))
    given = [f"--baseline={task}={run}" for task, runs in folders["alone"].items() for run in runs]
    assert main(["delta_m", *map(str, folders["together"]), *given]) == 2
    said = capsys.readouterr().err.strip()
    assert "Delta_m needs positive scores, and the baseline of 'b/acc' is -0.1; compare" in said
    assert "\n" not in said


def test_a_loss_at_every_seed_is_called_negative_transfer(folders: dict[str, Any]) -> None:
    alone = {"a": folders["alone"]["a"][1:], "b": folders["alone"]["b"][:1]}
    one = against_single(folders["together"][:1], alone).table()
    assert "Delta_m -10.0 (one run) % (by" in one  # one seed shows no such thing
    worse = [
        leave(
            folders["root"] / f"worse-{seed}",
            {"test/acc": 0.3, "test/a/acc": a, "test/b/acc": 0.3},
            seed,
        )
        for seed, a in ((0, 0.375), (1, 0.45))
    ]
    # a quarter less in each task and seed
    assert (
        "Delta_m -25.0 ± 0.0 % **negative transfer**"
        in against_single(worse, folders["alone"]).table()
    )


def test_what_cannot_be_compared_is_refused(folders: dict[str, Any]) -> None:
    together, alone = folders["together"], folders["alone"]
    with pytest.raises(ValueError, match="have the seeds 0, the baselines of 'a' 0, 1"):
        against_single(together[:1], alone)
    with pytest.raises(ValueError, match="the tasks a, b, baselines were given for a; give one"):
        against_single(together, {"a": alone["a"]})
    with pytest.raises(ValueError, match="Two runs among the multi-task runs have the seed 0"):
        against_single([together[0], together[0]], alone)
    other = leave(folders["root"] / "other", {"test/acc": 0.4}, 0, b="z")
    with pytest.raises(ValueError, match="have different images of b: z and y"):
        against_single(together[:1], {"a": alone["a"][1:], "b": [other]})


def test_unequal_lengths_and_parts_are_refused(folders: dict[str, Any]) -> None:
    together, alone = folders["together"][:1], {t: f[-1:] for t, f in folders["alone"].items()}
    alone["b"] = folders["alone"]["b"][:1]
    against_single(together, alone)
    shorter = leave(folders["root"] / "shorter", {"test/acc": 0.4}, 0, epochs=2, b="y")
    with pytest.raises(ValueError, match=r"trained for 3 epochs, .*shorter trained for 2 epochs"):
        against_single(together, {**alone, "b": [shorter]})
    part = leave(folders["root"] / "part", {"test/acc": 0.4}, 0, tested=4, b="y")
    with pytest.raises(ValueError, match="part was tested on 4 of the 10 test samples of 'b'"):
        against_single(together, {**alone, "b": [part]})


def test_unequal_numbers_of_test_samples_are_refused(folders: dict[str, Any]) -> None:
    together, alone = folders["together"][:1], {t: f[-1:] for t, f in folders["alone"].items()}
    alone["b"] = folders["alone"]["b"][:1]
    results = json.loads((alone["b"][0] / "results.json").read_text())
    results["samples"]["test"]["b"] = {"from": 7, "of": 7}
    (alone["b"][0] / "results.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match=r"was tested on 10 samples of 'b', .* on 7; test both"):
        against_single(together, alone)


def test_epochs_of_a_part_of_the_images_are_not_whole_ones(folders: dict[str, Any]) -> None:
    together, alone = folders["together"][:1], {t: f[-1:] for t, f in folders["alone"].items()}
    alone["b"] = folders["alone"]["b"][:1]
    config = alone["b"][0] / "config.yaml"
    config.write_text("seed_everything: 0\ntrainer: {limit_train_batches: 1.0}\n")
    against_single(together, alone)
    config.write_text("seed_everything: 0\ntrainer: {limit_train_batches: 1}\n")
    with pytest.raises(ValueError, match=r"for 3 epochs, .* 3 epochs with limit_train_batches=1;"):
        against_single(together, alone)


def test_multitask_runs_of_unequal_steps_are_refused(folders: dict[str, Any]) -> None:
    for steps, folder in zip((40, 50), folders["together"], strict=False):
        results = json.loads((folder / "results.json").read_text())
        (folder / "results.json").write_text(json.dumps(results | {"steps": steps}))
    with pytest.raises(
        ValueError, match=r"trained for 40 steps, .* trained for 50 steps; compare runs of"
    ):
        against_single(folders["together"][:2], folders["alone"])


def test_the_data_compared_are_those_of_the_test(folders: dict[str, Any]) -> None:
    together, alone = folders["together"][:1], {t: f[-1:] for t, f in folders["alone"].items()}
    alone["b"] = folders["alone"]["b"][:1]
    results = json.loads((alone["b"][0] / "results.json").read_text())
    results["evaluated"] = {"test": {"data": {"b": {"fingerprint": "tested"}}}}
    (alone["b"][0] / "results.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match="have different images of b: tested and y"):
        against_single(together, alone)


def test_early_stopping_may_end_runs_at_any_epoch(folders: dict[str, Any]) -> None:
    alone = {"a": folders["alone"]["a"][1:], "b": folders["alone"]["b"][:1]}
    for number, folder in enumerate([*folders["together"][:1], *alone["a"], *alone["b"]]):
        results = json.loads((folder / "results.json").read_text())
        (folder / "results.json").write_text(json.dumps(results | {"epochs": number}))
        (folder / "config.yaml").write_text(
            "seed_everything: 0\ntrainer: {max_epochs: 9, callbacks: [{class_path: EarlyStopping}]}"
        )
    against_single(folders["together"][:1], alone)


def test_scores_of_other_kinds_have_their_directions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ways = {"seg": {"miou": "max", "acc": "max"}, "depth": {"abs": "min", "delta1": "max"}}

    def left(name: str, metrics: dict[str, float], *tasks: str) -> str:
        folder = leave(tmp_path / name, metrics, 0, rooms="x")
        results = json.loads((folder / "results.json").read_text())
        results |= {"scores": {task: ways[task] for task in tasks}, "samples": {}}
        (folder / "results.json").write_text(json.dumps(results))
        return str(folder)

    reached = {"seg/miou": 0.55, "seg/acc": 0.9, "depth/abs": 0.3, "depth/delta1": 0.84}
    reached |= {"seg/loss": 1.0, "depth/loss": 1.0}
    together = left("both", {f"test/{k}": v for k, v in reached.items()}, "seg", "depth")
    alone = {
        "seg": [left("seg", {"test/miou": 0.5, "test/acc": 0.9}, "seg")],
        "depth": [left("depth", {"test/abs": 0.4, "test/delta1": 0.8}, "depth")],
    }
    found = against_single([together], alone)
    assert found.lower_is_better == ["depth/abs"]
    assert found.delta_m.mean == pytest.approx((0.1 + 0.25) / 2)
    several = against_single([together], alone, {"depth": ["abs", "delta1"]})
    assert several.delta_m.mean == pytest.approx((0.1 + (0.25 + 0.05) / 2) / 2)
    given = [f"--baseline={t}={f}" for t, folders in alone.items() for f in folders]
    main(["delta_m", together, *given, "--score=depth=abs", "--score=depth=delta1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| seg miou | 50.0 (one run) % | 55.0 (one run) % |"
    assert lines[3] == "| depth abs (lower is better) | 0.4 (one run) | 0.3 (one run) |"
    with pytest.raises(ValueError, match="both has no score test/depth/rel; it has abs, delta1"):
        against_single([together], alone, {"depth": ["rel"]})
    with pytest.raises(ValueError, match="`scores` name the task 'a'; the runs have seg, depth"):
        against_single([together], alone, {"a": ["acc"]})


def test_adapted_tests_are_not_set_against_plain_ones(folders: dict[str, Any]) -> None:
    path = folders["alone"]["b"][0] / "results.json"
    content = json.loads(path.read_text())
    content["evaluated"] = {"test": {"adaptation": [{"name": "AdaBN"}], "data": content["data"]}}
    path.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"was tested without adaptation, .* with AdaBN; test both"
    ):
        against_single(folders["together"], folders["alone"])
