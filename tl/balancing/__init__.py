"""How several task losses become one update."""

from tl.balancing.aggregation import GradientAggregation
from tl.balancing.balancer import BalancerSpec, make_balancer
from tl.balancing.base import Balancer, Rescale
from tl.balancing.dbmtl import DBMTL
from tl.balancing.dtp import DynamicTaskPrioritization
from tl.balancing.excess_mtl import ExcessMTL
from tl.balancing.gradnorm import GradNorm
from tl.balancing.independent import MoDo, SDMGrad
from tl.balancing.scalarization import LossWeighting
from tl.balancing.static_weights import StaticWeights
from tl.balancing.stch import STCH
from tl.balancing.uncertainty import Uncertainty

__all__ = [
    "DBMTL",
    "STCH",
    "Balancer",
    "BalancerSpec",
    "DynamicTaskPrioritization",
    "ExcessMTL",
    "GradNorm",
    "GradientAggregation",
    "LossWeighting",
    "MoDo",
    "Rescale",
    "SDMGrad",
    "StaticWeights",
    "Uncertainty",
    "make_balancer",
]
