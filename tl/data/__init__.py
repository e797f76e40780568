"""Samples to batches."""

from tl.data.base import ImageDataModule
from tl.data.cifar.cifar import CifarDataModule
from tl.data.cifar.few_shot import CifarFewShotDataModule
from tl.data.cifar.subset import CifarSubsetDataModule
from tl.data.cifar.superclasses import CifarSuperclassesDataModule
from tl.data.csv_images import CsvDataModule
from tl.data.dense.folder import DenseFolderDataModule
from tl.data.errors import DataError
from tl.data.folder import FolderDataModule
from tl.data.images.augment import Augment
from tl.data.images.views import Views
from tl.data.multitask import MultiTaskDataModule
from tl.data.synthetic.generated import GeneratedDataModule
from tl.data.synthetic.rooms import SyntheticScenesDataModule
from tl.data.tensors import TensorDataModule
from tl.data.text.files import TextDataModule
from tl.data.text.synthetic import SyntheticTextDataModule

__all__ = [
    "Augment",
    "CifarDataModule",
    "CifarFewShotDataModule",
    "CifarSubsetDataModule",
    "CifarSuperclassesDataModule",
    "CsvDataModule",
    "DataError",
    "DenseFolderDataModule",
    "FolderDataModule",
    "GeneratedDataModule",
    "ImageDataModule",
    "MultiTaskDataModule",
    "SyntheticScenesDataModule",
    "SyntheticTextDataModule",
    "TensorDataModule",
    "TextDataModule",
    "Views",
]
