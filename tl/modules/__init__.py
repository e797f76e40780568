"""The LightningModules."""

from tl.modules.multitask import MultiTaskModule
from tl.modules.transfer import TransferModule
from tl.optim.schedule import WarmupCosine

__all__ = ["MultiTaskModule", "TransferModule", "WarmupCosine"]
