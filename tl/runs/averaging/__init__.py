"""One checkpoint from several: WiSE-FT and model soups."""

from tl.runs.averaging.average import average_checkpoints

__all__ = ["average_checkpoints"]
