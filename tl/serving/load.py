"""A run or a checkpoint as a model that answers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import LightningArgumentParser
from torch import Tensor, nn

from tl.checkpoints.errors import CheckpointError
from tl.checkpoints.files import read_checkpoint
from tl.data.trained_on import sources_of
from tl.modules import MultiTaskModule, TransferModule
from tl.modules.base import SharedBackboneModule
from tl.modules.source_start import weights_follow
from tl.reading import bound_aliases
from tl.runs.same_run import configuration_in
from tl.serving.exported import is_export, read_export
from tl.serving.model import Model
from tl.serving.places import checkpoint_in, located
from tl.serving.quiet import quiet
from tl.serving.readers import Reader, reader_of
from tl.tasks import as_task


def load(
    path: str | Path,
    *,
    backbone: nn.Module | None = None,
    device: str | torch.device = "auto",
) -> Model:
    """Return the model of a run or checkpoint, ready to answer.

    Classes, image size, normalisation and tokenizer are those in the checkpoint. No code from the
    file runs, and neither training data nor network are needed.

    Args:
        path: A run folder (its best checkpoint is taken), a folder of runs (the newest), a
            checkpoint, its ``https://`` address, an export, or a repository of the Hugging Face
            Hub with one checkpoint or an export, as ``hf-hub:user/repository``.
        backbone: The network, for a checkpoint that was saved by a script of one's own and so does
            not know how its network is built.
        device: Where it computes; ``auto`` takes a GPU if there is one.

    Returns:
        A model with ``predict``, ``embed``, ``evaluate``, ``class_names`` and ``transform``.

    Raises:
        CheckpointError: If the file is missing, damaged, unsafe or not one of a model.
        ValueError: If the network is unknown, or does not fit the weights.
    """
    # what a path can be is decided here, and nowhere else
    place = located(path)
    if not is_export(place):
        place = checkpoint_in(place)
    return _of_checkpoint(place, backbone, torch_device(device))


def torch_device(device: str | torch.device) -> torch.device:
    """Return a device; ``auto`` is a GPU if there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def _of_checkpoint(file: Path, backbone: nn.Module | None, device: torch.device) -> Model:
    """Build the model of a checkpoint, or of the folder of an export."""
    content = read_export(file) if file.is_dir() else read_checkpoint(file)
    record = content.get("tl")
    if not isinstance(record, Mapping) or not record.get("tasks") or "state_dict" not in content:
        raise CheckpointError(
            f"{file}: holds weights but no tasks, so it cannot answer; start a run from it by "
            "`init_from`, or load a checkpoint (.ckpt) that tl has written."
        )
    module = _module(content, record, file, backbone)
    _take_weights(module, content["state_dict"], file)
    described = record.get("data")
    described = described if isinstance(described, Mapping) else {}
    parts = sources_of(described)
    readers: dict[str | None, Reader] = {name: reader_of(part) for name, part in parts.items()}
    readers = readers or {None: reader_of({})}
    names = record.get("class_names") or {}
    metrics = record.get("metrics") or {}
    return Model(module, readers, names, file, metrics, device, described)


def _module(
    content: Mapping[str, Any], record: Mapping[str, Any], file: Path, backbone: nn.Module | None
) -> SharedBackboneModule:
    """Build the module as its run did, without reading the source of its weights."""
    tasks = [as_task(task) for task in record["tasks"]]
    configuration = configuration_in(content, file) or {}
    model = configuration.get("model")
    # a network says that its weights are random, and those of the file follow
    with weights_follow(), quiet("lightning.pytorch.utilities.rank_zero"):
        if backbone is not None:
            if len(tasks) == 1:
                return TransferModule(backbone, tasks[0])
            return MultiTaskModule(backbone, tasks)
        if not isinstance(model, Mapping):
            raise ValueError(  # noqa: TRY004 - the file is wrong, not a type
                f"{file}: does not describe its network, because it was saved without the command "
                "line; give it: tl.load(path, backbone=...)."
            )
        return _built(model, [task.record() for task in tasks])


def _built(model: Mapping[str, Any], tasks: list[dict[str, Any]]) -> SharedBackboneModule:
    """Build a module from its section of a configuration, without what only trains."""
    arguments = dict(model.get("init_args") or {})
    left_out = (
        *("init_from", "init_heads", "penalties", "compile", "cuda_graph", "balancer"),
        *("tasks", "task"),
    )
    for name in left_out:
        arguments.pop(name, None)
    bound_aliases()
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(SharedBackboneModule, "model", subclass_mode=True)
    if "task" in parameters_of(str(model.get("class_path"))):
        arguments["task"] = tasks[0]
    else:
        arguments["tasks"] = tasks
    given = {"model": {"class_path": model.get("class_path"), "init_args": arguments}}
    built = parser.instantiate_classes(parser.parse_object(given))
    module: SharedBackboneModule = built.model
    return module


def parameters_of(class_path: str) -> Mapping[str, Any]:
    """Return the constructor's parameters of a class by its path."""
    home, _, name = class_path.rpartition(".")
    return inspect.signature(getattr(import_module(home), name)).parameters


def _take_weights(module: SharedBackboneModule, state: Mapping[str, Tensor], file: Path) -> None:
    """Load all weights of backbone and heads; what only trains is left out.

    Raises:
        ValueError: If any is missing, left over or of another shape; names the first.
    """
    used = {k: v for k, v in state.items() if k.startswith(("backbone.", "heads."))}
    wanted = {k: v for k, v in module.state_dict().items() if k.startswith(("backbone.", "heads."))}
    wrong = [
        *(f"{k} is missing" for k in wanted.keys() - used.keys()),
        *(f"{k} is left over" for k in used.keys() - wanted.keys()),
        *(
            f"{k} has the shape {tuple(used[k].shape)}, expected {tuple(v.shape)}"
            for k, v in wanted.items()
            if k in used and used[k].shape != v.shape
        ),
    ]
    if wrong:
        raise ValueError(
            f"{file}: the weights do not fit {type(module.backbone).__name__}: "
            f"{min(wrong)}{f' ({len(wrong)} such)' if len(wrong) > 1 else ''}."
        )
    module.load_state_dict(used, strict=False)
