"""The configuration of a run on a folder or a table: from a source's run, or the usual one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tl.checkpoints.files import read_checkpoint
from tl.counting import counted
from tl.data import CsvDataModule, FolderDataModule
from tl.data.images.layout import find_layout
from tl.data.images.listing import list_images
from tl.data.naming import name_of_folder, name_of_table, plain_name
from tl.data.text.table import read_table
from tl.data.trained_on import sources_of
from tl.reading import shown
from tl.runs.same_run import configuration_in
from tl.serving.places import checkpoint_in, located

_TABLES = (".csv", ".tsv", ".jsonl")
_LOOKED_AT = 20  # images, for their size
_FEW = 2000  # images, of which larger batches would make few steps
_SIZES = (32, 64, 128)  # pixels; the networks of this framework train on small images
_DATA = ("batch_size", "eval_batch_size", "augment", "val_size", "num_workers", "sampling")
_MODEL = (
    *("backbone", "optimizer", "scheduler", "scheduler_interval", "label_smoothing"),
    *("channels_last", "compile", "cuda_graph"),
)
_TRAINER = (
    *("max_epochs", "gradient_clip_val", "accumulate_grad_batches", "benchmark"),
    "log_every_n_steps",
)


def recipe(place: str, source: str | None) -> tuple[dict[str, Any], str]:
    """Return the configuration that trains a classifier on a folder or a table.

    Args:
        place: A folder of class folders, with or without ``train`` and ``test``; or a table.
        source: A run, checkpoint or repository whose weights, backbone and recipe to start from.

    Returns:
        The configuration, and a line that says what was chosen.

    Raises:
        ValueError: If the place is neither, or the source's recipe is not known.
    """
    path = Path(place).expanduser()
    if not path.exists():
        raise ValueError(f"{place}: no such folder or table of images.")
    table = path.is_file()
    if table and path.suffix.lower() not in _TABLES:
        raise ValueError(f"{place} is not a folder or a table ({', '.join(_TABLES)}).")
    options: dict[str, Any] = {"root": str(path.parent if table else path)}
    if table:
        options["table"] = path.name
        images = [] if source else _in_table(path)
        return around(CsvDataModule, options, name_of_table(path), images, source)
    find_layout(path)  # names what is wrong with it
    images = [] if source else list_images(path)
    return around(FolderDataModule, options, name_of_folder(path), images, source)


def around(
    kind: type[Any], options: dict[str, Any], name: str, images: Sequence[Path], source: str | None
) -> tuple[dict[str, Any], str]:
    """Return the configuration that trains on a data module.

    Args:
        kind: Class of the data module, a dataclass.
        options: Its options; they go before those of the recipe.
        name: Name of the run.
        images: Its images, as far as they are known.
        source: As for :func:`recipe`.

    Returns:
        The configuration, and a line that says what was chosen.
    """
    single = kind is FolderDataModule
    known = {field.name for field in fields(kind)}
    resizes = "size" in known  # the others have the size of CIFAR
    if source is None:
        size = options.get("size") if resizes else _SIZES[0]
        chosen, line = _usual(images, size, single=single, resizes=resizes)
    else:
        chosen, line = _of_source(source, single=single, resizes=resizes)
    usual = {key: value for key, value in chosen["data"].items() if key in known}
    data = {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": usual | options}
    named = {"name": plain_name(name) or "run", "seed_everything": 0}
    return {**named, **chosen, "data": data}, line


def source_checkpoint(source: str) -> Path:
    """Return the checkpoint that a run, a checkpoint or a repository stands for."""
    return checkpoint_in(located(source))


def _in_table(path: Path) -> list[Path]:
    """Return the paths in the column of a table that names files; in its first column without."""
    columns = read_table(path).columns.values()
    named = [[path.parent / str(cell or "") for cell in cells] for cells in columns]
    return next((paths for paths in named if any(map(_is_file, _some(paths)))), named[0])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a text that is too long for a name
        return False


def _some(paths: Sequence[Path]) -> Sequence[Path]:
    return paths[:: max(1, len(paths) // _LOOKED_AT)][:_LOOKED_AT]


def _usual(
    images: Sequence[Path], given: int | None, *, single: bool, resizes: bool
) -> tuple[dict[str, Any], str]:
    """Return a recipe for training from scratch."""
    sides = []
    for image in _some(images):
        try:
            with Image.open(image) as opened:
                sides.append(min(opened.size))
        except OSError:  # the data module names it
            continue
    typical = sorted(sides)[len(sides) // 2] if sides else _SIZES[1]
    fits = next((known for known in _SIZES if typical <= 1.5 * known), _SIZES[-1])
    size = given or fits
    few = len(images) < _FEW
    network = "ResNet18" if torch.cuda.is_available() else "ResNet20"
    model = {
        "backbone": {"class_path": f"tl.backbones.{network}"},
        # as robust to what is learned as any: SGD at a usual rate diverges on numbers
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
        "scheduler": {"class_path": "tl.modules.WarmupCosine", "init_args": {"warmup": 0.1}},
    }
    data = {
        "size": size,
        "batch_size": 32 if few else 128,
        "augment": {"padding": size // 8, "flip": True},
    }
    found = {
        "data": data,
        "model": {"class_path": _module(single=single), "init_args": model},
        "trainer": {
            "max_epochs": 30,
            "gradient_clip_val": 1.0,
            "log_every_n_steps": 1 if few else 10,
        },
    }
    on = f" on {size}x{size} pixels" if resizes else ""
    line = (
        f"{network} from scratch{on}, 30 epochs of AdamW, unless options say "
        "otherwise; --from RUN starts from a run's weights."
    )
    return found, line


def _of_source(source: str, *, single: bool, resizes: bool) -> tuple[dict[str, Any], str]:
    """Return the recipe of a source's run, with its weights."""
    file = source_checkpoint(source)
    content = read_checkpoint(file)
    configuration = configuration_in(content, file) or {}
    model = (configuration.get("model") or {}).get("init_args") or {}
    if not model.get("backbone"):
        raise ValueError(
            f"{file}: does not record its backbone and recipe, because the command line did not "
            "train it; give a configuration with --config and the weights with "
            "--model.init_args.init_from."
        )
    options = (configuration.get("data") or {}).get("init_args") or {}
    sources = list((options.get("sources") or {}).values())
    inner = (sources[0].get("init_args") or {}) if sources else {}
    options = {**inner, **{k: v for k, v in options.items() if v is not None}}
    trainer = configuration.get("trainer") or {}
    described = (content.get("tl") or {}).get("data")
    part = next(iter(sources_of(described).values()), {})
    data = {key: options[key] for key in _DATA if options.get(key) is not None}
    if isinstance(size := part.get("image_size"), int):
        data["size"] = size
    kept = {key: model[key] for key in _MODEL if model.get(key) is not None}
    found = {
        "data": data,
        "model": {
            "class_path": _module(single=single),
            "init_args": {**kept, "init_from": str(file)},
        },
        "trainer": {key: trainer[key] for key in _TRAINER if trainer.get(key) is not None},
    }
    said = [_named(model["backbone"]), _named(kept.get("optimizer")), _named(kept.get("scheduler"))]
    pixels = f"{data['size']}x{data['size']} pixels" if resizes and "size" in data else ""
    count = trainer.get("max_epochs")
    epochs = counted(count, "epoch") if count else ""
    parts = ", ".join(filter(None, [*said, pixels, epochs]))
    return found, f"{parts}, as in {shown(file)}, whose weights the backbone starts from."


def _module(*, single: bool) -> str:
    """Return the class of the module; a table may have several tasks."""
    return "tl.modules.TransferModule" if single else "tl.modules.MultiTaskModule"


def _named(part: object) -> str:
    """Return the name of a class with its learning rate."""
    if not isinstance(part, Mapping):
        return ""
    rate = (part.get("init_args") or {}).get("lr")
    name = str(part.get("class_path")).rpartition(".")[2]
    return f"{name} (lr {rate:g})" if isinstance(rate, int | float) else name
