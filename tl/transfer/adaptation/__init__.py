"""Adaptation to a domain without labels: while training, and at test time."""

from tl.transfer.adaptation.ada_bn import adapt_statistics
from tl.transfer.adaptation.base import Adaptation
from tl.transfer.adaptation.coral import CORAL
from tl.transfer.adaptation.dann import DANN
from tl.transfer.adaptation.mcc import MCC
from tl.transfer.adaptation.mk_mmd import MKMMD
from tl.transfer.adaptation.tent import TentNetwork

__all__ = ["CORAL", "DANN", "MCC", "MKMMD", "Adaptation", "TentNetwork", "adapt_statistics"]
