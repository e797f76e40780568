"""What watches a run: dashboards, results, throughput, predictions, signals, checkpoints."""

from tl.callbacks.atomic_io import AtomicCheckpointIO
from tl.callbacks.checkpoint import RunCheckpoint
from tl.callbacks.dashboard import Dashboard
from tl.callbacks.gradient_diagnostics import GradientDiagnostics
from tl.callbacks.hyper_rule import HyperRuleLength
from tl.callbacks.interrupt import SaveOnSignal, StoppedBySignal, stop_on_signals
from tl.callbacks.predictions import PredictionWriter
from tl.callbacks.results import RunResults
from tl.callbacks.same_checkpoint import SameCheckpoint
from tl.callbacks.source_accuracy import SourceAccuracy
from tl.callbacks.throughput import Throughput

__all__ = [
    "AtomicCheckpointIO",
    "Dashboard",
    "GradientDiagnostics",
    "HyperRuleLength",
    "PredictionWriter",
    "RunCheckpoint",
    "RunResults",
    "SameCheckpoint",
    "SaveOnSignal",
    "SourceAccuracy",
    "StoppedBySignal",
    "Throughput",
    "stop_on_signals",
]
