"""Images to batches."""

from tl.data.augment import Augment
from tl.data.base import ImageDataModule
from tl.data.cifar import CifarDataModule
from tl.data.errors import DataError
from tl.data.folder import FolderDataModule
from tl.data.generated import GeneratedDataModule
from tl.data.multitask import MultiTaskDataModule
from tl.data.tensors import TensorDataModule

__all__ = [
    "Augment",
    "CifarDataModule",
    "DataError",
    "FolderDataModule",
    "GeneratedDataModule",
    "ImageDataModule",
    "MultiTaskDataModule",
    "TensorDataModule",
]
