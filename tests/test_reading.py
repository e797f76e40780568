from __future__ import annotations

import os
from argparse import ArgumentError
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser

from tl.cli.configuration import check_files
from tl.data.errors import DataError
from tl.data.images.decoding import open_image
from tl.data.images.image_set import Reading, load_images
from tl.reading import bound_aliases, check_regular, read_text, read_yaml
from tl.runs.folders import build


def bomb() -> str:
    lines = ["a0: &a0 [1, 1]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]
    return "\n".join(lines)


def test_files_and_folders_pass_and_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: é", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == {"name": "é"}
    for path in (tmp_path, tmp_path / "a.yaml", tmp_path / "none", "{a: 1}", "\0", "x" * 9999):
        check_regular(path)


@pytest.mark.parametrize(
    "read", [check_regular, read_text, read_yaml, open_image, lambda path: build([path])]
)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    with pytest.raises(ValueError, match=r"a\.yaml is a pipe or a device, not a regular file"):
        read(tmp_path / "a.yaml")


@pytest.mark.parametrize("given", ["--config={}", "--data={}", "--data.init_args.groups={}", "{}"])
def test_an_option_that_names_a_pipe_is_refused(tmp_path: Path, given: str) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(ValueError, match="is a pipe or a device"):
        check_files(["fit", given.format(tmp_path / "a")])
    (tmp_path / "run.yaml").write_text("data: a")
    with pytest.raises(ValueError, match="is a pipe or a device"):
        check_files(["fit", f"--config={tmp_path / 'run.yaml'}"])


@pytest.mark.parametrize("device", [False, True])
def test_an_image_that_is_a_pipe_is_named(tmp_path: Path, device: bool) -> None:
    path = tmp_path / "a.jpg"
    if device:
        path.symlink_to("/dev/zero")  # it never ends
    else:
        os.mkfifo(path)
    with pytest.raises(DataError, match=r"a\.jpg \(is a pipe or a device, not a regular file\)"):
        load_images([path], Reading(8), "images")


def test_aliases_are_bounded_wherever_yaml_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(bomb())
    for read in (read_yaml, lambda path: build([path])):
        with pytest.raises(ValueError, match="unfolds to more than 100,000 values"):
            read(path)
    path.write_text("[" * 5000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_yaml(path)


def test_aliases_in_options_and_fragments_are_bounded() -> None:
    bound_aliases()
    bound_aliases()  # once is enough
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--a", type=dict)
    assert parser.parse_args(["--a={b: &x [1], c: *x}"]).a == {"b": [1], "c": [1]}
    with pytest.raises(ArgumentError, match="unfolds to more than 100,000 values"):
        parser.parse_args(["--a", bomb()])


def test_a_name_that_appears_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("vary:\n  method:\n    full: a.yaml\n    full: b.yaml\n")
    with pytest.raises(yaml.YAMLError, match=r"'full' appears twice(.|\n)*line 4, column 5"):
        read_yaml(path)
    path.write_text("- &one {x: 1}\n- [{y: *one, y: 2}]\n")
    with pytest.raises(yaml.YAMLError, match="'y' appears twice"):
        read_yaml(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1: a\n'1': b\n",
        "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n",
        "a: &a {x: 1}\nb: {c: &c {<<: *a, x: 2}}\nd: {<<: *c}\n",
        "a: &a {x: 1}\nb: {<<: *a, <<: {y: 2}}\n",
    ],
)
def test_what_is_merged_may_have_the_names_of_the_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert read_yaml(path) == yaml.safe_load(text)
