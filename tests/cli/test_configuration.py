from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch.callbacks.timer import Interval

from tl.cli.configuration import check_files, check_trainer, write_enums_as_text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [1, 2\nb: {", r"a\.yaml, line 2, column 2 is not valid YAML: expected ',' or '\]'"),
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"- a\n- b\n", "holds a list; expected options by name"),
        (b"text", "holds a str"),
        (bytes(range(256)), "is not a text file"),
        (None, "no such file. Did you mean '.*aa.yaml'"),
    ],
)
@pytest.mark.parametrize("option", ["--config", "-c", "--config="])
def test_a_file_that_cannot_be_read_is_named(
    content: bytes | None, said: str, option: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.yaml"
    (tmp_path / "aa.yaml").write_text("a: 1")
    if content is not None:
        path.write_bytes(content)
    given = [f"{option}{path}"] if option.endswith("=") else [option, str(path)]
    with pytest.raises(ValueError, match=f"a.yaml.*{said}|{said}"):
        check_files(["fit", *given])


def test_what_can_be_read_passes(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1")
    check_files(["fit", "--config", str(path), f"-c={path}", "--name=x", "--config"])
    with pytest.raises(ValueError, match="is a folder"):
        check_files(["fit", f"--config={tmp_path}"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"accumulate_grad_batches": 0}, "must be 1 or more, got 0"),
        ({"limit_train_batches": 0}, "`trainer.limit_train_batches` is 0: nothing would"),
        ({"max_epochs": 0}, "`trainer.max_epochs` is 0: nothing would be trained"),
        ({"gradient_clip_val": -1}, "must be finite and 0 or more, got -1"),
        ({"gradient_clip_val": math.nan}, "must be finite and 0 or more, got nan"),
        ({"gradient_clip_val": math.inf}, "must be finite and 0 or more, got inf"),
        ({"barebones": True}, "for benchmarks"),
        ({"profiler": "simpel"}, "no profiler 'simpel'; choose .*. Did you mean 'simple'?"),
    ],
)
def test_settings_that_train_nothing_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_trainer(settings)


@pytest.mark.parametrize(
    ("verb", "name"), [("validate", "val"), ("test", "test"), ("predict", "predict")]
)
def test_an_evaluation_of_nothing_is_refused(verb: str, name: str) -> None:
    said = rf"^`trainer.limit_{name}_batches` is 0: {verb} would read nothing\."
    for nothing in (0, 0.0):
        with pytest.raises(ValueError, match=said):
            check_trainer({f"limit_{name}_batches": nothing}, verb)
    for share in (1, 0.5, None):
        check_trainer({f"limit_{name}_batches": share, "limit_train_batches": 0}, verb)
    check_trainer({f"limit_{name}_batches": 0}, "fit")  # training without validation


def test_usual_settings_pass() -> None:
    check_trainer({"max_epochs": -1, "max_steps": -1, "accumulate_grad_batches": 2})
    check_trainer({"limit_train_batches": None, "gradient_clip_val": 0.5})


def test_text_enumerations_are_written_as_text() -> None:
    """A `Timer` among the callbacks has one as a default, and config.yaml holds it."""
    write_enums_as_text()
    assert yaml.safe_dump({"interval": Interval.step}) == "interval: step\n"


def test_a_list_that_an_overlay_replaces_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "a.yaml": "trainer: {callbacks: [{class_path: x.A}, {class_path: x.B}]}",
        "adds.yaml": "trainer: {callbacks+: [{class_path: x.C}]}",
        "same.yaml": "trainer: {callbacks: [{class_path: x.B}, {class_path: x.A}, x.C]}",
        "b.yaml": "trainer: {callbacks: [{class_path: x.B}]}",
        "p.yaml": "model: {init_args: {penalties: [{class_path: x.P}], reinit: [q]}}",
        "r.yaml": "model: {init_args: {penalties: [{class_path: x.Q}], reinit: [r]}}",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)

    def said(*names: str) -> list[str]:
        check_files(["fit", *(f"--config={tmp_path / name}" for name in names)])
        return capsys.readouterr().err.replace(f"{tmp_path}/", "").splitlines()

    replaces = "tl: `trainer.callbacks` of b.yaml replaces"
    assert said("a.yaml", "b.yaml") == [
        f"{replaces} x.A from a.yaml; to append instead, write `callbacks+:`."
    ]
    assert said("a.yaml", "adds.yaml", "same.yaml") == []
    (line,) = said("a.yaml", "adds.yaml", "b.yaml")
    assert line.startswith(f"{replaces} x.A, x.C from a.yaml")
    (line,) = said("p.yaml", "r.yaml")
    assert line.startswith("tl: `model.init_args.penalties` of r.yaml replaces x.P from p.yaml")


def test_a_list_that_the_command_line_replaces_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text(
        "{trainer: {callbacks: [{class_path: x.A}, {class_path: x.B}]}, "
        "model: {init_args: {penalties: [{class_path: x.P}]}}}"
    )

    def said(*arguments: str) -> list[str]:
        check_files(["fit", f"--config={tmp_path / 'a.yaml'}", *arguments])
        return capsys.readouterr().err.replace(f"{tmp_path}/", "").splitlines()

    line = (
        "tl: `trainer.callbacks` of the command line replaces x.A, x.B from a.yaml; to append "
        "instead, write `--trainer.callbacks+=`."
    )
    assert said("--trainer.callbacks=x.C") == said("--trainer.callbacks", "null") == [line]
    assert said("--trainer.callbacks=[{class_path: x.A}]") == [line.replace("x.A, ", "")]
    assert said("--trainer.callbacks+=x.C", "--trainer.callbacks.init_args.y=1") == []
    (line,) = said("--trainer.plugins+=x.D", "--trainer.plugins=x.E")
    assert "`trainer.plugins` of the command line replaces x.D from the command line" in line
    (line,) = said("--model.init_args.penalties=x.Q")
    assert "`model.init_args.penalties` of the command line replaces x.P from a.yaml" in line
