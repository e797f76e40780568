"""Callbacks: dashboards, results, throughput, predictions, signals, checkpoints."""

from tl.callbacks.checkpoint import RunCheckpoint
from tl.callbacks.dashboard import Dashboard
from tl.callbacks.embedding_projector import EmbeddingProjector
from tl.callbacks.epoch_table import EpochTable
from tl.callbacks.gradient_diagnostics import GradientDiagnostics
from tl.callbacks.hyper_rule import HyperRuleLength
from tl.callbacks.interrupt import SaveOnSignal
from tl.callbacks.knn_monitor import KNNMonitor
from tl.callbacks.oracle_selection import OracleSelection
from tl.callbacks.overhead import NoProfiler, leave_out_empty_hooks
from tl.callbacks.predictions import PredictionWriter
from tl.callbacks.progress import RunProgressBar
from tl.callbacks.results import RunResults
from tl.callbacks.run_header import RunHeader
from tl.callbacks.same_checkpoint import SameCheckpoint
from tl.callbacks.source_accuracy import SourceAccuracy
from tl.callbacks.task_affinity import TaskAffinity
from tl.callbacks.test_time import AdaBN, Tent
from tl.callbacks.text_board import TextBoard
from tl.callbacks.throughput import Throughput
from tl.checkpoints.atomic_io import AtomicCheckpointIO

__all__ = [
    "AdaBN",
    "AtomicCheckpointIO",
    "Dashboard",
    "EmbeddingProjector",
    "EpochTable",
    "GradientDiagnostics",
    "HyperRuleLength",
    "KNNMonitor",
    "NoProfiler",
    "OracleSelection",
    "PredictionWriter",
    "RunCheckpoint",
    "RunHeader",
    "RunProgressBar",
    "RunResults",
    "SameCheckpoint",
    "SaveOnSignal",
    "SourceAccuracy",
    "TaskAffinity",
    "Tent",
    "TextBoard",
    "Throughput",
    "leave_out_empty_hooks",
]
