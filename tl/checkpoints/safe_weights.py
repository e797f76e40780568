"""A network's weights as safetensors, with their provenance in the header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

# What the header keeps of the checkpoint's record under `tl`, and of its other entries.
_RECORD = ("tasks", "class_names", "data", "provenance")
_PROGRESS = ("epoch", "global_step", "pytorch-lightning_version")
_SUM = "tl_sha256"


def to_safetensors(checkpoint: Mapping[str, Any]) -> bytes:
    """Return the weights in a checkpoint as the content of a safetensors file.

    Names are those of the module's ``state_dict``; tied tensors are written separately. The
    header's metadata are JSON by key: ``tasks``, ``class_names``, ``data``, ``provenance``,
    ``epoch`` and ``global_step``. A checksum in the header covers names, values and metadata.

    Args:
        checkpoint: A checkpoint as dumped by the Trainer.
    """
    tensors: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, value in checkpoint["state_dict"].items():
        if not isinstance(value, Tensor):
            continue
        plain = value.detach().cpu().contiguous()
        storage = plain.untyped_storage()
        if storage.data_ptr() in taken or storage.nbytes() != plain.nbytes:
            plain = plain.clone()  # tensors in safetensors may not share memory
        taken.add(plain.untyped_storage().data_ptr())
        tensors[name] = plain
    record = checkpoint.get("tl", {})
    kept = {key: record[key] for key in _RECORD if key in record}
    kept |= {key: checkpoint[key] for key in _PROGRESS if key in checkpoint}
    metadata = {"format": "pt", **{key: json.dumps(value) for key, value in kept.items()}}
    return safetensors.torch.save(tensors, {**metadata, _SUM: _digest(tensors, metadata)})


def from_safetensors(content: bytes) -> dict[str, Any]:
    """Return the content of a safetensors file.

    Returns:
        The tensors by name; for a file from :func:`to_safetensors`, the parts of the checkpoint:
        ``state_dict``, ``tl``, ``epoch`` and ``global_step``.

    Raises:
        ValueError: If its checksum does not match. A damaged file may raise anything.
    """
    tensors = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata: dict[str, str] = header.get("__metadata__") or {}
    found = metadata.pop(_SUM, None)
    if found is None:
        return tensors
    if found != _digest(tensors, metadata):
        raise ValueError("its content does not match the checksum in it")
    record = {key: json.loads(metadata[key]) for key in _RECORD if key in metadata}
    progress = {key: json.loads(metadata[key]) for key in _PROGRESS if key in metadata}
    return {"state_dict": tensors, "tl": record, **progress}


def checksum_of(content: bytes) -> str | None:
    """Return the checksum in a file from :func:`to_safetensors`; ``None`` if it is damaged."""
    try:
        from_safetensors(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return str(header["__metadata__"][_SUM])
    except Exception:  # noqa: BLE001 - a damaged file may raise anything
        return None


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Hash names, types, shapes, values and metadata, independent of their order in the file."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        if value.numel():
            digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
