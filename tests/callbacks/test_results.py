from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from tests.small import module, multitask_module, tiny_data, trainer, two_sources
from tl import MultiTaskModule
from tl.backbones.resnet_cifar import ResNetCifar
from tl.callbacks import RunCheckpoint, RunResults, Throughput
from tl.callbacks.results import number, samples_of, scores_of
from tl.report.results import RESUMED
from tl.tasks import Classification, Depth, MaskedTokens, Prototypes, Segmentation

ROOT = Path(__file__).resolve().parents[2]


def results(folder: Path) -> dict[str, Any]:
    [path] = folder.rglob("results.json")
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def test_results_hold_what_the_run_reached_and_on_what(tmp_path: Path) -> None:
    data = two_sources()
    ours = multitask_module(data)
    best = RunCheckpoint(tmp_path / "kept", filename="best", monitor="val/acc", mode="max")
    run = trainer(
        tmp_path,
        logger=CSVLogger(tmp_path),
        enable_checkpointing=True,
        callbacks=[Throughput(), RunResults(), best],
    )
    run.fit(ours, data)
    found = results(tmp_path)
    assert found["metrics"]["val/acc"] == pytest.approx(float(run.callback_metrics["val/acc"]))
    assert set(found["data"]) == {"ten", "hundred"}
    assert found["data"]["ten"]["fingerprint"] == data.sources["ten"].fingerprint
    assert found["samples"]["val"]["ten"] == {"from": 10, "of": 10}
    ways = {"acc": "max"}
    assert found["scores"] == {"ten": ways, "hundred_fine": ways, "hundred_coarse": ways}
    assert found["provenance"] is None
    assert found["versions"]["torch"] == torch.__version__.split("+")[0]
    assert found["seconds"] > 0
    assert found["images_per_second"] > 0
    assert found["peak_memory_bytes"] > 1e6
    assert found["epochs"] == 2
    assert found["best"]["score"] == pytest.approx(float(best.best_model_score or 0))
    # a test by the same trainer adds to the same file
    run.test(ours, data, verbose=False)
    again = results(tmp_path)
    assert again["scores"] == found["scores"]
    assert "test/ten/acc" in again["metrics"]
    assert again["metrics"]["val/acc"] == found["metrics"]["val/acc"]
    # another test replaces its scores, also those that it lacks
    again["metrics"]["test/gone/acc"] = 1.0
    next(tmp_path.rglob("results.json")).write_text(json.dumps(again))
    run.test(ours, data, verbose=False)
    assert "test/gone/acc" not in results(tmp_path)["metrics"]
    assert found["mfu"] > 0
    assert found["data_share"] > 0
    assert all(again[name] == found[name] for name in ("mfu", "data_share"))  # of training


def test_damaged_results_cost_no_evaluation(tmp_path: Path) -> None:
    data = tiny_data()
    run = trainer(tmp_path, logger=CSVLogger(tmp_path), callbacks=[RunResults()])
    run.validate(module(data), data, verbose=False)
    for broken in ("", '{"metrics": [1]}', '{"metrics": {}, "samples": [1]}'):
        path = next(tmp_path.rglob("results.json"))
        path.write_text(broken)
        with pytest.warns(UserWarning, match=r"results\.json is damaged: it is kept as results"):
            run.test(module(data), data, verbose=False)
        assert path.with_name("results.json.damaged").read_text() == broken
        assert "test/acc" in results(tmp_path)["metrics"]


def test_a_single_source_is_listed_by_its_name(tmp_path: Path) -> None:
    data = tiny_data()
    run = trainer(tmp_path, logger=CSVLogger(tmp_path), callbacks=[RunResults()])
    run.validate(module(data), data, verbose=False)
    found = results(tmp_path)
    assert (found["epochs"], found["steps"], found["data_share"]) == (None, None, None)
    assert set(found["data"]) == {"generated10"}
    assert found["images_per_second"] is None  # no Throughput, no number
    assert set(found["metrics"]) == {"val/acc", "val/loss"}


def test_a_run_that_is_killed_has_noted_what_it_resumed(tmp_path: Path) -> None:
    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    data = tiny_data()
    whole = trainer(tmp_path, logger=CSVLogger(tmp_path / "first"), callbacks=[RunResults()])
    whole.fit(module(data), data)
    assert not list(tmp_path.rglob(RESUMED))
    whole.save_checkpoint(tmp_path / "last.ckpt")
    ends = LambdaCallback(on_train_start=killed)
    later = CSVLogger(tmp_path / "second")
    resumed = trainer(tmp_path, logger=later, callbacks=[RunResults(), ends], max_epochs=3)
    with pytest.raises(RuntimeError, match="killed"):
        resumed.fit(module(data), data, ckpt_path=tmp_path / "last.ckpt")
    [noted] = tmp_path.rglob(RESUMED)
    assert not noted.with_name("results.json").exists()
    [(key, path)] = json.loads(noted.read_text()).items()
    assert key == "resumed_from"
    assert (noted.parent / path).resolve() == (tmp_path / "last.ckpt").resolve()


def test_without_a_run_folder_nothing_is_written(tmp_path: Path) -> None:
    data = tiny_data()
    trainer(tmp_path, callbacks=[RunResults()], fast_dev_run=True).fit(module(data), data)
    assert not list(tmp_path.rglob("results.json"))


def test_numbers_that_json_lacks_become_null() -> None:
    assert number(torch.tensor(0.5)) == 0.5
    assert number(math.nan) is None
    assert number(None) is None


def test_the_best_is_the_runs_own_whatever_else_is_saved(tmp_path: Path) -> None:
    data = tiny_data()
    regular = ModelCheckpoint(tmp_path / "kept", "{step}", save_top_k=-1, every_n_train_steps=1)
    best = RunCheckpoint(tmp_path / "kept", filename="best", monitor="val/acc")
    run = trainer(
        tmp_path,
        logger=CSVLogger(tmp_path),
        enable_checkpointing=True,
        callbacks=[RunResults(), regular, best],
    )
    run.fit(module(data), data)
    found = results(tmp_path)["best"]
    assert Path(found["checkpoint"]).name == "best.ckpt"
    assert found["monitor"] == "val/acc"


def test_the_score_that_decides_comes_first() -> None:
    tasks = [Segmentation("a", 3), Depth("b")]
    found = scores_of(MultiTaskModule(ResNetCifar(8), tasks))
    assert list(found["a"].items()) == [("miou", "max"), ("acc", "max")]
    assert found["b"] == {"abs": "min", "rel": "min", "rmse": "min", "delta1": "max"}
    assert next(iter(found["b"])) == "abs"


def test_pixels_tokens_and_queries_are_not_counted_against_samples() -> None:
    others = [Depth("depth"), MaskedTokens("words", 9), Prototypes("few", 5)]
    tasks = {task.name: task for task in [*others, Classification("kind", 2)]}
    counts = {"depth": 99, "words": 3, "few": 1, "kind": 1}
    module: Any = SimpleNamespace(tasks=tasks, samples={"test": counts})
    trained: Any = SimpleNamespace(datamodule=SimpleNamespace(splits={"test": [0, 1]}))
    found = samples_of(module, trained)["test"]
    assert {name: each["from"] for name, each in found.items()} == counts
    whole = {name: each["of"] for name, each in found.items()}
    assert whole == {"depth": None, "words": None, "few": None, "kind": 2}
