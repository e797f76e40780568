"""Load weights from a checkpoint into a backbone: match, check, load, report."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tl.backbones.streams import StreamsBackbone
from tl.checkpoints.files import listed
from tl.transfer.names import (
    CONTAINERS,
    Targets,
    find_state,
    find_target,
    targets_of,
    uncompiled,
    unwrapped,
)
from tl.transfer.opened import Source, opened
from tl.transfer.provenance import TransferReport, source_record
from tl.transfer.weight_checks import (
    WeightsMismatchError,
    check_statistics,
    check_surplus,
    converted,
    found_fraction,
)

__all__ = ["TransferReport", "WeightsMismatchError", "load_weights"]


def load_weights(
    backbone: nn.Module,
    path: Source,
    *,
    rename: Mapping[str, str] | None = None,
    reinit: Sequence[str] = (),
    min_fraction: float = 0.9,
) -> TransferReport:
    """Load a checkpoint's weights into a backbone; everything is checked before anything changes.

    The checkpoint may come from this framework, or be a plain state dict of PyTorch or safetensors,
    also under a key such as ``state_dict`` or ``model``. Prefixes of wrappers (``module.``,
    ``_orig_mod.``, ``model.``, ``net.``, ``encoder.``, ``backbone.``) are removed until a name
    fits. Names of Hugging Face's ResNets
    and language models are translated. Heads (``fc``, ``head``, ``heads``,
    ``classifier``) are never loaded into the backbone, unless they are below ``backbone.`` or
    renamed by ``rename``.

    A network with a stream for each task takes the weights of one like it, or of a single network:
    these start its shared network, or each of its networks; what else it has stays as it is.

    Args:
        backbone: The module to fill, compiled or not.
        path: The checkpoint, its address (``https://``), a Hugging Face folder with
            ``config.json`` and weights, or a checkpoint that is open already.
        rename: Beginnings of names in the checkpoint and what they are called in the backbone, in
            whole parts: ``encoder_q: ""`` removes ``encoder_q.``, ``"": model`` prepends
            ``model.``. Tried on names with and without wrappers' prefixes; the longest match
            counts.
        reinit: Beginnings of names in the backbone, in whole parts, that keep their initial values,
            such as ``conv1`` if the stem differs.
        min_fraction: Smallest fraction of the wanted values that must be found, and of the file's
            values in the same parts that must fit the backbone. Below 0.9 it is rarely the same
            network.

    Returns:
        What was loaded, and what was not.

    Raises:
        CheckpointError: If the file cannot be read.
        WeightsMismatchError: If it does not fit the backbone.
    """
    if not 0 < min_fraction <= 1:
        raise ValueError(f"`min_fraction` must be above 0 and at most 1, got {min_fraction}.")
    source = opened(path)
    file, content, sha256 = source.read()
    if isinstance(backbone, StreamsBackbone):
        state = find_state(content) or {}
        if not holds_streams(state.keys(), backbone):
            first = backbone.networks()[0]
            return spread(backbone, load_weights(first, source, rename=rename, reinit=reinit))
    targets = targets_of(backbone, reinit)
    try:
        state = _state(content)
        matches, unused = _match(state, targets, rename or {})
        fraction = found_fraction(matches, unused, targets, min_fraction)
        check_surplus(matches, unused, targets, rename or {}, min_fraction)
        check_statistics(matches, targets)
        values = converted(state, matches, targets)
    except WeightsMismatchError as error:
        raise WeightsMismatchError(f"{file}: {error}") from None
    # Nothing has changed so far. The full state keeps what is tied, left out or not a tensor.
    full = backbone.state_dict()
    for name in full:
        if (target := targets.keys.get(uncompiled(name))) in values:
            full[name] = values[target]
    backbone.load_state_dict(full)
    left = {name: t.numel() for name, t in targets.tensors.items() if name not in values}
    return TransferReport(
        path=str(file),
        sha256=sha256,
        loaded=tuple(values),
        reinitialised=tuple(left),
        unused=tuple(unused),
        fraction=fraction,
        source=source_record(content),
        values={
            "loaded": {name: value.numel() for name, value in values.items()},
            "re-initialised": left,
            "unused": unused,
        },
    )


def _state(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state dict in a checkpoint."""
    state = find_state(content)
    if state is None:
        raise WeightsMismatchError(
            f"has no weights, only {listed(content) or 'an empty dict'}; expected a state dict, or "
            f"one under {', '.join(CONTAINERS)}."
        )
    return {str(name): value for name, value in state.items()}


def _match(
    state: Mapping[str, Any], targets: Targets, rename: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, int]]:
    """Return the source name of each target, and the sizes of the leftovers."""
    claims: dict[str, list[tuple[str, str, str | None]]] = {}
    applied: set[str] = set()
    reached: set[str] = set()
    for name, value in state.items():
        target, entry = find_target(name, targets.keys, rename)
        if entry is not None:
            (applied if target is None else reached).add(entry)
        if target is not None and isinstance(value, Tensor):
            claims.setdefault(targets.keys[target], []).append((name, target, entry))
    for entry in rename:
        if entry not in reached:
            what = (
                f"maps to names under {rename[entry]!r} that the backbone does not have"
                if entry in applied
                else "matches no name in the checkpoint"
            )
            raise WeightsMismatchError(
                f"the entry {entry!r} of `rename` {what}; the file begins with "
                f"{listed(state, 3)} and the backbone with {listed(targets.keys, 3)}"
            )
    matches: dict[str, str] = {}
    used: set[str] = set()
    for target, every in claims.items():
        # An explicit `rename` takes precedence over a removed prefix.
        claimants = [claim for claim in every if claim[2] is not None] or every
        (name, spelling, _), *others = claimants
        for other, other_spelling, _ in others:
            tied = spelling != other_spelling and _equal(state[name], state[other])
            if not tied:
                raise WeightsMismatchError(
                    f"{listed([name])} and {listed([other])} both match {target}; choose one with "
                    "`rename`, or save only the right one."
                )
        if target not in targets.left_out:
            matches[target] = name
            used.update(claim[0] for claim in claimants)
    sizes = {
        name: value.numel() if isinstance(value, Tensor) else 0
        for name, value in state.items()
        if name not in used
    }
    return {target: matches[target] for target in targets.tensors if target in matches}, sizes


def _equal(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors are equal in type, shape and value."""
    return a.dtype == b.dtype and torch.equal(a, b)


def holds_streams(names: Collection[str], backbone: StreamsBackbone) -> bool:
    """Return whether a file has all that the streams of a backbone are made of."""
    there = {spelling for name in names for spelling in unwrapped(name)}
    return {name for name, _ in backbone.named_parameters()} <= there


def spread(backbone: StreamsBackbone, report: TransferReport) -> TransferReport:
    """Copy the weights that its first network has got to the others.

    Args:
        backbone: The backbone; changed in place.
        report: What was loaded into the first network.

    Returns:
        What was loaded into the backbone, by its names.
    """
    first, *others = backbone.networks()
    for other in others:
        other.load_state_dict(first.state_dict())
    names = {id(module): name for name, module in backbone.named_modules()}
    prefixes = [f"{names[id(network)]}." for network in (first, *others)]
    loaded = [f"{prefix}{name}" for prefix in prefixes for name in report.loaded]
    found = set(loaded)
    sizes = {k: v.numel() for k, v in backbone.state_dict().items() if isinstance(v, Tensor)}
    left = {name: size for name, size in sizes.items() if name not in found}
    return replace(
        report,
        loaded=tuple(loaded),
        reinitialised=tuple(left),
        values={
            **report.values,
            "loaded": {name: sizes[name] for name in loaded},
            "re-initialised": left,
        },
    )
