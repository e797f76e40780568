from __future__ import annotations

from pathlib import Path

import pytest

from tl.cli.short_forms import written_out

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("short", "full"),
    [
        (["--data.root", "x"], ["--data.init_args.root", "x"]),
        (["--model.init_from=a.ckpt"], ["--model.init_args.init_from=a.ckpt"]),
        (["--model.penalties+=x"], ["--model.init_args.penalties+=x"]),
        (["--model.backbone.help", "x"], ["--model.backbone.help", "x"]),
        (["--epochs", "3"], ["--trainer.max_epochs", "3"]),
        (["--epochs=3"], ["--trainer.max_epochs=3"]),
        (["--trainer.max_epochs=3"], ["--trainer.max_epochs=3"]),
        (["--data", "x", "--data.class_path=y"], ["--data", "x", "--data.class_path=y"]),
        (["--model.init_args.a=1", "--model.help=y"], ["--model.init_args.a=1", "--model.help=y"]),
    ],
)
def test_short_forms_stand_for_full_ones(short: list[str], full: list[str]) -> None:
    assert written_out(["fit", *short]) == ["fit", *full]


def test_overlays_follow_the_configuration_wherever_they_stand() -> None:
    full = written_out(["fit", "--balancer", "pcgrad", "--config", "a.yaml", "--strategy=l2_sp"])
    assert full == [
        *("fit", "--config", "a.yaml"),
        *("--config=configs/balancing/pcgrad.yaml", "--config=configs/transfer/l2_sp.yaml"),
    ]


@pytest.mark.parametrize("files", [("--config", "a.yaml", "-c=b.yaml"), ("--config=a.yaml",)])
def test_an_option_holds_against_files_that_follow_it(files: tuple[str, ...]) -> None:
    options = ("--trainer.max_epochs", "3", "--seed_everything=1")
    assert written_out(["fit", *options, *files]) == ["fit", *files, *options]
    assert written_out(["-c", "x", "fit", *options, *files])[:3] == ["-c", "x", "fit"]


def test_an_option_holds_against_files_however_they_are_named() -> None:
    option = "--data.init_args.batch_size=5"
    assert written_out(["fit", option, "-cb.yaml"]) == ["fit", "--config=b.yaml", option]
    for section in (["--data", "data.yaml"], ["--data=data.yaml"]):
        assert written_out(["fit", option, *section]) == ["fit", *section, option]
    for kept in (["--data", "my.Data"], ["--data=my.Data"]):
        assert written_out(["fit", option, *kept]) == ["fit", option, *kept]
    for cut in ("-c", "--data"):
        assert written_out(["fit", option, cut]) == ["fit", option, cut]


def test_a_name_that_there_is_not_has_a_neighbour() -> None:
    with pytest.raises(
        ValueError, match=r"--balancer: there is no 'pcgard'\. Did you mean 'pcgrad'"
    ):
        written_out(["fit", "--balancer", "pcgard"])
    with pytest.raises(ValueError, match="--strategy needs a name; `tl list transfer` has them"):
        written_out(["fit", "--strategy"])
