"""Match names in a checkpoint to names in a backbone."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tl.checkpoints.files import listed
from tl.private.torch import COMPILED

# Where training scripts keep a state dict, in search order.
CONTAINERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "params",
    "state_dict_ema",
    "model_ema",
    "params_ema",
    "ema",
)
# Prefixes that wrappers add, in any order and number.
WRAPPERS = ("module", "model", "net", "encoder", "backbone")
# Classifiers, which are not part of the features.
HEADS = ("fc", "head", "heads", "classifier")
# Layers of Hugging Face's ResNets.
_STEM = re.compile(r"(?:resnet\.)?embedder\.embedder\.(convolution|normalization)\.(\w+)")
_BLOCK = re.compile(
    r"(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\."
    r"(?:layer\.(\d+)|shortcut)\.(convolution|normalization)\.(\w+)"
)
# beginnings of names in Transformers' models with a head, by family; others say `model`
_LANGUAGE_MODELS = (
    *("bert", "roberta", "distilbert", "electra", "albert", "deberta", "mpnet", "xlm", "ernie"),
    *("camembert", "longformer", "big_bird", "squeezebert", "nomic_bert", "megatron_bert"),
)


def find_state(content: Mapping[str, Any], depth: int = 4) -> Mapping[str, Any] | None:
    """Return the state dict in a checkpoint: the first in ``CONTAINERS``, or the content itself."""
    inner = [content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping)]
    for candidate in inner if depth else []:
        state = find_state(candidate, depth - 1)
        if state is not None:
            return state
    return content if any(isinstance(value, Tensor) for value in content.values()) else None


def is_below(name: str, prefix: str) -> bool:
    """Return whether a prefix, in whole parts, begins a name: ``layer1.0`` but not ``layer10``."""
    prefix = prefix.strip(".")
    return not prefix or f"{name}.".startswith(f"{prefix}.")


def uncompiled(name: str) -> str:
    """Remove the parts of a name that torch.compile, or peft around a layer, added."""
    return ".".join(part for part in name.split(".") if part not in (COMPILED, "base_layer"))


def is_adapter(name: str) -> bool:
    """Return whether a name belongs to a LoRA adapter."""
    return ".lora_A." in name or ".lora_B." in name


def unwrapped(name: str) -> Iterator[str]:
    """Yield a name as it is, then with wrappers' prefixes removed one by one."""
    yield name
    first, _, rest = name.partition(".")
    while rest and first in WRAPPERS:
        yield rest
        first, _, rest = rest.partition(".")


def top_level_part(name: str) -> str:
    """Return the first part of a name that is not a wrapper's: ``layer1`` of ``model.layer1.0``."""
    *_, innermost = unwrapped(uncompiled(name))
    return innermost.partition(".")[0]


def spellings(name: str, rename: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """Yield candidate backbone names of a source name, with the ``rename`` entry used.

    Args:
        name: Name in the checkpoint.
        rename: Beginnings of source names, in whole parts, and what they become. The longest that
            applies is used; the unrenamed name is then not tried.
    """
    whole = uncompiled(name)
    renamed = False
    for spelling in unwrapped(whole):
        entries = [old for old in rename if is_below(spelling, old)]
        if entries:
            renamed = True
            old = max(entries, key=len)
            rest = spelling[len(old.strip(".")) :].strip(".")
            yield ".".join(part for part in (rename[old].strip("."), rest) if part), old
        # `fc.weight` is a classifier, `backbone.fc.weight` a layer of the backbone
        elif not renamed and (
            spelling.partition(".")[0] not in HEADS
            or whole.removesuffix(spelling).endswith("backbone.")
        ):
            yield spelling, None
    for translate in () if renamed else (torchvision_name, language_model_name):
        if (known := translate(whole)) is not None:
            yield known, None


def find_target(
    name: str, targets: Collection[str], rename: Mapping[str, str]
) -> tuple[str | None, str | None]:
    """Return the target of a source name, and the ``rename`` entry that applied.

    Args:
        name: Name in the checkpoint.
        targets: Names in the backbone.
        rename: As for ``spellings``.
    """
    applied = None
    for spelling, applied in spellings(name, rename):
        if spelling in targets:
            return spelling, applied
    return None, applied


@dataclass(frozen=True)
class Targets:
    """The tensors to fill in a backbone; names are without torch.compile's part."""

    tensors: dict[str, Tensor]  # parameters and buffers; tied ones once, under their first name
    # every name to one of these, also names without wrappers' prefixes: an adapter around a network
    # does not make it another network
    keys: dict[str, str]
    left_out: frozenset[str]  # names of tensors that are not filled


def targets_of(backbone: nn.Module, reinit: Sequence[str]) -> Targets:
    """List the tensors to fill in a backbone.

    Args:
        backbone: The module.
        reinit: Beginnings of names, in whole parts, that are left out.
    """
    if isinstance(reinit, str):
        raise TypeError(f"`reinit` must be a list of names, got the string {reinit!r}.")
    tensors: dict[str, Tensor] = {}
    keys: dict[str, str] = {}
    first: dict[int, str] = {}
    for raw, tensor in backbone.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            continue  # a module's own extra state
        name = uncompiled(raw)
        if is_lazy(tensor) or tensor.is_meta:
            raise ValueError(f"`backbone` has no values yet in {name}; give it storage first.")
        keys[name] = first.setdefault(id(tensor), name)
        tensors.setdefault(keys[name], tensor)
    inner: dict[str, list[str]] = {}
    for name, key in keys.items():
        _, *shorter = unwrapped(name)
        for spelling in shorter:
            inner.setdefault(spelling, []).append(key)
    keys |= {new: old[0] for new, old in inner.items() if len(old) == 1 and new not in keys}
    for entry in reinit:
        if not entry or not any(is_below(name, entry) for name in keys):
            parts = {name.rsplit(".", depth)[0] for name in keys for depth in range(4)}
            close = difflib.get_close_matches(entry, sorted(parts), n=3)
            known = dict.fromkeys(name.split(".")[0] for name in keys)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has {listed(known)}."
            raise ValueError(f"`reinit` names {entry!r}, which the backbone does not have; {hint}")
    left_out = {keys[name] for name in keys if any(is_below(name, entry) for entry in reinit)}
    return Targets(tensors, keys, frozenset(left_out))


def language_model_name(name: str) -> str | None:
    """Remove what Transformers puts before the names of an encoder that has a head.

    ``bert.encoder.layer.0.output.dense.weight`` is ``encoder.layer.0.output.dense.weight`` of the
    encoder alone.

    Returns:
        The encoder's own name; ``None`` without such a beginning.
    """
    first, _, rest = name.partition(".")
    return rest if rest and first in _LANGUAGE_MODELS else None


def torchvision_name(name: str) -> str | None:
    """Translate a name of Hugging Face's ResNet into torchvision's, which we use too.

    ``encoder.stages.1.layers.0.shortcut.convolution.weight`` is
    ``layer2.0.downsample.0.weight``. Their bottlenecks stride in the 3x3 convolution by default,
    as torchvision's do.

    Returns:
        Torchvision's name; ``None`` for anything that is not a layer of such a network.
    """
    if stem := _STEM.fullmatch(name):
        kind, rest = stem.groups()
        return f"{'conv1' if kind == 'convolution' else 'bn1'}.{rest}"
    if block := _BLOCK.fullmatch(name):
        stage, number, layer, kind, rest = block.groups()
        place = f"layer{int(stage) + 1}.{number}"
        if layer is None:
            return f"{place}.downsample.{0 if kind == 'convolution' else 1}.{rest}"
        return f"{place}.{'conv' if kind == 'convolution' else 'bn'}{int(layer) + 1}.{rest}"
    return None
