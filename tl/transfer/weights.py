"""Load weights from a checkpoint into a backbone: match, check, load, report."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tl.backbones.streams import StreamsBackbone
from tl.checkpoints.files import CheckpointError, listed
from tl.transfer.names import (
    CONTAINERS,
    Targets,
    find_state,
    find_target,
    is_adapter,
    spellings,
    targets_of,
    top_level_part,
    uncompiled,
)
from tl.transfer.opened import Source, opened
from tl.transfer.provenance import TransferReport, source_record
from tl.transfer.stream_weights import holds_streams, spread

__all__ = ["TransferReport", "WeightsMismatchError", "load_weights"]

_CONVOLUTION = 3  # dimensions of its weight, or more


class WeightsMismatchError(CheckpointError):
    """A checkpoint is readable but does not fit the backbone."""


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
        fraction = _fraction(matches, unused, targets, min_fraction)
        _check_surplus(matches, unused, targets, rename or {}, min_fraction)
        _check_statistics(matches, targets)
        values = _converted(state, matches, targets)
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


def _wanted(targets: Targets) -> dict[str, int]:
    """Return the sizes of the tensors that a checkpoint should fill."""
    return {
        name: tensor.numel()
        for name, tensor in targets.tensors.items()
        if name not in targets.left_out and not _is_optional(name)
    }


def _is_optional(name: str) -> bool:
    """Return whether a value may be absent.

    Counters; statistics per source, which can be replaced by their mixture; adapters, which start
    at zero.
    """
    last = name.rpartition(".")[2]
    return (
        is_adapter(name)
        or last == "num_batches_tracked"
        or last.startswith(("running_mean_", "running_var_"))
    )


def _fraction(
    matches: Mapping[str, str], unused: Mapping[str, int], targets: Targets, min_fraction: float
) -> float:
    """Return the fraction of the wanted values that was found; refuse if it is too small."""
    wanted = _wanted(targets)
    found = {name: size for name, size in wanted.items() if name in matches}
    total = sum(wanted.values())
    if not total:
        raise WeightsMismatchError("nothing to load: the backbone has no values but `reinit`'s.")
    fraction = sum(found.values()) / total
    if fraction < min_fraction:
        missing = [name for name in wanted if name not in found]
        raise WeightsMismatchError(
            f"fills {sum(found.values()):,} of the {total:,} wanted values ({len(found)} of "
            f"{len(wanted)} tensors), less than {min_fraction:.0%}; missing: {listed(missing)}; "
            f"unused in the file: {listed(unused) or 'none'}; choose the backbone it was trained "
            "with, map names with `rename`, or exclude parts with `reinit`."
        )
    return fraction


def _check_surplus(
    matches: Mapping[str, str],
    unused: Mapping[str, int],
    targets: Targets,
    rename: Mapping[str, str],
    min_fraction: float,
) -> None:
    """Refuse a different network that mostly fits, recognised by its surplus in the same parts.

    Each layer of a ResNet-18 is found in a ResNet-34, and with ``shortcut`` in place of
    ``downsample`` all but 2 % of the values fit.
    """
    if adapters := [name for name in unused if is_adapter(name)]:
        raise WeightsMismatchError(
            f"has LoRA adapters, such as {listed(adapters, 1)}, for which the backbone has no "
            "place; without them it is a different network. Wrap it in a LoraBackbone, or save "
            "what its `merged()` returns."
        )
    parts = {top_level_part(target) for target in _wanted(targets)}
    surplus: dict[str, int] = {}
    crowded: set[str] = set()
    for name, size in unused.items():
        found = {top_level_part(spelling) for spelling, _ in spellings(name, rename)} & parts
        if _is_optional(name) or not size or not found:
            continue
        if find_target(name, targets.keys, rename)[0] is None:
            surplus[name] = size
            crowded |= found
    missing = [name for name in _wanted(targets) if name not in matches]
    if misnamed := [name for name in missing if top_level_part(name) in crowded]:
        raise WeightsMismatchError(
            f"has no {listed(misnamed, 3)} but, in the same parts, {listed(surplus, 3)}; map "
            "these names with `rename`, or exclude the backbone's with `reinit`."
        )
    used = sum(targets.tensors[target].numel() for target in matches)
    if used < min_fraction * (used + sum(surplus.values())):
        raise WeightsMismatchError(
            f"the backbone has no room for {sum(surplus.values()):,} values in {len(surplus)} "
            f"tensors of its own parts, such as {listed(surplus, 3)}; is this checkpoint from a "
            "deeper network? Choose that backbone."
        )


def _check_statistics(matches: Mapping[str, str], targets: Targets) -> None:
    """Refuse batch norm with new statistics under old weights: eval-mode features are wrong."""
    missing = [
        name
        for name in targets.tensors
        if name.endswith(("running_mean", "running_var"))
        and name not in matches
        and name not in targets.left_out
        and f"{name.rpartition('.')[0]}.weight" in matches
    ]
    if missing:
        raise WeightsMismatchError(
            f"has weights but no running statistics ({len(missing)} missing: {listed(missing, 3)});"
            f" save the whole `state_dict()`, or name them in `reinit` to re-estimate them."
        )


def _converted(
    state: Mapping[str, Tensor], matches: Mapping[str, str], targets: Targets
) -> dict[str, Tensor]:
    """Return the new values in the targets' types; refuse what does not fit."""
    shapes, types, infinite = [], [], []
    values: dict[str, Tensor] = {}
    for target, name in matches.items():
        old, new = targets.tensors[target], state[name]
        if old.shape != new.shape:
            shapes.append(f"{name} {tuple(new.shape)} against {target} {tuple(old.shape)}")
            continue
        floats = old.is_floating_point() and new.is_floating_point()
        if new.layout != torch.strided or new.is_meta or not (floats or old.dtype == new.dtype):
            types.append(f"{name} {new.dtype} against {target} {old.dtype}")
            continue
        values[target] = new.detach().to(old.dtype)
        if not values[target].isfinite().all():
            infinite.append(name)
    if len(shapes) == 1 and (said := _other_channels(state, matches, targets)):
        raise WeightsMismatchError(said)
    if shapes:
        parts = dict.fromkeys(t.rpartition(".")[0] for t in matches if t not in values)
        raise WeightsMismatchError(
            f"shapes differ: {listed(shapes, 3)} ({len(shapes)} in all); is this checkpoint from "
            f"another architecture (width, stem)? Choose that one, or exclude parts with "
            f"`reinit`, here {listed(parts, 3)}."
        )
    if types:
        raise WeightsMismatchError(
            f"types differ: {listed(types, 3)} ({len(types)} in all); expected plain tensors, "
            f"floating for floating. Save the weights before quantising or packing them."
        )
    if infinite:
        raise WeightsMismatchError(
            f"has values that are not finite (NaN, infinite or beyond the range of the backbone's "
            "type) in "
            f"{listed(infinite)}; did its training diverge? Use an earlier checkpoint."
        )
    return values


def _other_channels(
    state: Mapping[str, Tensor], matches: Mapping[str, str], targets: Targets
) -> str | None:
    """Say what to do where a first convolution alone reads other channels than the backbone's."""
    for target, name in matches.items():
        old, new = targets.tensors[target].shape, state[name].shape
        if len(old) == len(new) >= _CONVOLUTION and old[0] == new[0] and old[2:] == new[2:]:
            if old[1] == new[1]:
                return None  # it reads the same
            return (
                f"found {new[1]} input channels in {name} {tuple(new)}, expected {old[1]} as in "
                f"the backbone's {tuple(old)}; set the backbone's `in_channels` to {new[1]}, or "
                f"start this layer anew with `reinit: [{target.rpartition('.')[0]}]`."
            )
    return None
