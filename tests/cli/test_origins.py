from __future__ import annotations

from pathlib import Path

from tl.cli.origins import COMMAND_LINE, Origins


def origins(folder: Path, files: dict[str, str], *options: str) -> Origins:
    for name, content in files.items():
        (folder / name).write_text(content)
    first = [f"--config={folder / name}" for name in files if not name.startswith("part")]
    return Origins.of_command(["fit", *first, *options], {})


def test_the_last_source_decides(tmp_path: Path) -> None:
    files = {"a.yaml": "trainer: {max_epochs: 3, benchmark: true}", "b.yaml": "name: x"}
    found = origins(tmp_path, files, "--trainer.max_epochs", "5", "--trainer.min_epochs=-1")
    assert found.of("trainer.max_epochs") == [(str(tmp_path / "a.yaml"), 3), (COMMAND_LINE, 5)]
    assert found.of("trainer.min_epochs") == [(COMMAND_LINE, -1)]
    assert found.of("name") == [(str(tmp_path / "b.yaml"), "x")]
    assert found.of("trainer.max_steps") == []
    assert found.sources == [*(str(tmp_path / name) for name in files), COMMAND_LINE]


def test_short_forms_of_classes_are_the_same_keys(tmp_path: Path) -> None:
    files = {"a.yaml": "model: {class_path: x.M, init_args: {backbone: {class_path: x.B}}}"}
    found = origins(tmp_path, files, "--model.init_args.backbone=x.C", "--model.backbone.depth=2")
    assert [source for source, _ in found.of("model.init_args.backbone.class_path")] == [
        str(tmp_path / "a.yaml"),
        COMMAND_LINE,
    ]
    assert found.of("model.init_args.backbone.init_args.depth") == [(COMMAND_LINE, 2)]


def test_items_of_lists_keep_their_source(tmp_path: Path) -> None:
    files = {
        "a.yaml": "trainer: {callbacks: [{class_path: x.A, init_args: {n: 1}}]}",
        "b.yaml": "trainer: {callbacks+: [{class_path: x.B}]}",
    }
    options = ("--trainer.callbacks+=x.C", "--trainer.callbacks.init_args.n=2")
    found = origins(tmp_path, files, *options)
    key = "trainer.callbacks.{}.{}"
    assert found.of(key.format(0, "init_args.n")) == [(str(tmp_path / "a.yaml"), 1)]
    assert found.of(key.format(1, "class_path")) == [(str(tmp_path / "b.yaml"), "x.B")]
    assert found.of(key.format(2, "class_path")) == [(COMMAND_LINE, "x.C")]
    assert found.of(key.format(2, "init_args.n")) == [(COMMAND_LINE, 2)]
    replaced = origins(tmp_path, files, "--trainer.callbacks=[{class_path: x.D}]")
    assert replaced.of(key.format(0, "init_args.n")) == []
    assert origins(tmp_path, files, "--trainer.callbacks=null").of(key.format(1, "x")) == []


def test_a_file_in_place_of_a_section_is_the_source(tmp_path: Path) -> None:
    files = {"a.yaml": "data: part.yaml", "part.yaml": "{class_path: x.D, init_args: {root: y}}"}
    found = origins(tmp_path, files)
    assert found.of("data.init_args.root") == [(str(tmp_path / "part.yaml"), "y")]


def test_a_configuration_on_the_command_line_may_have_a_name() -> None:
    text = '{"name": "x"}'
    assert Origins.of_command(["fit", f"--config={text}"], {}).of("name") == [(COMMAND_LINE, "x")]
    named = Origins.of_command(["fit", "--config", text], {text: "usual recipe"})
    assert named.of("name") == [("usual recipe", "x")]
