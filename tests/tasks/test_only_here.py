"""What is learned is known by the tasks: no other room writes down a loss, an answer or a score."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORDS = re.compile(r'argmax\(|cross_entropy|softmax|"acc"')
# what may stay, each with the reason
STAYS = {
    "tl/balancing/excess_mtl.py": "the method's weights of the tasks are a softmax",
    "tl/transfer/penalties/distillation.py": "the paper's loss is one of softened class logits",
    "tl/transfer/penalties/co_tuning.py": "the paper's loss is one of the source's classes",
    "tl/transfer/penalties/ewc.py": "the Fisher information is that of the source's class logits",
    "tl/transfer/channel_attention.py": "the paper's weights of channels are by the class loss",
    "tl/transfer/adaptation/dann.py": "the discriminator tells domains apart, not a task's classes",
    "tl/transfer/adaptation/mcc.py": "the paper's loss is one of softened class logits",
    "tl/transfer/adaptation/tent.py": "the paper's loss is the entropy of class logits",
    "tl/serving/card.py": "a model card's example, for use without tl",
    "tl/study/sections.py": "a study's score of old is told by its name, without importing torch",
    "tl/report/against_single.py": "reads the names of metrics in files, and no model code",
    "tl/report/intervals.py": "reads the names of metrics in files, and no model code",
}
# rooms that may stay whole
ROOMS = {"tl/questions/": "the papers' scores of features are formulas on classes, without a head"}


def lines_of_code(path: Path) -> list[str]:
    """Return a file's lines without comments and docstrings."""
    lines: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        text = token.string.startswith(('"""', 'r"""'))
        if token.type != tokenize.COMMENT and not text:
            lines[token.start[0]] = lines.get(token.start[0], "") + token.string.strip()
    return [*lines.values()]


def found_in(path: Path) -> list[str]:
    return [line for line in lines_of_code(path) if WORDS.search(line)]


def test_code_is_searched_and_prose_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('"""A softmax."""\nx = y.argmax(1)  # softmax\nz = "acc"\n')
    assert found_in(tmp_path / "a.py") == ["x=y.argmax(1)", 'z="acc"']


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(ROOT.glob("tl/**/*.py")) if ROOT / "tl" / "tasks" not in path.parents],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_no_other_room_knows_classes_or_accuracy(path: Path) -> None:
    found, name = found_in(path), path.relative_to(ROOT).as_posix()
    assert name.startswith(tuple(ROOMS)) or bool(found) == (name in STAYS), found
