"""Transfer learning and multi-task learning with PyTorch Lightning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tl.data import (
        CifarDataModule,
        FolderDataModule,
        GeneratedDataModule,
        MultiTaskDataModule,
        TensorDataModule,
    )
    from tl.modules import MultiTaskModule, TransferModule
    from tl.report.compare import compare
    from tl.tasks import Classification, Regression, Task

__version__ = "0.1.0"

__all__ = [
    "CifarDataModule",
    "Classification",
    "FolderDataModule",
    "GeneratedDataModule",
    "MultiTaskDataModule",
    "MultiTaskModule",
    "Regression",
    "Task",
    "TensorDataModule",
    "TransferModule",
    "__version__",
    "compare",
]

_HOME = {
    "CifarDataModule": "tl.data",
    "Classification": "tl.tasks",
    "FolderDataModule": "tl.data",
    "GeneratedDataModule": "tl.data",
    "MultiTaskDataModule": "tl.data",
    "MultiTaskModule": "tl.modules",
    "Regression": "tl.tasks",
    "Task": "tl.tasks",
    "TensorDataModule": "tl.data",
    "TransferModule": "tl.modules",
    "compare": "tl.report.compare",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    # imported when first used: `import tl` costs no torch
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
