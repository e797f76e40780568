"""A run or a folder in place of a configuration: nothing is retyped."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from tests.images import class_folders
from tl.cli import main
from tl.cli.on_runs import PREDICT_FILES, STRATEGIES, expanded, places_and_options
from tl.cli.recipe import recipe
from tl.cli.short_forms import written_out

QUIET = (
    *("--trainer.enable_progress_bar=false", "--dashboard.graph=false", "--throughput.mfu=false"),
    *("--trainer.accelerator=cpu", "--trainer.enable_model_summary=false"),
    "--dashboard.every_n_epochs=0",  # drawing is half of such a run
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, and a run on it by its name alone."""
    folder = tmp_path_factory.mktemp("place")
    class_folders(folder / "photos")
    command = ["fit", str(folder / "photos"), f"--log_dir={folder / 'logs'}", *QUIET]
    assert main([*command, "--trainer.max_epochs=1", "--data.init_args.batch_size=8"]) == 0
    return folder


def run(place: Path, name: str = "photos") -> Path:
    return place / "logs" / name / "version_0"


def test_a_run_is_tested_by_its_folder(place: Path) -> None:
    best = str(run(place) / "checkpoints" / "best.ckpt")
    assert expanded(["test", str(run(place)), "--x=1"]) == ["test", f"--ckpt_path={best}", "--x=1"]
    assert expanded(["test", "--x", "1", str(run(place))])[1:] == [
        *(f"--ckpt_path={best}", "--x", "1")
    ]
    assert main(["test", str(run(place)), "--trainer.enable_progress_bar=false"]) == 0
    results = json.loads((run(place) / "results.json").read_text())
    assert results["samples"]["test"]["photos"]["from"] == 6


def test_a_folder_or_files_are_predicted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reds, quiet = place / "photos" / "red", "--trainer.enable_progress_bar=false"
    out = run(place) / "predictions.csv"
    assert main(["predict", str(run(place)), str(reds), quiet]) == 0
    of_folder = out.read_text().splitlines()
    assert len(of_folder) == 9
    files = [str(reds / f"{number}.png") for number in (0, 3)]
    assert expanded(["predict", str(run(place)), *files])[0] == PREDICT_FILES
    for option in ("--out=a.csv", "--source=photos"):
        assert expanded(["predict", str(run(place)), str(reds), option])[0] == PREDICT_FILES
    assert main(["predict", str(run(place)), *files]) == 0
    of_files = out.read_text().splitlines()
    assert of_files == [of_folder[0], of_folder[1], of_folder[4]]
    assert "2 predictions in " in capsys.readouterr().out


def test_a_run_lends_its_backbone_and_recipe(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["fit", str(place / "photos"), f"--from={run(place)}", "--strategy", "lp_ft"]
    more = ("--name=second", "--trainer.max_epochs=2", f"--log_dir={place / 'logs'}", *QUIET)
    assert main([*command, *more]) == 0
    said = capsys.readouterr().err
    assert "tl: ResNet20, AdamW (lr 0.001), WarmupCosine, 32x32 pixels, 1 epoch, as in" in said
    first, second = (
        yaml.safe_load((run(place, name) / "config.yaml").read_text())
        for name in ("photos", "second")
    )
    then, now = (each["model"]["init_args"] for each in (first, second))
    assert now["backbone"] == then["backbone"]
    assert now["optimizer"] == then["optimizer"]
    assert now["init_from"] == str(run(place) / "checkpoints" / "best.ckpt")
    assert now["strategy"]["class_path"] == "tl.transfer.LPFT"
    assert now["scheduler"]["class_path"] == "tl.transfer.ProbeThenCosine"
    data = second["data"]["init_args"]
    assert (data["batch_size"], data["size"]) == (8, 32)
    results = json.loads((run(place, "second") / "results.json").read_text())
    assert results["provenance"]["path"] == "best.ckpt"


def test_a_printed_configuration_is_one(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["fit", str(place / "photos"), "--trainer.max_epochs=7", "--print_config"]
    assert main(command) == 0
    printed, said = capsys.readouterr()
    assert "tl: ResNet20 from scratch on 32x32 pixels" in said
    assert yaml.safe_load(printed)["trainer"]["max_epochs"] == 7
    mine = tmp_path / "mine.yaml"
    mine.write_text(printed)
    assert main(["fit", f"--config={mine}", "--print_config"]) == 0
    assert capsys.readouterr().out == printed


def test_a_source_beside_a_configuration(place: Path) -> None:
    found = expanded(
        ["fit", "--config=a.yaml", "--from", str(run(place)), "--strategy=linear_probe"]
    )
    best = run(place) / "checkpoints" / "best.ckpt"
    assert found == [
        *("fit", "--config=a.yaml", f"--model.init_args.init_from={best}"),
        "--model.init_args.strategy=tl.transfer.LinearProbe",
    ]
    assert expanded(["fit", "--strategy=my.Own"])[1] == "--model.init_args.strategy=my.Own"


def test_strategies_and_penalties_add_up_and_the_last_class_counts() -> None:
    given = [f"--strategy={name}" for name in ("l2_sp", "lp_ft", "linear_probe", "bss")]
    assert expanded(["fit", "--config=a.yaml", *given]) == [
        *("fit", "--config=a.yaml", "--strategy=l2_sp"),
        *("--model.init_args.strategy=tl.transfer.LinearProbe", "--strategy=bss"),
    ]


def test_every_strategy_has_a_short_name(repository: Path) -> None:
    for name, (kind, *_) in STRATEGIES.items():
        written = yaml.safe_load((repository / f"configs/transfer/{name}.yaml").read_text())
        strategy = written["model"]["init_args"]["strategy"]
        assert kind == (strategy if isinstance(strategy, str) else strategy["class_path"])


@pytest.mark.parametrize(
    "command",
    [["fit", "--config", "a.yaml"], ["test", "--ckpt_path=a"], ["lineage", "a"], ["--help"], []],
)
def test_other_commands_are_as_they_were(command: list[str]) -> None:
    assert expanded(command) == command


def test_every_mistake_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, own = str(place / "photos"), str(run(place))
    (place / "notes.txt").write_text("no table")
    for command, said in (
        (["test", "nowhere"], "nowhere: no such file"),
        (["test", photos], "is a folder without runs; expected a run folder"),
        (["test", own, "b"], "test takes one run, got also 'b'"),
        (["predict", own, "none.png"], "none.png: no such file or folder to predict"),
        (["fit", "none"], "none: no such folder or table of images"),
        (["fit", photos, "b"], "fit takes one folder or table, got also 'b'"),
        (["fit", "a.yaml"], "a.yaml is a configuration; write --config a.yaml"),
        (["fit", str(place / "notes.txt")], "is not a folder or a table (.csv, .tsv, .jsonl)"),
        (["fit", photos, "--from"], "--from needs a value"),
        (["fit", photos, "--strategy=lpft"], "--strategy: there is no 'lpft'."),
    ):
        assert main(command) == 2
        [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tl: ")]
        assert said in line


def test_a_source_without_a_recipe_is_one_line(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "tl": {"tasks": []}}, tmp_path / "own.ckpt")
    with pytest.raises(ValueError, match="does not record its backbone and recipe"):
        recipe(str(class_folders(tmp_path / "photos")), str(tmp_path / "own.ckpt"))


def test_the_commands_of_the_manual_run_in_their_order(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    class_folders(Path("photos"), ("leaf", "rose", "sky"), count=4)
    page = (repository / "docs" / "python.md").read_text()
    [shown] = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    commands = shown.splitlines()
    assert len(commands) == 5
    for line in commands:
        program, *words = line.split()
        length = ("--trainer.max_epochs=2",) if words[0] == "fit" else ()
        assert program == "tl"
        named = expanded(words)[0] == PREDICT_FILES
        assert main([*words, *(() if named else (*QUIET, *length))]) == 0, line
    assert Path("lightning_logs/second/version_0/results.json").exists()


@pytest.mark.parametrize(
    "name",
    [path.stem for path in sorted(Path(__file__).parents[2].glob("configs/transfer/*.yaml"))],
)
def test_every_strategy_of_the_box_is_accepted(name: str) -> None:
    command = written_out(expanded(["fit", "--config=a.yaml", "--strategy", name]))
    assert any(
        word.startswith("--model.init_args.strategy=tl.transfer.")
        or word.endswith(f"configs/transfer/{name}.yaml")
        for word in command
    )


@pytest.mark.parametrize(
    ("words", "places", "options"),
    [
        (["a", "--x=1"], ["a"], ["--x=1"]),
        (["--x=1", "a"], ["a"], ["--x=1"]),
        (["--x", "1", "a", "-c", "b", "c"], ["a", "c"], ["--x", "1", "-c", "b"]),
        (["--x", "-1", "a"], ["a"], ["--x", "-1"]),
        (["--x", "--y=2", "a"], ["a"], ["--x", "--y=2"]),
        (["--help-all", "a"], ["a"], ["--help-all"]),
        ([], [], []),
    ],
)
def test_places_stand_anywhere(words: list[str], places: list[str], options: list[str]) -> None:
    assert places_and_options(words) == (places, options)


@pytest.mark.parametrize(("verb", "what"), [("fit", "a folder of images"), ("test", "a run, such")])
def test_a_verb_alone_names_what_it_takes(verb: str, what: str) -> None:
    with pytest.raises(ValueError, match=f"{verb} takes {what}.* or a configuration, such as"):
        expanded([verb])
