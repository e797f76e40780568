"""Language models of Transformers: tokens to one vector per text, or one per token."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from tl.backbones.base import Backbone
from tl.backbones.library_networks import did_you_mean, library
from tl.backbones.library_weights import load_folder
from tl.backbones.offline import hub_folder

Pooling = Literal["mean", "first"]
_NORMS = ("norm", "ln_f")


class TextBackbone(Backbone):
    """Any encoder of Transformers, without its pooler.

    Needs ``pip install 'tl[text]'``. Code from a repository never runs, and weights come from
    safetensors, or from pickles that hold tensors only.

    Args:
        name: A folder with ``config.json`` and the weights, such as a checkpoint folder of
            Transformers' Trainer, or a repository of Hugging Face, from the cache or downloaded.
        config: In the place of `name`: a configuration of Transformers with its ``model_type``,
            such as ``{model_type: bert, hidden_size: 128, ...}``; random weights.
        weights: Of `name`: ``DEFAULT``: its weights; ``null``: random ones in its architecture.
        pooling: ``mean`` of the tokens that are not padding, or the ``first`` token.
        layers_per_stage: Layers that are a stage together, for gradual unfreezing and
            discriminative learning rates.

    Attributes:
        model: The network. In checkpoints its names follow ``model.``.
        num_features: Length of its vectors.
        vocab_size: Size of its embedding.
        max_length: Maximum number of tokens of a text; ``None`` if it is unlimited.
        tokenizer_hash: Hash of the tokenizer saved with the weights; ``None`` without one.

    Raises:
        ModuleNotFoundError: If transformers is not installed.
        ValueError: If the folder, the configuration or an argument is wrong.
    """

    def __init__(
        self,
        name: str | None = None,
        config: dict[str, Any] | None = None,
        weights: str | None = "DEFAULT",
        pooling: Pooling = "mean",
        layers_per_stage: int = 1,
    ) -> None:
        super().__init__()
        if pooling not in get_args(Pooling):
            raise ValueError(f"`pooling` must be mean or first, got {pooling!r}.")
        if layers_per_stage < 1:
            raise ValueError(f"`layers_per_stage` must be 1 or more, got {layers_per_stage}.")
        if (name is None) == (config is None):
            raise ValueError("Give either `name` or `config`.")
        weights = None if weights in ("None", "null") else weights
        if weights not in ("DEFAULT", None):
            raise ValueError(
                f"`weights` must be DEFAULT or null, got {weights!r}; set `name` to a folder "
                "with weights."
            )
        transformers = library("transformers", "text", "A language model")
        self.pooling = pooling
        self.layers_per_stage = layers_per_stage
        self.tokenizer_hash: str | None = None
        self.provenance: dict[str, Any] | None = None
        if config is not None:
            self.model: nn.Module = _of_config(transformers, config)
            said = f"{type(self.model).__name__}, random weights"
        else:
            folder = hub_folder(str(name), weights is not None)
            if weights is None:
                known = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
                self.model = transformers.AutoModel.from_config(known)
            else:
                note = f"transformers' {name}"
                self.model, self.provenance = load_folder(transformers, folder, note, pooler=False)
                self.tokenizer_hash = _tokenizer_beside(folder)
            said = f"{name} ({type(self.model).__name__}), "
            said += "random weights" if weights is None else "its weights"
        self.pretrained = self.provenance is not None
        if isinstance(getattr(self.model, "pooler", None), nn.Module):
            # unused, it would have no gradient
            self.model.pooler = None  # type: ignore[assignment]  # the library asks for it
        read: Any = self.model.config
        if getattr(read, "is_encoder_decoder", False) or getattr(read, "is_decoder", False):
            raise ValueError(
                f"{type(self.model).__name__} is not an encoder; choose one like BERT."
            )
        self.num_features = int(read.hidden_size)
        self.vocab_size = int(self.model.get_input_embeddings().num_embeddings)  # type: ignore[operator]
        self.max_length = _most_tokens(self.model)
        self._takes = set(inspect.signature(self.model.forward).parameters)
        self.stages()  # says now if it has no layers
        rank_zero_info(f"tl: {said}; {self.num_features} features, {pooling} of the tokens.")

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:  # type: ignore[override]  # not images
        """Return vectors ``(N, num_features)`` of tokenised texts; see `maps`."""
        return self.pool(self.maps(inputs))

    def maps(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return a vector per token ``(N, L, num_features)``, zero for padding.

        Args:
            inputs: ``input_ids`` and ``attention_mask`` ``(N, L)``, and what else the network
                takes, such as ``token_type_ids``.

        Raises:
            ValueError: If one of the first two is missing, or the texts are too long.
        """
        if not isinstance(inputs, Mapping) or not {"input_ids", "attention_mask"} <= inputs.keys():
            found = ", ".join(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
            raise ValueError(
                "A language model reads a dict with `input_ids` and `attention_mask`, got "
                f"{found or 'an empty one'}."
            )
        length = inputs["input_ids"].shape[1]
        if self.max_length is not None and length > self.max_length:
            raise ValueError(
                f"A text has {length} tokens, {type(self.model).__name__} reads "
                f"{self.max_length}; lower the data's `max_length`."
            )
        given = {name: part for name, part in inputs.items() if name in self._takes}
        tokens: Tensor = self.model(**given).last_hidden_state
        return tokens.masked_fill(inputs["attention_mask"][:, :, None] == 0, 0.0)

    def pool(self, maps: Tensor) -> Tensor:
        """Return a vector per text ``(N, D)`` from those of its tokens ``(N, L, D)``.

        Args:
            maps: As returned by `maps`: an all-zero vector is padding; norms never return one.
        """
        if self.pooling == "first":
            return maps[:, 0]
        return masked_mean(maps, (maps.detach() != 0).any(2))

    def stages(self) -> dict[str, list[nn.Module]]:
        """Return the stages: ``embeddings``, then ``layer1`` and so on, `layers_per_stage` each."""
        path, layers = _layers_of(self.model)
        below: list[nn.Module] = []
        above: list[nn.Module] = []
        for name, part in _beside(self.model, path):
            (above if any(word in name.lower() for word in _NORMS) else below).append(part)
        size = self.layers_per_stage
        groups = [list(layers[first : first + size]) for first in range(0, len(layers), size)]
        stages = {"embeddings": below}
        stages |= {f"layer{number}": group for number, group in enumerate(groups, start=1)}
        stages[f"layer{len(groups)}"] += above
        return stages


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the tokens that are not padding.

    Args:
        tokens: ``(N, L, D)``.
        mask: ``(N, L)``, 1 for tokens, 0 for padding.

    Returns:
        ``(N, D)``.
    """
    weights = mask.to(tokens.dtype)[:, :, None]
    return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1)


def _of_config(transformers: Any, given: Mapping[str, Any]) -> nn.Module:  # noqa: ANN401 - a module
    """Build a network from a configuration; refuse keys that its type does not know."""
    options = dict(given)
    kind = options.pop("model_type", None)
    known_types = transformers.CONFIG_MAPPING.keys()
    if kind not in known_types:
        hint = did_you_mean(str(kind), known_types)
        raise ValueError(f"`config` needs a `model_type` of Transformers, got {kind!r}.{hint}")
    known = transformers.AutoConfig.for_model(kind).to_dict()
    for key in options:  # the library keeps any key, and a misspelt one changes nothing
        if key not in known:
            close = difflib.get_close_matches(key, list(known), n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"`config` has the key {key!r}, which {kind} does not know.{hint}")
    config = transformers.AutoConfig.for_model(kind, **options)
    try:
        model: nn.Module = transformers.AutoModel.from_config(config)
    except ValueError as error:
        raise ValueError(f"`config` of {kind}: {' '.join(str(error).split())[:200]}") from None
    return model


def _tokenizer_beside(folder: Path) -> str | None:
    """Return the hash of a folder's tokenizer, if it has one."""
    from tl.data.text.tokenizer import find_tokenizer  # noqa: PLC0415 - where it is needed

    return find_tokenizer(str(folder)).hash if (folder / "tokenizer.json").is_file() else None


def _most_tokens(model: nn.Module) -> int | None:
    """Return the number of positions; RoBERTa's start after that of padding."""
    for name, part in model.named_modules():
        if isinstance(part, nn.Embedding) and name.endswith("position_embeddings"):
            return part.num_embeddings - (0 if part.padding_idx is None else part.padding_idx + 1)
    return None


def _layers_of(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the name of the sequence of layers, and the sequence."""
    rows = [(n, part) for n, part in model.named_modules() if isinstance(part, nn.ModuleList)]
    if not rows or not len(rows[0][1]):
        raise ValueError(
            f"{type(model).__name__} has no sequence of layers; choose another encoder."
        )
    return rows[0]  # the outermost


def _beside(module: nn.Module, path: str, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Return the largest modules outside the layers, with their names."""
    found = []
    for name, child in module.named_children():
        full = f"{prefix}{name}"
        if full == path:
            continue
        if path.startswith(f"{full}."):
            found += _beside(child, path, f"{full}.")
        elif next(child.parameters(), None) is not None:
            found.append((full, child))
    return found
