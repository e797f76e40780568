"""Checkpoints and configurations of earlier versions; each file was written by that version."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path

import pytest
import torch

from tl import load
from tl.cli import main

FILES = Path(__file__).parent
ROOT = FILES.parent


@pytest.mark.parametrize("kind", ["transfer", "multitask"])
def test_version_0_1_0_is_evaluated_and_resumed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    old = tmp_path / "old"
    shutil.copytree(FILES / "version_0_1_0" / kind, old)
    given = ["--config", str(old / "config.yaml"), "--ckpt_path", str(old / "last.ckpt")]
    main(["validate", *given, "--name=again", f"--log_dir={tmp_path}"])
    again = json.loads((tmp_path / "again/version_0/results.json").read_text())
    then = json.loads((old / "results.json").read_text())
    names = [name for name in then["metrics"] if name.startswith("val/")]
    assert len(names) >= 2
    assert {n: again["metrics"][n] for n in names} == pytest.approx(
        {n: then["metrics"][n] for n in names}
    )
    main(["fit", *given, "--name=more", f"--log_dir={tmp_path}", "--trainer.max_epochs=2"])
    saved = torch.load(tmp_path / "more/version_0/checkpoints/last.ckpt", weights_only=True)
    assert saved["epoch"] == 1
    assert all(task["kind"] == "classification" for task in saved["tl"]["tasks"])


def test_a_model_of_version_0_1_0_answers_tensors_and_says_what_else_would() -> None:
    model = load(FILES / "version_0_1_0" / "transfer" / "last.ckpt")
    with pytest.raises(ValueError, match=r"does not record how inputs were read .*tl predict CHE"):
        model.predict("x.png")
    [answer] = model.predict([torch.zeros(3, 32, 32)])
    assert answer.label in model.class_names


PUBLIC_IN_0_1_0 = {
    "tl.data": "Augment CifarDataModule DataError FolderDataModule GeneratedDataModule "
    "ImageDataModule MultiTaskDataModule",
    "tl.modules": "MultiTaskModule TransferModule WarmupCosine",
    "tl.callbacks": "AtomicCheckpointIO Dashboard GradientDiagnostics HyperRuleLength NoProfiler "
    "PredictionWriter RunCheckpoint RunProgressBar RunResults SameCheckpoint SaveOnSignal "
    "SourceAccuracy Throughput leave_out_empty_hooks",
    "tl.transfer": "LPFT BiTHyperRule CheckpointError FullFineTuning GradualUnfreezing "
    "LayerWiseDecay LinearProbe Strategy SurgicalFineTuning TransferReport WeightsMismatchError "
    "file_sha256 load_weights read_checkpoint",
    "tl.transfer.penalties": "BSS EWC L2SP CoTuning Distillation LwF Penalty Start Step",
    "tl.balancing": "DBMTL Balancer BalancerSpec DynamicTaskPrioritization GradNorm "
    "GradientAggregation LossWeighting Rescale StaticWeights Uncertainty make_balancer",
    "tl.backbones": "Backbone HuggingFaceBackbone LoraBackbone ResNet18 ResNet20 ResNet32 ResNet34 "
    "ResNet44 ResNet50 ResNet56 TimmBackbone TorchvisionBackbone WideResNet last_block stages_of",
    "tl.report": "AgainstSingle Interval TestedRun against_single delta_m delta_m_interval "
    "find_tested mean_interval read_tested",
    "tl.cli": "main",
    "tl.hardware": "reuse_memory",
}


@pytest.mark.parametrize("module", PUBLIC_IN_0_1_0)
def test_public_names_are_imported_from_where_they_were(module: str) -> None:
    found = import_module(module)
    missing = [name for name in PUBLIC_IN_0_1_0[module].split() if not hasattr(found, name)]
    assert not missing
