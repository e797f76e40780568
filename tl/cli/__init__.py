"""The command line: ``python -m tl.cli fit --config configs/multitask.yaml``."""

from tl.cli.entry import main

__all__ = ["main"]
