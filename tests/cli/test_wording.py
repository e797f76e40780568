"""Each pattern matches the message that its library really gives."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import signal_handling

from tl.callbacks import GradientDiagnostics
from tl.cli import messages, wording


class Inner:
    def __init__(self, size: int = 1) -> None:
        self.size = size


class Outer:
    def __init__(self, inner: Inner | None = None) -> None:
        self.inner = inner


def parser() -> ArgumentParser:
    made = ArgumentParser(exit_on_error=False)
    made.add_argument("--number", type=int)
    made.add_argument("--either", type=int | list[int])
    made.add_argument("--choice", type=Literal["a", "b"])
    made.add_argument("--module", type=nn.Module)
    made.add_argument("--perhaps", type=nn.Module | None)
    made.add_argument("--outer", type=Outer)
    made.add_argument("--optimizer", type=Callable[[Any], Optimizer])
    made.add_argument("--config", action="config")
    return made


def said(*arguments: str) -> str:
    with pytest.raises(ArgumentError) as refused:
        parser().parse_args(arguments)
    return str(refused.value)


LINEAR = "torch.nn.Linear"


@pytest.mark.parametrize(
    ("pattern", "arguments", "found"),
    [
        ("PARSER_KEY", ["--number=x"], "number"),
        ("VALUE", ["--number=x"], "x"),
        ("EXPECTED", ["--number=x"], "int"),
        ("EXPECTED", ["--choice=c"], ""),
        ("NESTED_OPTION", ["--either.a=3"], "a"),
        ("CLASS_AT_FAULT", ["--module=torch.nn.Lineer"], "torch.nn.Lineer"),
        ("NO_ATTRIBUTE", ["--module=torch.nn.Lineer"], "torch.nn"),
        ("NO_MODULE", ["--module=torchh.nn.Linear"], "torchh"),
        ("NOT_ACCEPTED", ["--module=torch.nn.ReLU", "--module.colour=1"], "colour"),
        ("UNRECOGNIZED", ["--nubmer=3"], "--nubmer=3"),
        ("REQUIRED", ["--module", LINEAR], None),
        ("WRONG_KIND", ["--module=torch.optim.SGD"], "torch.optim.SGD"),
        ("WRONG_KIND", ["--optimizer=torch.nn.ReLU"], "torch.nn.ReLU"),
        ("NO_PATH", ["--module=Lineer"], "Lineer"),
        ("NO_CLASS", ["--module=Lineer"], None),
        ("REASON", ["--perhaps=[3]"], None),
        ("CLASS_GIVEN", ["--perhaps", "{class_path: torch.nn.Lineer}"], "torch.nn.Lineer"),
    ],
)
def test_jsonargparse_says_so(pattern: str, arguments: list[str], found: str | None) -> None:
    message = said(*arguments)
    match = getattr(wording, pattern).search(message)
    assert match, f"{pattern} does not match jsonargparse's message:\n{message}"
    if found is not None:
        assert (match.group(1) or "") == found


def test_a_verb_says_which_option_it_lacks(tmp_path: Path) -> None:
    made = ArgumentParser(exit_on_error=False)
    made.add_argument("--config", action="config")
    made.add_subcommands().add_subcommand("fit", parser())
    (tmp_path / "a.yaml").write_text("fit: {nubmer: 3}")
    with pytest.raises(ArgumentError) as refused:
        made.parse_args(["--config", str(tmp_path / "a.yaml"), "fit"])
    assert wording.UNKNOWN_TO_VERB.findall(str(refused.value)) == ["nubmer"]


def refuse(_: object) -> None:
    raise ValueError("No groups.")


def test_a_link_that_failed_says_so_and_why() -> None:
    made = ArgumentParser(exit_on_error=False)
    made.add_class_arguments(Inner, "one")
    made.add_class_arguments(Inner, "two")
    made.link_arguments("one.size", "two.size", compute_fn=refuse, apply_on="instantiate")
    with pytest.raises(ValueError, match=wording.LINK_FAILED) as refused:
        made.instantiate_classes(made.parse_args([]))
    assert messages.exception_line(refused.value) == "No groups."


def test_callbacks_whose_states_cannot_be_told_apart_are_named(tmp_path: Path) -> None:
    twice: list[Callback] = [GradientDiagnostics(50), GradientDiagnostics(100)]
    with pytest.raises(RuntimeError) as refused:
        Trainer(default_root_dir=tmp_path, logger=False, callbacks=twice)
    assert wording.SAME_STATE.match(str(refused.value))
    line = "`trainer.callbacks` has GradientDiagnostics more than once; keep one of them."
    assert messages.exception_line(refused.value) == line


class Failing(Dataset[Any]):
    """Items that a worker cannot deliver."""

    def __init__(self, *, killed: bool) -> None:
        self.killed = killed

    def __getitem__(self, _: int) -> Any:
        if self.killed:
            os.kill(os.getpid(), signal.SIGBUS)
        raise LookupError("a.png is gone.")

    def __len__(self) -> int:
        return 1


def test_a_worker_says_what_it_said() -> None:
    with pytest.raises(LookupError) as caught:
        next(iter(DataLoader(Failing(killed=False), num_workers=1)))
    assert wording.IN_WORKER.match(str(caught.value))
    assert messages.exception_line(caught.value) == "LookupError: a.png is gone."


def test_a_worker_that_the_kernel_ended_says_by_what(monkeypatch: pytest.MonkeyPatch) -> None:
    # The end of an earlier `fit` took torch's handler away, and torch would not set it anew.
    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)
    for _ in range(5):  # on a busy machine torch may notice the end before its signal
        with pytest.raises(RuntimeError) as caught:
            next(iter(DataLoader(Failing(killed=True), num_workers=1)))
        told = [str(error) for error in (caught.value, caught.value.__cause__)]
        if any(wording.NO_SHARED_MEMORY.search(" ".join(text.split())) for text in told):
            break
    else:
        pytest.fail(f"torch no longer says by what a worker was ended: {told}")
    assert messages.exception_line(caught.value).startswith("A loader's worker ran out of shared")


def test_weights_of_another_network_are_listed() -> None:
    with pytest.raises(RuntimeError) as refused:
        nn.Linear(2, 2).load_state_dict({"weight": torch.zeros(1), "other": torch.zeros(1)})
    message = str(refused.value)
    assert {kind for kind, _ in wording.KEYS.findall(message)} == {"Missing", "Unexpected"}
    assert wording.SHAPES.findall(message) == ["weight"]


def test_every_pattern_is_fed_and_messages_hold_no_other() -> None:
    names = {name for name, value in vars(wording).items() if isinstance(value, re.Pattern)}
    fed = Path(__file__).read_text()
    assert {name for name in names if name not in fed} == set()
    assert "import re\n" not in Path(messages.__file__).read_text()
