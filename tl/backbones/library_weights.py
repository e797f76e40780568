"""Weights of the networks of torchvision, timm and Hugging Face: find, load, record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models

from tl.backbones.offline import url_file


def torchvision_file(name: str, weights: str) -> tuple[Path, str]:
    """Find the file of weights given by name or path, and say what it is."""
    choices = models.get_model_weights(name)
    known = list(choices.__members__)
    if weights in known:
        chosen = choices[weights]
        return url_file(chosen.url, f"torchvision's {name}"), f"weights {chosen.name}"
    path = Path(weights).expanduser()
    if not path.suffix and not path.exists():
        raise ValueError(
            f"torchvision has no weights {weights!r} for {name}, only {', '.join(known)}; a file "
            "is named by its path."
        )
    return path, f"weights {path.name}"


def load(model: nn.Module, path: Path, last: str | None, note: str) -> dict[str, Any]:
    """Fill a network but for its last layer, and return the provenance."""
    from tl.transfer.weights import load_weights  # noqa: PLC0415 - it imports the backbones

    top = (last or "").partition(".")[0]
    kept = last is not None and any(
        n.startswith(f"{top}.") and not n.startswith(f"{last}.") for n in model.state_dict()
    )
    report = load_weights(
        model,
        path,
        # layers of a classifier that stay would not be looked for
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
) -> tuple[nn.Module, dict[str, Any]]:
    """Load a network from a folder, and return its provenance."""
    from tl.checkpoints.files import file_sha256, listed  # noqa: PLC0415 - as above

    model, found = transformers.AutoModel.from_pretrained(
        folder, local_files_only=True, output_loading_info=True, dtype=torch.float32
    )
    missing = sorted(found["missing_keys"])
    if missing and all(name.startswith("pooler.") for name in missing):
        model.pooler = None  # a classifier's checkpoint has none: its class token is the feature
    elif missing:
        raise ValueError(
            f"{folder}: the weights lack {listed(missing, 3)}; is it the folder of another network?"
        )
    files = [p for p in sorted(folder.iterdir()) if p.suffix in (".safetensors", ".bin")]
    loaded = {name: t for name, t in model.state_dict().items() if name not in missing}
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
