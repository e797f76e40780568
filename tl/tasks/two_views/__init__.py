"""Self-supervised tasks on two views of each image."""

from tl.tasks.two_views.barlow_twins import BarlowTwins, barlow_twins
from tl.tasks.two_views.base import TwoViews
from tl.tasks.two_views.byol import BYOL, byol
from tl.tasks.two_views.nt_xent import NTXent, nt_xent
from tl.tasks.two_views.vicreg import VICReg, vicreg

__all__ = [
    "BYOL",
    "BarlowTwins",
    "NTXent",
    "TwoViews",
    "VICReg",
    "barlow_twins",
    "byol",
    "nt_xent",
    "vicreg",
]
