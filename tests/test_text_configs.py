"""The configurations for text run by the commands in their headers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml

from tests.test_configs import ROOT, command
from tl.cli import main
from tl.transfer import read_checkpoint

RUNS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("configs/text_*.yaml"))
TARGETS = {
    "text_source": (),
    "text_classification": ("--data.init_args.targets=topic",),
    "text_multitask": ("--data.init_args.targets=[topic, sentiment]",),
}
QUICK = ("--config", "configs/overlays/quick_text.yaml", "--data.init_args.train_size=200")
TINY = (
    *("--data.init_args.test_size=60", "--trainer.limit_train_batches=2", "--trainer.max_epochs=1"),
    *("--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1", "--dashboard.graph=false"),
    "--trainer.enable_progress_bar=false",
)


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of all three, the classification from the language model."""
    folder, patch = tmp_path_factory.mktemp("runs"), pytest.MonkeyPatch()
    patch.chdir(ROOT)
    for name in ("text_source", "text_classification", "text_multitask"):
        given = command(f"configs/{name}.yaml")
        given = [word.replace("lightning_logs", str(folder)) for word in given]
        main([*given, *QUICK, *TARGETS[name], *TINY, f"--log_dir={folder}"])
    patch.undo()
    return folder


def test_there_are_three() -> None:
    assert {Path(path).stem for path in RUNS} == TARGETS.keys()
    assert command("configs/overlays/quick_text.yaml")[-1] == "configs/overlays/quick_text.yaml"


@pytest.mark.parametrize("name", TARGETS)
def test_a_config_runs(name: str, runs: Path) -> None:
    folder = runs / name / "version_0"
    results = json.loads((folder / "results.json").read_text())
    [data] = results["data"].values()
    assert data["kind"] == "generated"
    assert data["tokenizer"].keys() == {"hash", "vocab_size"}
    wanted = {
        "text_source": {"val/loss", "val/acc"},
        "text_classification": {"val/loss", "val/acc"},
        "text_multitask": {f"val/sentences_{t}/loss" for t in ("topic", "sentiment", "tokens")},
    }[name]
    assert wanted <= results["metrics"].keys()
    for checkpoint in folder.glob("checkpoints/*.ckpt"):
        assert torch.serialization.get_unsafe_globals_in_checkpoint(checkpoint) == []
        assert read_checkpoint(checkpoint)["tl"]["data"]["tokenizer"]["packed"]


def test_a_classifier_starts_from_the_language_model(runs: Path) -> None:
    results = json.loads((runs / "text_classification" / "version_0" / "results.json").read_text())
    assert results["provenance"]["tasks"][0]["kind"] == "masked_tokens"


def test_sentences_of_a_file_are_predicted(runs: Path, tmp_path: Path) -> None:
    texts = ["The soup baked.", "The violin and the harp faded, and it was not dull."]
    (tmp_path / "new.txt").write_text("\n".join(texts) + "\n")
    folder = runs / "text_classification" / "version_0"
    main(
        [
            *("predict", "--config", str(folder / "config.yaml"), f"--log_dir={runs}"),
            f"--ckpt_path={folder / 'checkpoints' / 'best.ckpt'}",
            f"--data.init_args.predict_file={tmp_path / 'new.txt'}",
            # the checkpoint holds the tokenizer: its source is not needed
            "--data.init_args.tokenizer=null",
            "--trainer.enable_progress_bar=false",
        ]
    )
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == texts
    assert {row["task"] for row in rows} == {"sentences"}


def test_several_sources_are_written_in_yaml(tmp_path: Path) -> None:
    source = {"train_size": 60, "test_size": 20, "vocab_size": 400}
    sources = {
        "topics": {**source, "targets": "topic"},
        "moods": {**source, "targets": "sentiment", "draw_seed": 1},
    }
    kind = "tl.data.SyntheticTextDataModule"
    given = {
        "class_path": "tl.data.MultiTaskDataModule",
        "init_args": {
            "batch_size": 16,
            "sources": {n: {"class_path": kind, "init_args": o} for n, o in sources.items()},
        },
    }
    (tmp_path / "two.yaml").write_text(yaml.safe_dump({"data": given}))
    main(
        [
            *("fit", "--config=configs/text_multitask.yaml", f"--config={tmp_path / 'two.yaml'}"),
            *(word for word in TINY if "test_size" not in word),
            f"--log_dir={tmp_path}",
        ]
    )
    [results] = tmp_path.glob("**/results.json")
    metrics = json.loads(results.read_text())["metrics"]
    assert {"val/topics/acc", "val/moods/acc", "perf/tokens_per_second"} <= metrics.keys()


@pytest.mark.parametrize("path", RUNS)
def test_a_run_has_the_recipe(path: str) -> None:
    config = yaml.safe_load((ROOT / path).read_text())
    net = config["model"]["init_args"]["backbone"]["init_args"]["config"]
    data = config["data"]["init_args"]
    assert net["vocab_size"] == data["vocab_size"]
    assert net["max_position_embeddings"] >= data["max_length"]
    assert config["model"]["init_args"]["scheduler"]["class_path"] == "tl.modules.WarmupCosine"
    assert config["trainer"]["precision"] is None
