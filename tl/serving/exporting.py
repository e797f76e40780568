"""Write a trained model as a folder that others can use: graphs, weights, description, card."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tl import __version__
from tl.checkpoints.files import read_hashed
from tl.checkpoints.safe_weights import to_safetensors
from tl.data.trained_on import sources_of
from tl.runs.folders import run_folder_of
from tl.runs.same_run import configuration_in
from tl.serving.card import ModelCard
from tl.serving.exported import CONFIG, FORMAT, KEY, WEIGHTS
from tl.serving.graphs import Graphs
from tl.serving.load import load
from tl.serving.model import Model
from tl.serving.program import ExportError
from tl.serving.raw_inputs import tokenizer_file
from tl.serving.run_scores import run_scores
from tl.serving.training import training_said
from tl.transfer.lineage import lineage

PROGRAM, ONNX, TOKENIZER, CARD = "model.pt2", "model.onnx", "tokenizer.json", "README.md"
# of a module's arguments, those that its network needs
_NETWORK = ("backbone", "batch_norm", "channels_last")
# of the descriptions of data, what says where they lay, and what other entries hold too
_LEFT_OUT = ("root", "class_names", "groups", "tokenizer")


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        folder: The folder.
        files: Names of its files.
        problems: Why a format is missing, a line each.
        difference: Largest difference between the graphs' answers and the live model's.
    """

    folder: Path
    files: tuple[str, ...]
    problems: tuple[str, ...]
    difference: float


def export(
    path: str | Path,
    out: str | Path,
    *,
    backbone: nn.Module | None = None,
    onnx: bool = False,
    licence: str | None = None,
    source: str | None = None,
    shape: Sequence[int] | None = None,
) -> Export:
    """Write the model of a run or checkpoint as a folder.

    ``model.pt2`` (torch.export: raw inputs in, answers by task out, any number of samples),
    ``model.safetensors``, ``config.json`` and a card, ``README.md``. The graphs' answers are
    compared with the live model's before anything is written, and the folder is complete or absent.

    Args:
        path: What :func:`tl.load` takes.
        out: A folder that does not exist, or is empty.
        backbone: As for :func:`tl.load`.
        onnx: Also write ``model.onnx``, with the class names in its metadata; needs
            ``pip install 'tl[onnx]'``.
        licence: Licence of the weights, as the card states it.
        source: The source whose tasks the graphs answer, where sources have different inputs.
        shape: Shape of a sample, where the checkpoint does not describe its data.

    Raises:
        ValueError: If `out` holds something, sources have different inputs, or a graph's answers
            are not the model's.
    """
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; choose another folder.")
    model = load(path, backbone=backbone, device="cpu")
    if model.path.is_dir():
        raise ValueError(f"{model.path} is an export already; export the checkpoint instead.")
    content, digest = read_hashed(model.path)
    parts = sources_of(content["tl"].get("data"))
    class_names = content["tl"].get("class_names") or {}
    graphs = Graphs(model, parts, source, shape)
    files: dict[str, bytes] = {}
    problems: list[str] = []
    makers = {PROGRAM: graphs.pt2} | ({ONNX: lambda: graphs.onnx(class_names)} if onnx else {})
    for name, make in makers.items():
        try:
            files[name] = make()
        except ExportError as error:
            problems.append(f"{name} was not written: {error}")
    files[WEIGHTS] = to_safetensors(_without_roots(content))
    if graphs.raw is not None and graphs.raw.kind == "texts":
        files[TOKENIZER] = tokenizer_file(parts[source or next(iter(parts))])
    config = _config(model, content, digest, graphs, source)
    files[CONFIG] = (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
    run = run_folder_of(model.path)
    card = ModelCard(
        name=run.parent.name if run is not None else model.path.stem,
        config=config,
        licence=licence,
        files=tuple(files),
        problems=tuple(problems),
        scores=run_scores(model.path, config["metrics"]),
        lineage=lineage(model.path).table(),
        frozen=training_said(model.module, content, configuration_in(content, model.path) or {}),
    )
    files[CARD] = card.text().encode()
    with _whole(folder) as unfinished:
        for name, data in files.items():
            (unfinished / name).write_bytes(data)
    return Export(folder, tuple(files), tuple(problems), graphs.difference)


def _config(
    model: Model, content: Mapping[str, Any], digest: str, graphs: Graphs, source: str | None
) -> dict[str, Any]:
    """Return what ``config.json`` holds."""
    record, raw = content["tl"], graphs.raw
    answers = {} if raw is None else graphs.batch(2)[1]
    parts = sources_of(record.get("data"))
    names = record.get("class_names") or {}
    return {
        KEY: FORMAT,
        "versions": {"tl": __version__, "torch": torch.__version__},
        "checkpoint": {
            "file": model.path.name,
            "sha256": digest,
            "epoch": content.get("epoch"),
            "step": content.get("global_step"),
        },
        "architecture": {
            "name": type(model.module.backbone).__name__,
            "parameters": sum(p.numel() for p in model.module.parameters()),
        },
        "network": _network(configuration_in(content, model.path) or {}),
        "kind": None if raw is None else raw.kind,
        "inputs": None if raw is None else raw.record(),
        "named_inputs": raw is not None and not raw.single,
        "source": source,
        "tasks": {
            name: {
                "record": task.record(),
                "answers": task.answers,
                "shape": [*answers[name].shape[1:]] if name in answers else None,
                "class_names": list(names[name]) if name in names else None,
            }
            for name, task in model.module.tasks.items()
        },
        "metrics": {k: float(v) for k, v in (record.get("metrics") or {}).items()},
        "data": {
            name: {k: v for k, v in part.items() if k not in _LEFT_OUT}
            for name, part in parts.items()
        },
        "provenance": record.get("provenance"),
    }


def _network(configuration: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the section of a configuration that builds the network; ``None`` if unknown."""
    model = configuration.get("model")
    if not isinstance(model, Mapping):
        return None
    arguments = model.get("init_args") or {}
    kept = {key: arguments[key] for key in _NETWORK if key in arguments}
    return {"class_path": model.get("class_path"), "init_args": kept}


def _without_roots(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint without the folders that its data lay in."""
    record = content["tl"]
    described = record.get("data")
    if isinstance(described, Mapping) and "fingerprint" in described:
        described = {k: v for k, v in described.items() if k != "root"}
    elif isinstance(described, Mapping):
        described = {
            name: {k: v for k, v in part.items() if k != "root"} for name, part in described.items()
        }
    return {**content, "tl": {**record, "data": described}}


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """Give a folder to write to, which takes its name when everything is written."""
    unfinished = folder.absolute().with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
