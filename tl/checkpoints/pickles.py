"""List what a pickle references, without loading it."""

from __future__ import annotations

import io
import pickletools
import zipfile
from typing import BinaryIO

import torch

from tl.private.torch import REBUILDS

_MIB = 2**20


def refused_globals(file: BinaryIO) -> list[str]:
    """List the classes and functions in a checkpoint that weights-only loading refuses.

    Args:
        file: The open checkpoint, at its beginning.
    """
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # noqa: BLE001  # not a zip archive, a newer pickle protocol, or damaged
        file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            entry = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            pickled = archive.read(entry)
    except Exception:  # noqa: BLE001  # not a zip archive, or damaged
        file.seek(0)
        pickled = file.read(64 * _MIB)
    names = _named(pickled)
    harmless = (REBUILDS, "collections.OrderedDict")
    return sorted(n for n in names if not n.startswith(harmless) and not n.endswith("Storage"))


def _named(pickled: bytes) -> set[str]:
    """List the classes and functions that consecutive pickles reference, without loading them."""
    names: set[str] = set()
    stream = io.BytesIO(pickled)
    try:
        while True:  # the legacy format is several pickles, then the tensors' bytes
            strings: list[str] = []
            memo: list[str] = []
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name in {"GLOBAL", "INST"}:
                    names.add(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    names.add(".".join(strings[-2:]))
                elif opcode.name == "MEMOIZE":
                    memo.append(strings[-1] if strings else "")
                elif opcode.name in {"BINGET", "LONG_BINGET"} and isinstance(argument, int):
                    strings.extend(memo[argument : argument + 1])
                elif isinstance(argument, str):
                    strings.append(argument)
    except ValueError:
        return names
