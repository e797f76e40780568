"""One checkpoint from several: WiSE-FT, model soups, task arithmetic and TIES."""

from tl.runs.averaging.average import average_checkpoints
from tl.runs.averaging.merging import merge_checkpoints

__all__ = ["average_checkpoints", "merge_checkpoints"]
