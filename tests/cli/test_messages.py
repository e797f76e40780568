from __future__ import annotations

import errno
import importlib
import re
from typing import Any

import pytest
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, Dataset

from tl.cli.messages import did_you_mean, elsewhere, exception_line, one_line, parse_error_line
from tl.data.errors import DataError


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("batchsize", ["batch_size", "seed"], " Did you mean 'batch_size'?"),
        ("optimzer.class_path", ["optimizer"], " Did you mean 'optimizer'?"),
        ("colour", ["batch_size"], ""),
        ("precision", ["predictions", "trainer.precision"], " Did you mean 'trainer.precision'?"),
        ("a", [], ""),
    ],
)
def test_only_close_names_are_suggested(name: str, known: list[str], said: str) -> None:
    assert did_you_mean(name, known) == said


def test_lines_are_folded() -> None:
    assert one_line(" a\n  b\tc ") == "a b c"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            "Parser key \"data.batch_size\":\n  Expected a <class 'int'>. Got value: three",
            "data.batch_size: expected int, got three.",
        ),
        (
            (
                'Parser key "seed_everything":\n'
                "  Does not validate against any of the Union subtypes\n"
                "  Errors:\n    - Expected <class 'bool'>\n    - Expected <class 'int'>\n"
                "  Given value type: <class 'str'>\n  Given value: a"
            ),
            "seed_everything: expected true or false or int, got a.",
        ),
        (
            "Unrecognized arguments: --trainer.max_epoch=3",
            "unknown option --trainer.max_epoch. Did you mean 'trainer.max_epochs'?",
        ),
        ("Unrecognized arguments: --epoch=3", "unknown option --epoch. Did you mean 'epochs'?"),
        (
            "Unrecognized arguments: --batchsize=3",
            "unknown option --batchsize. Did you mean 'data.init_args.batch_size'?",
        ),
        ("the following arguments are required: fit.model", "give a configuration, such as "),
        (
            """Parser key "model":
Problem with given class_path 'torch.optim.SDG':
  module 'torch.optim' has no attribute 'SDG'""",
            "model: there is no torch.optim.SDG. Did you mean 'SGD'?",
        ),
        (
            "Parser key \"model\":\n  No module named 'tll'",
            "model: there is no module 'tll'; give a full class path.",
        ),
        (
            """Problem with given class_path 'tl.tasks.heads.linear_head':
  Option 'num_feature' is not accepted""",
            "tl.tasks.heads.linear_head has no option 'num_feature'. Did you mean 'num_features'?",
        ),
        (
            """Does not validate against any of the Union subtypes
Errors:
  - Not a valid subclass of Penalty. Got value: [Namespace(class_path='a.B')]
    Subclass types expect one of:
    - a class path (str)
    - a dict with class_path entry
  - `alpha` must be 0 or more, got -1.0.
  - Expected a <class 'NoneType'>""",
            "`alpha` must be 0 or more, got -1.0.",
        ),
        (
            (
                """Problem with given class_path 'tl.modules.MultiTaskModule':
  Parser key "optimizer":
    Type Callable expects a function or a callable class: Option 'lrr' is not accepted. """
                "Got value: Namespace(class_path='torch.optim.SGD', init_args=Namespace(lrr='1'))"
            ),
            "optimizer: torch.optim.SGD has no option 'lrr'. Did you mean 'lr'?",
        ),
        (
            """Parser key "model":
Problem with given class_path 'tl.modules.TransferModule':
  Option 'balancer.class_path' is not accepted""",
            (
                "model: tl.modules.TransferModule has no option 'balancer'. It is one of "
                "tl.modules.MultiTaskModule."
            ),
        ),
        (
            """Parser key "lr":
  Errors:
    - Expected a <class 'float'>
    - Not of type Tensor: new(): invalid data type 'str'
  Given value: fast""",
            "lr: expected float, got fast.",
        ),
        (
            """Parser key "trainer.callbacks":
  Errors:
    - Problem with given class_path 'lightning.pytorch.callbacks.EarlyStopping':
        the following arguments are required: monitor
    - Not a valid subclass of Callback
      - a class path (str)""",
            "trainer.callbacks: lightning.pytorch.callbacks.EarlyStopping needs monitor.",
        ),
        (
            """Parser key "trainer.callbacks":
    - Import path does not correspond to a subclass of Callback
  Given value: torch.nn.ReLU""",
            "trainer.callbacks: torch.nn.ReLU is not a subclass of Callback.",
        ),
        (
            """Parser key "trainer.precision":
  - Expected a typing.Literal['16-mixed', 'bf16-mixed']
  Given value: bf16-mixd""",
            (
                "trainer.precision: expected '16-mixed', 'bf16-mixed', got bf16-mixd. Did you mean "
                "'bf16-mixed'?"
            ),
        ),
        (
            """Parser key "model":
  Errors:
    - Problem with given class_path 'tl.modules.MultiTaskModule':
        the following arguments are required: backbone
    - Expected a <class 'NoneType'>""",
            "model: tl.modules.MultiTaskModule needs backbone.",
        ),
        (
            """Parser key "model":
  Errors:
    - Problem with given class_path 'tl.modules.TransferModule':
        Parser key "backbone":
          Import path pathlib.Path does not correspond to a subclass of Module
    - Expected a <class 'NoneType'>""",
            "model.backbone: pathlib.Path is not a subclass of Module.",
        ),
        (
            """Parser key "scheduler":
  Expected 'a.B' to be a subclass of Union[LRScheduler, ReduceLROnPlateau].. Got value: """,
            "scheduler: a.B is not a subclass of LRScheduler or ReduceLROnPlateau.",
        ),
        (
            """Problem with given class_path 'tl.modules.TransferModule':
  Option 'weight_deay' is not accepted. Got value: Namespace(class_path='torch.optim.SGD')""",
            "torch.optim.SGD has no option 'weight_deay'. Did you mean 'weight_decay'?",
        ),
        (
            """Parser key "data":
  Errors:
    - Not a valid subclass of LightningDataModule
      Subclass types expect one of:
      - a class path (str)
    - Expected a <class 'NoneType'>
  Given value: {'class_path': 'tl.data.CifarDataModule', 'root': 'data'}""",
            "data: give a class as `class_path`, its full path, and `init_args`, a map; 'root'",
        ),
        (
            "Parser key \"data\":\n  Errors:\n    - unhashable type: 'list'",
            "data: give a class as `class_path`",
        ),
        (
            "Parser key \"trainer.max_epochs\":\n  Expected a <class 'int'>\n  Given value: ",
            "trainer.max_epochs: expected int, got nothing.",
        ),
    ],
)
def test_the_parsers_trees_become_one_line(message: str, line: str) -> None:
    found = parse_error_line(message, ["trainer.max_epochs"])
    assert found.startswith(line)
    assert "\n" not in found


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a\n b"), "a b"),
        (KeyError("a"), "KeyError: 'a'"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (OSError(errno.ENOSPC, "No space left on device", "f.ckpt"), "f.ckpt: No space left on "),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied."),
        (TypeError("`devices` should be an int > 0."), "`devices` should be"),
        (TypeError("unsupported operand"), "TypeError: unsupported operand"),
        (MisconfigurationException("No `x` in\n the hooks."), "No `x` in the hooks."),
    ],
)
def test_exceptions_are_one_line(error: Exception, line: str) -> None:
    assert exception_line(error).startswith(line)


def test_an_error_in_a_worker_is_its_last_line() -> None:
    class Failing(Dataset[Any]):
        def __getitem__(self, _: int) -> Any:
            try:
                return dict[str, Any]()["inner"]
            except KeyError as error:
                raise DataError("a.png can no longer be\n  read (gone).") from error

        def __len__(self) -> int:
            return 1

    with pytest.raises(DataError, match="Traceback") as caught:
        next(iter(DataLoader(Failing(), num_workers=1)))
    assert exception_line(caught.value) == "a.png can no longer be read (gone)."


@pytest.mark.parametrize(
    "said",
    [
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader",
        (
            "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent "
            "call last):\n  File\nRuntimeError: unable to allocate shared memory(shm)"
        ),
    ],
)
def test_a_worker_without_shared_memory_says_what_helps(said: str) -> None:
    line = exception_line(RuntimeError(said))
    assert line.startswith("A loader's worker ran out of shared memory (/dev/shm). Lower `nu")


@pytest.mark.parametrize("given", ["PCgrad", "tl.balancing.PCgrad", "torchjd.aggregation.PCgrad"])
def test_a_misspelt_class_has_a_neighbour(given: str) -> None:
    importlib.import_module("torchjd.aggregation")
    module, _, name = given.rpartition(".")
    reason = (
        f"Problem with given class_path '{given}':\n    module '{module}' has no attribute '{name}'"
        if module
        else f"Expected a dot import path string: {name}"
    )
    line = parse_error_line(f'Parser key "balancer":\n  Errors:\n    - {reason}\n')
    assert re.search(r"there is no .*Did you mean '(torchjd.aggregation.)?PCGrad'", line), line


def test_a_class_in_a_misspelt_module_is_found() -> None:
    importlib.import_module("tl.backbones")
    line = parse_error_line(
        "Problem with given class_path 'tl.backbonez.ResNet20':\n  No module named 'tl.backbonez'"
    )
    assert "Did you mean 'tl.backbones.ResNet20'" in line


def test_what_data_refuse_while_they_are_asked_is_said_alone() -> None:
    link = "'functools.partial(<function f at 0x7f>, 'tasks')(data) --> model.init_args.tasks'"
    loaders = "({Train dataloader: size=44} {Validation dataloader: None} )"
    error = ValueError(f"Call to compute_fn of link {link} with args {loaders} failed: No groups.")
    error.__cause__ = ValueError("No groups.")
    assert exception_line(error) == "No groups."


def test_a_missing_package_is_told_without_the_type_of_its_error() -> None:
    error = ModuleNotFoundError("`--log wandb` needs wandb: pip install wandb.")
    assert exception_line(error) == str(error)
    assert exception_line(ModuleNotFoundError("No module named 'x'")).startswith("ModuleNotFound")


def test_an_option_of_another_section_is_named() -> None:
    assert elsewhere("batch_size") == " Did you mean 'data.init_args.batch_size'?"
    assert elsewhere("max_epochs", "tl.modules.TransferModule") == (
        " Did you mean 'trainer.max_epochs'?"
    )
    assert elsewhere("init_from", "tl.data.CifarDataModule") == (
        " Did you mean 'model.init_args.init_from'?"
    )
    rate = " Did you mean 'model.init_args.optimizer.init_args.lr'?"
    assert elsewhere("lr") == elsewhere("trainer.lr") == elsewhere("lr", "tl.modules.X") == rate
    assert elsewhere("trainer.batch_size") == elsewhere("batch_size")
    assert elsewhere("warmup").endswith("'model.init_args.scheduler.init_args.warmup'?")
    assert not elsewhere("trainer.max_epochs")
    assert not elsewhere("no_such_option")
    assert not elsewhere("shift", "tl.data.SyntheticTextDataModule")
