"""Other libraries' names for the layers of our networks."""

from __future__ import annotations

import re

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


def language_model_name(name: str) -> str | None:
    """Remove what Transformers puts before the names of an encoder that has a head.

    ``bert.encoder.layer.0.output.dense.weight`` is ``encoder.layer.0.output.dense.weight`` of the
    encoder alone.

    Args:
        name: A name in a checkpoint.

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

    Args:
        name: A name in a checkpoint.

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
