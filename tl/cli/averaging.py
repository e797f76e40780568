"""One checkpoint from several: WiSE-FT and model soups, with re-estimated statistics."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch import Tensor

from tl.callbacks import AtomicCheckpointIO
from tl.checkpoints.files import CheckpointError, listed, local_file, read_hashed
from tl.cli.devices import check_devices
from tl.data.trained_on import groups_by_task, regrouped, sources_of
from tl.modules.base import SharedBackboneModule
from tl.modules.batch import AnyBatch, by_source
from tl.runs.folders import build, configuration_of
from tl.tasks import deciding_score
from tl.transfer.freezing import is_batch_norm
from tl.transfer.names import is_adapter
from tl.transfer.provenance import source_record
from tl.transfer.source import rows_by_name
from tl.transfer.weight_space import (
    Soup,
    average_weights,
    check_alike,
    estimate_statistics,
    greedy_soup,
)

# Checkpoint entries that concern resuming.
_TRAINING = ("optimizer_states", "lr_schedulers", "loops", "callbacks", "MixedPrecision")
State = dict[str, Tensor]


def average_checkpoints(  # noqa: C901 - a sequence of checks
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    alpha: float | None = None,
    greedy: bool = False,
    backbone_only: bool = False,
    average_statistics: bool = False,
    configurations: Sequence[str | Path] = (),
    accelerator: str = "auto",
) -> str:
    """Average the weights of checkpoints of this framework and write the result.

    The result is a checkpoint of the last one's task: ``test`` and ``init_from`` accept it, and it
    records its ingredients. State outside backbone and heads, such as a balancer's, comes from the
    last one. With batch norm, running statistics are re-estimated on one epoch of the run's
    training images, not augmented, in its batches; so are those of every candidate of a greedy
    soup. WiSE-FT with all weight on one ingredient keeps its statistics.

    Heads are matched by class names, in the order of the last one.

    Args:
        paths: The checkpoints, two or more. For WiSE-FT the source first, the fine-tuned second.
        out: The file to write; it must not exist.
        alpha: WiSE-FT of two: weight of the second, 0 to 1. ``None`` weights all equally.
        greedy: Leave out checkpoints that worsen the score on the last one's validation images.
        backbone_only: Average only the backbones and keep the last one's heads. Otherwise tasks and
            classes must agree.
        average_statistics: Average the running statistics too, instead of re-estimating them.
        configurations: The run's configuration; ``config.yaml`` beside the last checkpoint's
            folder by default. Not read if no data are needed.
        accelerator: As of Lightning's Trainer.

    Returns:
        A report in lines of text.

    Raises:
        CheckpointError: If a file cannot be read or is not a checkpoint of this framework.
        ValueError: If the networks or their data are incompatible, have LoRA adapters, or an
            argument is invalid.
    """
    out = Path(out)
    if len(paths) < 2:  # noqa: PLR2004 - an average needs two
        raise ValueError(f"An average needs at least two checkpoints, got {len(paths)}.")
    if out.exists():
        raise ValueError(f"{out} already exists; choose another file with --out.")
    if alpha is not None and (len(paths) != 2 or not 0 <= alpha <= 1):  # noqa: PLR2004
        raise ValueError(
            f"`alpha` must be from 0 to 1 and needs exactly two checkpoints, got {alpha} and "
            f"{len(paths)} checkpoints."
        )
    paths = files = [local_file(path) for path in paths]
    read = [_read(path) for path in files]
    contents, hashes = [content for content, _ in read], [sha256 for _, sha256 in read]
    parts = [_averaged_part(content["state_dict"], backbone_only) for content in contents]
    for path, part in zip(paths, parts, strict=True):
        if any(is_adapter(name) for name in part):
            raise ValueError(
                f"{path} has LoRA adapters: averaging their factors does not average their "
                "products. Average runs of a network without adapters."
            )
    if not backbone_only:
        parts = [
            _by_class_names(Path(path), part, content, contents[-1])
            for path, part, content in zip(paths, parts, contents, strict=True)
        ]
    for path, part, content in zip(paths[:-1], parts[:-1], contents[:-1], strict=True):
        _check_fit(Path(path), part, Path(paths[-1]), parts[-1])
        _check_inputs(Path(path), content, contents[-1], backbone_only=backbone_only)
    normalised = any(name.endswith("running_mean") for name in parts[-1])
    bench = None
    if greedy or (normalised and not average_statistics):
        _check_data(paths, contents, greedy=greedy)
        files = [Path(path) for path in configurations] or [configuration_of(Path(paths[-1]))]
        bench = _Bench(contents[-1], files, accelerator, estimate=not average_statistics)

    soup: Soup | None = None
    weights = [1 / len(parts)] * len(parts) if alpha is None else [1 - alpha, alpha]
    if greedy and bench is not None:
        soup = greedy_soup(
            len(parts),
            lambda members: bench.score(average_weights(parts, _equal(members, len(parts)))),
            higher_is_better=bench.higher_is_better,
        )
        weights = _equal(soup.members, len(parts))
    state = average_weights(parts, weights)
    # a single network keeps its own, unless it was selected by scores with re-estimated ones
    estimates = bench is not None and (greedy or sum(weight > 0 for weight in weights) > 1)
    if bench is not None and estimates:
        state = bench.with_statistics(state)
    metric = bench.metric if bench is not None else "val/acc"
    record = _record(paths, hashes, contents, weights, alpha, soup, metric)
    record["statistics"] = bench.described() if bench is not None and estimates else None
    _write(out, contents[-1], state, record)
    return _summary(out, paths, weights, record, metric)


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """Read a checkpoint of this framework, with its hash."""
    content, sha256 = read_hashed(path)
    state = content.get("state_dict")
    if not isinstance(state, Mapping) or "tl" not in content:
        raise CheckpointError(
            f"{path}: is not a checkpoint of this framework; load plain weights with `init_from`, "
            "and average the checkpoints of that run."
        )
    return content, sha256


def _averaged_part(state: Mapping[str, Any], backbone_only: bool) -> State:
    wanted = ("backbone.",) if backbone_only else ("backbone.", "heads.")
    return {name: value for name, value in state.items() if name.startswith(wanted)}


def _check_fit(path: Path, part: State, last: Path, reference: State) -> None:
    heads = [_heads(part), _heads(reference)]
    if heads[0] != heads[1]:
        said = [", ".join(f"{n} {s}" for n, s in found.items()) for found in heads]
        raise ValueError(
            f"{path} has the heads {said[0]}, {last} has {said[1]}; only heads with the same "
            "tasks and classes can be averaged. Average only the backbones with --backbone-only, "
            "which keeps the last one's "
            "heads."
        )
    try:
        check_alike(part, reference)
    except ValueError as error:
        raise ValueError(f"{path} and {last}: {error}") from None


def _check_inputs(
    path: Path, content: Mapping[str, Any], last: Mapping[str, Any], *, backbone_only: bool
) -> None:
    """Refuse to average weights trained with different image sizes or normalisations.

    With `backbone_only`, a source and a target may each have the statistics of their images.
    """
    here, wanted = _sources(content), _sources(last)
    if len(here) == len(wanted) == 1:
        here = dict(zip(wanted, here.values(), strict=True))
    for name in [name for name in wanted if name in here]:
        sizes = [part[name].get("image_size") for part in (here, wanted)]
        if None not in sizes and sizes[0] != sizes[1]:
            raise ValueError(
                f"{path} was trained on images of {sizes[0]}x{sizes[0]} pixels, the last "
                f"checkpoint on {sizes[1]}x{sizes[1]}; only weights trained at the same size can "
                "be averaged."
            )
        for key in ("mean", "std"):
            one, other = here[name].get(key), wanted[name].get(key)
            if backbone_only or not one or not other or _alike(one, other):
                continue
            said = [", ".join(f"{value:.2f}" for value in found) for found in (one, other)]
            raise ValueError(
                f"{path} was trained on images normalised by the {key} {said[0]}, the last "
                f"checkpoint by {said[1]}; only heads with the same normalisation can be "
                "averaged. Average only the backbones with --backbone-only."
            )


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether statistics in pixel values, 0 to 255, are equal up to rounding."""
    return all(abs(a - b) < 0.05 for a, b in zip(one, other, strict=True))  # noqa: PLR2004 - as above


def _by_class_names(
    path: Path, part: State, content: Mapping[str, Any], last: Mapping[str, Any]
) -> State:
    """Rename and reorder heads to match the last checkpoint.

    Raises:
        ValueError: If a task's classes differ; lists both.
    """
    _check_groups(path, content, last)
    here, wanted = (dict(c["tl"].get("class_names") or {}) for c in (content, last))
    found = dict(part)
    if len(here) == len(wanted) == 1 and set(here) != set(wanted):
        [old], [new] = here, wanted  # the same task, whatever its name
        here = {new: here[old]}
        for kind in ("weight", "bias"):
            if f"heads.{old}.{kind}" in found:
                found[f"heads.{new}.{kind}"] = found.pop(f"heads.{old}.{kind}")
    for task, names in here.items():
        if not names or not wanted.get(task):
            continue
        try:
            rows = rows_by_name(names, wanted[task], f"The head of {task!r}")
        except ValueError:
            raise ValueError(
                f"{path} was trained on the classes {listed(list(names))} of {task!r}, the last "
                f"checkpoint on {listed(list(wanted[task]))}; only heads with the same classes "
                "can be averaged. Average only the backbones with --backbone-only."
            ) from None
        for key in (f"heads.{task}.weight", f"heads.{task}.bias"):
            if rows is not None and key in found:
                found[key] = found[key][rows]
    return found


def _heads(state: State) -> dict[str, tuple[int, ...]]:
    return {
        name.removeprefix("heads.").removesuffix(".weight"): tuple(value.shape)
        for name, value in state.items()
        if name.startswith("heads.") and name.endswith(".weight")
    }


def _sources(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return sources_of(content["tl"].get("data") or {})


def _fingerprints(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part.get("fingerprint") for name, part in _sources(content).items()}


def _check_groups(path: Path, content: Mapping[str, Any], last: Mapping[str, Any]) -> None:
    """Refuse heads whose groups have the same names but other members."""
    here, wanted = (groups_by_task(c["tl"].get("data") or {}) for c in (content, last))
    if len(here) == len(wanted) == 1:
        here = dict(zip(wanted, here.values(), strict=True))
    for task in here.keys() & wanted.keys():
        if moved := regrouped(here[task], wanted[task], "in the last one"):
            raise ValueError(
                f"{path} groups {len(moved)} classes differently from the last checkpoint: "
                f"{listed(moved)}; only heads with the same groups can be averaged. Average only "
                "the backbones "
                "with --backbone-only."
            )


def _check_data(
    paths: Sequence[str | Path], contents: Sequence[Mapping[str, Any]], *, greedy: bool
) -> None:
    """Refuse to select on images that an ingredient was trained on."""
    last = _fingerprints(contents[-1])
    for path, content in zip(paths, contents, strict=True):
        if greedy and (found := _fingerprints(content)) != last:
            raise ValueError(
                f"{path} was trained on {found}, {paths[-1]} on {last}: the validation images of "
                "one may be training images of the other, which would bias the selection. Train "
                "them on one split: the same --data.init_args.seed, val_size and label_fraction, "
                "with a different --seed_everything each."
            )


def _equal(members: Sequence[int], count: int) -> list[float]:
    return [1 / len(members) if position in members else 0.0 for position in range(count)]


class _Bench:
    """A run's network and data, to estimate an average's statistics and to validate it.

    Args:
        content: The last checkpoint.
        configurations: Its run's configuration.
        accelerator: As of Lightning's Trainer.
        estimate: Re-estimate running statistics.
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        configurations: Sequence[Path],
        accelerator: str,
        *,
        estimate: bool,
    ) -> None:
        module, self.data = build(configurations)
        if not isinstance(module, SharedBackboneModule):
            raise ValueError(  # noqa: TRY004 - a setting of the run
                f"{configurations[-1]}: `model` must be one of tl.modules, got "
                f"{type(module).__name__}."
            )
        self.module = module
        name, self.higher_is_better = deciding_score(module.tasks.values())
        self.metric = f"val/{name}"
        self.module.load_state_dict(content["state_dict"])
        self.estimate = estimate
        check_devices(accelerator)
        self.trainer = Trainer(
            accelerator=accelerator,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        self.data.prepare_data()
        record = content["tl"].get("data")
        if record and callable(adopt := getattr(self.data, "adopt", None)):
            adopt(record)  # the last one's training data and held-out images
        self.data.setup("validate")
        now, then = _fingerprints({"tl": {"data": self._description()}}), _fingerprints(content)
        if now != then:
            raise ValueError(
                f"The last checkpoint was trained on {then}, but {configurations[-1]} gives "
                f"{now}. Name its run's configuration with --config, and keep the data where it "
                "expects them."
            )

    def _description(self) -> dict[str, Any]:
        describe = getattr(self.data, "describe", None)
        return describe() if callable(describe) else {}

    def described(self) -> dict[str, Any]:
        """Describe what the statistics were estimated on."""
        return {"estimated_on": _fingerprints({"tl": {"data": self._description()}})}

    def with_statistics(self, state: State) -> State:
        """Return an average with re-estimated running statistics."""
        self._load(state)
        if self.estimate and any(map(is_batch_norm, self.module.backbone.modules())):
            device = self.trainer.strategy.root_device
            self.module.to(device).train()
            estimate_statistics(self.module.backbone, self._batches(device), self._features)
        everything = self.module.cpu().state_dict()
        return {name: everything[name].clone() for name in state}

    def score(self, state: State) -> float:
        """Return the deciding validation score of an average."""
        self._load(self.with_statistics(state))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about workers
            [metrics] = self.trainer.validate(self.module, self.data, verbose=False)
        return float(metrics[self.metric])

    def _load(self, state: State) -> None:
        self.module.cpu().load_state_dict({**self.module.state_dict(), **state})

    def _batches(self, device: torch.device) -> Iterator[AnyBatch]:
        loader = self.data.train_dataloader()
        for item in loader:
            batch = item[0] if isinstance(loader, CombinedLoader) else item
            moved = self.data.transfer_batch_to_device(batch, device, 0)
            yield self.data.on_after_batch_transfer(moved, 0)

    def _features(self, batch: AnyBatch) -> None:
        self.module.features({source: images for source, (images, _) in by_source(batch).items()})


def _record(
    paths: Sequence[str | Path],
    hashes: Sequence[str],
    contents: Sequence[Mapping[str, Any]],
    weights: Sequence[float],
    alpha: float | None,
    soup: Soup | None,
    metric: str,
) -> dict[str, Any]:
    """Return the provenance of the average in plain types."""
    method = "uniform soup" if alpha is None else f"WiSE-FT, alpha {alpha:g}"
    ingredients = []
    for position, (path, content) in enumerate(zip(paths, contents, strict=True)):
        source = source_record(content)
        kept = {key: source.get(key) for key in ("tasks", "data", "epoch", "global_step")}
        ingredients.append(
            {
                "path": Path(path).name,
                "sha256": hashes[position],
                "weight": weights[position],
                metric: None if soup is None else soup.alone[position],
                **kept,
                "parent": source.get("provenance"),
            }
        )
    return {
        "method": "greedy soup" if soup is not None else method,
        metric: None if soup is None else soup.accuracy,
        "ingredients": ingredients,
    }


def _write(out: Path, last: Mapping[str, Any], state: State, record: dict[str, Any]) -> None:
    content = {key: value for key, value in last.items() if key not in _TRAINING}
    content["state_dict"] = {**last["state_dict"], **state}
    # the running window of training and the reference of drift belong to a run
    kept = {k: v for k, v in last["tl"].items() if k not in ("window", "statistics", "metrics")}
    content["tl"] = {**kept, "provenance": record}
    AtomicCheckpointIO().save_checkpoint(content, out)


def _summary(
    out: Path,
    paths: Sequence[str | Path],
    weights: Sequence[float],
    record: dict[str, Any],
    metric: str,
) -> str:
    lines = [f"tl: {record['method']} of {len(paths)} checkpoints: {out}"]
    for path, weight, part in zip(paths, weights, record["ingredients"], strict=True):
        score = part[metric]
        said = "" if score is None else f" ({metric} {score:.4f})"
        lines.append(f"tl: {weight:.4g} x {path}{said}")
    if record[metric] is not None:
        lines.append(f"tl: {metric} {record[metric]:.4f}, on the images used to select it")
    if record["statistics"] is not None:
        lines.append("tl: batch-norm statistics re-estimated on the run's training images")
    return "\n".join(lines)
