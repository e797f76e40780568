"""Penalties: terms added to the loss while a target trains."""

from tl.transfer.penalties.base import Penalty, Start, Step
from tl.transfer.penalties.bss import BSS
from tl.transfer.penalties.co_tuning import CoTuning
from tl.transfer.penalties.delta import DELTA
from tl.transfer.penalties.distillation import Distillation
from tl.transfer.penalties.ewc import EWC
from tl.transfer.penalties.l2_sp import L2SP
from tl.transfer.penalties.lwf import LwF

__all__ = [
    "BSS",
    "DELTA",
    "EWC",
    "L2SP",
    "CoTuning",
    "Distillation",
    "LwF",
    "Penalty",
    "Start",
    "Step",
]
