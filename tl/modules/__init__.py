"""The LightningModules."""

from tl.modules.multitask import MultiTaskModule
from tl.modules.schedule import WarmupCosine
from tl.modules.transfer import TransferModule

__all__ = ["MultiTaskModule", "TransferModule", "WarmupCosine"]
