"""Transfer learning and multi-task learning with PyTorch Lightning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tl.cli.fitting import fit
    from tl.data import (
        CifarDataModule,
        CifarFewShotDataModule,
        CifarSubsetDataModule,
        CifarSuperclassesDataModule,
        CsvDataModule,
        DenseFolderDataModule,
        FolderDataModule,
        GeneratedDataModule,
        MultiTaskDataModule,
        SyntheticScenesDataModule,
        SyntheticTextDataModule,
        TensorDataModule,
        TextDataModule,
    )
    from tl.data.csv_images import from_csv
    from tl.modules import MultiTaskModule, TransferModule
    from tl.report.compare import compare
    from tl.serving.load import load
    from tl.tasks import (
        BYOL,
        BarlowTwins,
        BinaryMap,
        Classification,
        Depth,
        MaskedTokens,
        Normals,
        NTXent,
        Prototypes,
        Regression,
        Segmentation,
        Task,
        TwoViews,
        VICReg,
    )

__version__ = "0.1.0"

__all__ = [
    "BYOL",
    "BarlowTwins",
    "BinaryMap",
    "CifarDataModule",
    "CifarFewShotDataModule",
    "CifarSubsetDataModule",
    "CifarSuperclassesDataModule",
    "Classification",
    "CsvDataModule",
    "DenseFolderDataModule",
    "Depth",
    "FolderDataModule",
    "GeneratedDataModule",
    "MaskedTokens",
    "MultiTaskDataModule",
    "MultiTaskModule",
    "NTXent",
    "Normals",
    "Prototypes",
    "Regression",
    "Segmentation",
    "SyntheticScenesDataModule",
    "SyntheticTextDataModule",
    "Task",
    "TensorDataModule",
    "TextDataModule",
    "TransferModule",
    "TwoViews",
    "VICReg",
    "__version__",
    "compare",
    "fit",
    "from_csv",
    "load",
]

_HOME = {
    "BYOL": "tl.tasks",
    "BarlowTwins": "tl.tasks",
    "NTXent": "tl.tasks",
    "Prototypes": "tl.tasks",
    "TwoViews": "tl.tasks",
    "VICReg": "tl.tasks",
    "BinaryMap": "tl.tasks",
    "CifarDataModule": "tl.data",
    "CifarFewShotDataModule": "tl.data",
    "CifarSubsetDataModule": "tl.data",
    "CifarSuperclassesDataModule": "tl.data",
    "Classification": "tl.tasks",
    "CsvDataModule": "tl.data",
    "DenseFolderDataModule": "tl.data",
    "Depth": "tl.tasks",
    "FolderDataModule": "tl.data",
    "GeneratedDataModule": "tl.data",
    "MultiTaskDataModule": "tl.data",
    "MultiTaskModule": "tl.modules",
    "Normals": "tl.tasks",
    "Regression": "tl.tasks",
    "Segmentation": "tl.tasks",
    "SyntheticScenesDataModule": "tl.data",
    "MaskedTokens": "tl.tasks",
    "SyntheticTextDataModule": "tl.data",
    "Task": "tl.tasks",
    "TensorDataModule": "tl.data",
    "TextDataModule": "tl.data",
    "TransferModule": "tl.modules",
    "compare": "tl.report.compare",
    "fit": "tl.cli.fitting",
    "from_csv": "tl.data.csv_images",
    "load": "tl.serving.load",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    # imported when first used: `import tl` costs no torch
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
