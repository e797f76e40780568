"""CIFAR-10 and CIFAR-100."""

from tl.data.cifar.cifar import CifarDataModule

__all__ = ["CifarDataModule"]
