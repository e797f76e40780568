"""Transfer: how source weights are loaded, and what is kept of them."""

from tl.checkpoints.files import CheckpointError, file_sha256, read_checkpoint
from tl.transfer.freezing import (
    FullFineTuning,
    GradualUnfreezing,
    LayerWiseDecay,
    LinearProbe,
    Strategy,
    SurgicalFineTuning,
)
from tl.transfer.hyper_rule import BiTHyperRule
from tl.transfer.lp_ft import LPFT, ProbeThenCosine
from tl.transfer.partial_tuning import BitFit, NormTuning
from tl.transfer.stoch_norm import StochNorm
from tl.transfer.weights import TransferReport, WeightsMismatchError, load_weights

__all__ = [
    "LPFT",
    "BiTHyperRule",
    "BitFit",
    "CheckpointError",
    "FullFineTuning",
    "GradualUnfreezing",
    "LayerWiseDecay",
    "LinearProbe",
    "NormTuning",
    "ProbeThenCosine",
    "StochNorm",
    "Strategy",
    "SurgicalFineTuning",
    "TransferReport",
    "WeightsMismatchError",
    "file_sha256",
    "load_weights",
    "read_checkpoint",
]
