"""Weights of the networks of torchvision, timm and Hugging Face: find, load, record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models

from tl.backbones.offline import hub_file, url_file


def torchvision_file(name: str, weights: str) -> tuple[Path, str]:
    """Return the file of weights given by name or path, and a description of it.

    Args:
        name: A network of torchvision.
        weights: A name of its weights, or the path of a file.

    Raises:
        ValueError: If torchvision does not have them.
    """
    choices = models.get_model_weights(name)
    known = list(choices.__members__)
    if weights in known:
        chosen = choices[weights]
        return url_file(chosen.url, f"torchvision's {name}"), f"weights {chosen.name}"
    path = Path(weights).expanduser()
    if not path.suffix and not path.exists():
        raise ValueError(
            f"torchvision has no weights {weights!r} for {name}, only {', '.join(known)}; for "
            "a file, give its path."
        )
    return path, f"weights {path.name}"


def timm_file(model: Any, name: str, weights: str) -> Path:  # noqa: ANN401 - untyped
    """Return the file of weights of a network of timm.

    Args:
        model: The network.
        name: Its name.
        weights: ``DEFAULT``, or the path of a file or of a folder with ``model.safetensors``.

    Raises:
        ValueError: If timm has none, or they cannot be downloaded.
    """
    if weights == "DEFAULT":
        repository = model.pretrained_cfg.get("hf_hub_id")
        if not repository:
            raise ValueError(f"timm has no weights for {name}; set `weights` to a file.")
        return hub_file(str(repository), "model.safetensors")
    path = Path(weights).expanduser()
    inside = path / "model.safetensors"
    return inside if inside.is_file() else path


def last_linear(model: nn.Module) -> str | None:
    """Return the name of a network's last linear layer; ``None`` if it has none."""
    names = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    return names[-1] if names else None


def load(model: nn.Module, path: Path, last: str | None, note: str) -> dict[str, Any]:
    """Load weights into all of a network but its last layer, and return their provenance.

    Args:
        model: The network; changed in place.
        path: The file.
        last: Name of the last layer; ``None`` if the network does not have it.
        note: A description for the provenance.
    """
    from tl.transfer.weights import load_weights  # noqa: PLC0415 - it imports the backbones

    top = (last or "").partition(".")[0]
    kept = last is not None and any(
        n.startswith(f"{top}.") and not n.startswith(f"{last}.") for n in model.state_dict()
    )
    report = load_weights(
        model,
        path,
        # otherwise the remaining layers of a classifier would not be loaded
        rename={top: top} if kept else {},
        reinit=[last] if last is not None else [],
    )
    record = report.record()
    record["reinitialised"] = [
        name for name in record["reinitialised"] if last is None or not name.startswith(f"{last}.")
    ]
    return {**record, "note": note}


def load_folder(
    transformers: Any,  # noqa: ANN401 - a module
    folder: Path,
    note: str,
    config: Any = None,  # noqa: ANN401 - untyped
    *,
    pooler: bool = True,
) -> tuple[nn.Module, dict[str, Any]]:
    """Return a network of Transformers with the weights of a folder, and their provenance.

    Args:
        transformers: The library.
        folder: The folder.
        note: A description for the provenance.
        config: Configuration; that of the folder by default.
        pooler: Keep the network's pooler, if the folder has its weights.

    Raises:
        ValueError: If the folder does not hold all other weights of the network.
    """
    from tl.checkpoints.files import file_sha256, listed  # noqa: PLC0415 - as above

    model, found = transformers.AutoModel.from_pretrained(
        folder, config=config, local_files_only=True, output_loading_info=True, dtype=torch.float32
    )
    if missing := sorted(n for n in found["missing_keys"] if not n.startswith("pooler.")):
        raise ValueError(
            f"{folder}: the weights lack {listed(missing, 3)}; do they belong to another network?"
        )
    # a classifier's checkpoint has none: its class token is the feature
    if found["missing_keys"] or (not pooler and hasattr(model, "pooler")):
        model.pooler = None
    # others may lie beside them, of an optimizer or an adapter
    patterns = ("model*.safetensors", "pytorch_model*.bin")
    files = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    loaded = model.state_dict()
    record: dict[str, Any] = {
        "path": files[0].name,
        "sha256": file_sha256(files[0]),
        "loaded": {"tensors": len(loaded), "values": sum(t.numel() for t in loaded.values())},
        "reinitialised": [],
        "unused": sorted(found["unexpected_keys"]),
        "parent": None,
        "note": note,
    }
    return model, record
