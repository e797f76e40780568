from __future__ import annotations

from pathlib import Path

import pytest

from tl.cli import main
from tl.cli.class_help import classes_of, own_classes, with_class

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "multitask.yaml")


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--model.help", ["MultiTaskModule", "TransferModule"]),
        ("--data.help", ["CifarDataModule", "FolderDataModule"]),
        ("--model.backbone.help", ["ResNet18", "WideResNet"]),
        ("--model.penalties.help", ["EWC", "L2SP"]),
        ("--trainer.callbacks.help", ["KNNMonitor", "GradientDiagnostics"]),
    ],
)
def test_without_a_class_it_lists_ours(option: str, named: list[str]) -> None:
    found = classes_of(["fit", option])
    assert found is not None
    lines = found.splitlines()
    assert max(map(len, lines)) <= 100
    listed = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    assert {*named} <= {*listed}
    others = {"Penalty", "SharedBackboneModule", "Module", "Step", "NoProfiler"}
    assert not others & {*listed}
    assert lines[-1].startswith(f"options of one:  tl fit {option} tl.")


def test_only_a_question_without_a_class_gets_the_list() -> None:
    for command in (
        ["fit", "--model.help", "tl.modules.TransferModule"],
        ["fit", "--model.help=tl.modules.TransferModule"],
        ["fit", "--model.optimizer.help", "torch.optim.SGD"],
        ["fit", "--trainer.strategy.help"],
        ["fit", f"--config={CONFIG}", "--data.help"],
        ["--help"],
        [],
    ):
        assert classes_of(command) is None


def test_where_classes_are_of_several_packages_one_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"such as --model\.optimizer\.help torch\.optim\.AdamW"):
        classes_of(["fit", "--model.optimizer.help"])


def test_the_class_of_a_configuration_is_explained() -> None:
    data = ["fit", "--data.help=tl.data.MultiTaskDataModule"]
    assert with_class(["fit", "--config", CONFIG, "--data.help"]) == data
    chosen = with_class(["fit", f"--config={CONFIG}", "--model=x.Own", "--model.help"])
    assert chosen == ["fit", "--model.help=x.Own"]
    assert with_class(["fit", "--config", CONFIG]) == ["fit", "--config", CONFIG]


def test_options_name_our_classes_and_not_torch_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", CONFIG, "--model.help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: tl ")
    assert "--model.balancer" in text
    assert "tl.backbones.ResNet18" in text
    assert "torch.nn" not in text


def test_where_there_are_none_of_ours_the_others_are_named() -> None:
    known = ", known subclasses: "
    mixed = f"{known}torch.nn.Linear, tl.modules.X, tl.backbones.inner.Y, tl.backbones.Z"
    assert own_classes(mixed, "model.backbone") == ", such as tl.backbones.Z"
    assert own_classes(f"{known}torch.nn.Linear, tl.a.X", "a.head") == ", such as tl.a.X"
    assert own_classes(f"{known}torch.optim.SGD", "optimizer") == ", such as torch.optim.SGD"
    assert own_classes("", "x") == ""


def test_a_missing_configuration_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config=nix.yaml", "--model.help"]) == 2
    assert "nix.yaml" in capsys.readouterr().err
