"""What processes of tests import before they are forked; nothing may run, or start threads."""

from __future__ import annotations

from tl.private.deferred import import_lightly

import_lightly()

import lightning.pytorch  # noqa: E402, F401
import torchjd.aggregation  # noqa: E402, F401

import tl.balancing  # noqa: E402
import tl.callbacks  # noqa: E402
import tl.cli.running  # noqa: E402
import tl.data  # noqa: E402
import tl.modules  # noqa: E402
import tl.transfer.penalties  # noqa: E402, F401
