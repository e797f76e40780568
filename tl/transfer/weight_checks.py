"""Whether a checkpoint's weights fit a backbone, checked before any of them is loaded."""

from collections.abc import Mapping

import torch
from torch import Tensor

from tl.checkpoints.files import CheckpointError, listed
from tl.transfer.names import Targets, find_target, is_adapter, spellings, top_level_part

_CONVOLUTION = 3  # dimensions of its weight, or more


class WeightsMismatchError(CheckpointError):
    """A checkpoint is readable but does not fit the backbone."""


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


def found_fraction(
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


def check_surplus(
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


def check_statistics(matches: Mapping[str, str], targets: Targets) -> None:
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


def converted(
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
    if len(shapes) == 1 and (said := other_channels(state, matches, targets)):
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


def other_channels(
    state: Mapping[str, Tensor], matches: Mapping[str, str], targets: Targets
) -> str | None:
    """Return what to do if the first convolution has other input channels than the source's.

    Args:
        state: Tensors of the source by name.
        matches: Names in the source by names in the backbone, in the backbone's order.
        targets: Tensors of the backbone.

    Returns:
        One line, or ``None`` if the first convolution reads the same channels.
    """
    for target, name in matches.items():
        old, new = targets.tensors[target].shape, state[name].shape
        if len(old) == len(new) >= _CONVOLUTION and old[0] == new[0] and old[2:] == new[2:]:
            if old[1] == new[1]:
                return None  # it reads the same
            return (
                f"found {new[1]} input channels in {name} {tuple(new)}, expected {old[1]} as in "
                f"the backbone's {tuple(old)}; set the backbone's `in_channels` to {new[1]}, or "
                f"re-initialise this layer with `reinit: [{target.rpartition('.')[0]}]`."
            )
    return None
