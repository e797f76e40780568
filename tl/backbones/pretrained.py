"""Networks with pretrained weights out of torchvision, timm and Hugging Face."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from tl.backbones.base import Backbone
from tl.backbones.offline import hub_file, hub_folder, url_file
from tl.backbones.structure import adapt_stem, stages_by_structure

StemChoice = Literal["32x32", "keep"]
_LARGE = 224


class PretrainedBackbone(Backbone):
    """A library's network that gives features, with its stem or the images adapted.

    Attributes:
        model: The network, without its classifier. In checkpoints its names follow ``model.``.
        num_features: Length of its features.
        pretrained: Whether weights were loaded.
        provenance: Where they came from, for checkpoints; ``None`` for random ones.
    """

    def __init__(self, model: nn.Module, stem: StemChoice, image_size: int | None) -> None:
        super().__init__()
        if stem not in get_args(StemChoice):
            raise ValueError(
                f"`stem` must be one of {', '.join(get_args(StemChoice))}, got {stem!r}."
            )
        if image_size is not None and image_size < 1:
            raise ValueError(f"`image_size` must be 1 or more, got {image_size}.")
        self.model = model
        self.image_size = image_size
        self.pretrained = False
        self.provenance: dict[str, Any] | None = None
        self.adapted = adapt_stem(model) if stem == "32x32" else "stem as it is"
        self.num_features = self._count_features()

    def _count_features(self) -> int:
        """Ask the network: the libraries' own figures are of what stands before a last layer."""
        modes = {module: module.training for module in self.modules()}
        size = self.image_size or (_LARGE if self.adapted == "stem as it is" else 32)
        with torch.no_grad():
            features = self.eval()(torch.zeros(1, 3, size, size))
        for module, mode in modes.items():
            module.training = mode
        if not isinstance(features, Tensor) or features.ndim != 2:  # noqa: PLR2004 - (N, D)
            raise ValueError(
                f"{type(self.model).__name__} gives no feature vectors (N, D), got "
                f"{getattr(features, 'shape', type(features).__name__)}; choose another network."
            )
        return features.shape[1]

    def features(self, images: Tensor) -> Tensor:
        """Return the network's features of images of its size."""
        found: Tensor = self.model(images)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Return the features ``(N, num_features)`` of images ``(N, 3, H, W)``."""
        size = self.image_size
        if size is not None and images.shape[2:] != (size, size):
            images = functional.interpolate(
                images, (size, size), mode="bilinear", antialias=True, align_corners=False
            )
        return self.features(images)

    def stages(self) -> dict[str, list[nn.Module]]:
        """Name the parts, ``stem`` first; the others have the library's names."""
        return stages_by_structure(self.model)

    def say(self, what: str) -> None:
        """Say in one line what the network is and what was adapted."""
        images = f"images resized to {self.image_size}x{self.image_size}" if self.image_size else ""
        rank_zero_info(f"tl: {what}; {self.adapted}, {images or 'images as they are'}.")


class TorchvisionBackbone(PretrainedBackbone):
    """Any classification network of torchvision, without its last linear layer.

    torchvision's weights expect images normalised by ImageNet's mean (0.485, 0.456, 0.406) and
    standard deviation (0.229, 0.224, 0.225). The data modules normalise by the data's own, which
    shifts and scales each channel a little; training adapts to it, a linear probe does not.

    Args:
        name: As ``torchvision.models.get_model`` takes it, such as ``resnet50``.
        weights: ``DEFAULT`` or another name of torchvision's weights, such as ``IMAGENET1K_V1``,
            downloaded where needed and possible; the path of a file; or ``null`` for random ones.
        stem: ``32x32``: a first convolution of 3x3 (the middle of a larger kernel) and stride 1,
            no max-pooling, for small images. ``keep``: as it is.
        image_size: Resize images to this height and width, bilinearly; ``null`` leaves them as
            they are.

    Raises:
        ValueError: If there is no such network or weights, or the stem cannot be adapted.
        CheckpointError: If the file cannot be read or is of another network.
    """

    def __init__(
        self,
        name: str = "resnet50",
        weights: str | None = "DEFAULT",
        stem: StemChoice = "32x32",
        image_size: int | None = None,
    ) -> None:
        known = models.list_models(module=models)
        if name not in known:
            raise ValueError(_no_such("torchvision", name, known))
        # without the auxiliary outputs that some have in training
        extra = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
        model = models.get_model(name, weights=None, **extra)
        linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
        if not linear:
            raise ValueError(f"torchvision's {name} has no last linear layer to take off.")
        last = linear[-1]
        record, said = None, "random weights"
        if (weights := _given(weights)) is not None:
            path, said = _torchvision_file(name, weights)
            record = _load(model, path, last, f"torchvision's {name}, {said}")
        model.set_submodule(last, nn.Identity())
        super().__init__(model, stem, image_size)
        self.pretrained, self.provenance = record is not None, record
        self.say(f"torchvision's {name}, {said}")


class TimmBackbone(PretrainedBackbone):
    """Any network of timm, without its classifier.

    Needs ``pip install 'tl[timm]'``. As with torchvision, mean and standard deviation of the
    images are the data's own here; ``model.pretrained_cfg`` has those of the weights.

    Args:
        name: As ``timm.create_model`` takes it, such as ``resnet18.a1_in1k``.
        weights: ``DEFAULT``: those that belong to the name, from the Hugging Face cache,
            downloaded where needed and possible; the path of a file, or of a folder with
            ``model.safetensors``; or ``null`` for random ones.
        stem: As for :class:`TorchvisionBackbone`.
        image_size: As for :class:`TorchvisionBackbone`.

    Raises:
        ModuleNotFoundError: If timm is not installed.
        ValueError: If there is no such network or weights, or the stem cannot be adapted.
        CheckpointError: If the file cannot be read or is of another network.
    """

    def __init__(
        self,
        name: str = "resnet18.a1_in1k",
        weights: str | None = "DEFAULT",
        stem: StemChoice = "32x32",
        image_size: int | None = None,
    ) -> None:
        timm = _extra("timm", "timm")
        try:
            model = timm.create_model(name, pretrained=False, num_classes=0)
        except RuntimeError:
            known = timm.list_models() + timm.list_pretrained()
            raise ValueError(_no_such("timm", name, known)) from None
        record, said = None, "random weights"
        if (weights := _given(weights)) is not None:
            path = Path(weights).expanduser() / "model.safetensors"
            if weights == "DEFAULT":
                repository = model.pretrained_cfg.get("hf_hub_id")
                if not repository:
                    raise ValueError(f"timm has no weights for {name}; name a file by `weights`.")
                path = hub_file(str(repository), "model.safetensors")
            path = path if path.is_file() else Path(weights).expanduser()
            said = f"weights {path.name if weights != 'DEFAULT' else name}"
            record = _load(model, path, None, f"timm's {name}, {said}")
        super().__init__(model, stem, image_size)
        self.pretrained, self.provenance = record is not None, record
        self.say(f"timm's {name}, {said}")


class HuggingFaceBackbone(PretrainedBackbone):
    """An image network of transformers (ResNet, ConvNeXt, ViT, ...), its pooled output.

    Needs ``pip install 'tl[huggingface]'``. Code from a repository never runs. As with
    torchvision, mean and standard deviation of the images are the data's own here; the weights'
    stand in ``preprocessor_config.json``.

    Args:
        name: A repository such as ``microsoft/resnet-18``, taken from the Hugging Face cache or
            downloaded where possible, or a folder with ``config.json`` and the weights.
        weights: ``DEFAULT``: those of `name`; ``null``: random ones in the architecture of
            ``config.json``.
        stem: As for :class:`TorchvisionBackbone`.
        image_size: As for :class:`TorchvisionBackbone`.

    Raises:
        ModuleNotFoundError: If transformers is not installed.
        ValueError: If the folder is not there or lacks something, `weights` is none of these, or
            the stem cannot be adapted.
    """

    def __init__(
        self,
        name: str = "microsoft/resnet-18",
        weights: str | None = "DEFAULT",
        stem: StemChoice = "32x32",
        image_size: int | None = None,
    ) -> None:
        transformers = _extra("transformers", "huggingface")
        if (weights := _given(weights)) not in ("DEFAULT", None):
            raise ValueError(
                f"`weights` must be DEFAULT or null, got {weights!r}; a folder with weights is "
                "given by `name`."
            )
        folder = hub_folder(name, weights is not None)
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        record, said = None, "random weights"
        if weights is None:
            model = transformers.AutoModel.from_config(config)
        else:
            model, record = _from_folder(transformers, folder, f"transformers' {name}")
            said = f"weights {record['path']}"
        super().__init__(model, stem, image_size)
        self.pretrained, self.provenance = record is not None, record
        self.say(f"transformers' {name} ({type(model).__name__}), {said}")

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled output, or the class token where there is none."""
        output = self.model(images)
        pooled = getattr(output, "pooler_output", None)
        found: Tensor = output.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)
        return found


def _extra(package: str, extra: str) -> Any:  # noqa: ANN401 - a module
    try:
        return import_module(package)
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"This backbone needs {package}: pip install 'tl[{extra}]'."
        ) from None


def _given(weights: str | None) -> str | None:
    """Return the weights asked for; `null` this deep on a command line comes in as a word."""
    return None if weights in ("None", "null") else weights


def _no_such(library: str, name: str, known: list[str]) -> str:
    import difflib  # noqa: PLC0415 - for a mistake only

    close = difflib.get_close_matches(name, known, n=3)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    return f"{library} has no network {name!r}.{hint}"


def _torchvision_file(name: str, weights: str) -> tuple[Path, str]:
    """Find the file of weights given by name or path, and say what it is."""
    choices = models.get_model_weights(name)
    known = list(choices.__members__)
    if weights in known:
        chosen = choices[weights]
        return url_file(chosen.url, f"torchvision's {name}"), f"weights {chosen.name}"
    path = Path(weights).expanduser()
    if not path.suffix and not path.exists():
        raise ValueError(
            f"torchvision has no weights {weights!r} for {name}, only {', '.join(known)}; a file "
            "is named by its path."
        )
    return path, f"weights {path.name}"


def _load(model: nn.Module, path: Path, last: str | None, note: str) -> dict[str, Any]:
    """Fill a network but for its last layer, and return the provenance."""
    from tl.transfer.weights import load_weights  # noqa: PLC0415 - it imports the backbones

    top = (last or "").partition(".")[0]
    kept = last is not None and any(
        n.startswith(f"{top}.") and not n.startswith(f"{last}.") for n in model.state_dict()
    )
    report = load_weights(
        model,
        path,
        # layers of a classifier that stay would not be looked for
        rename={top: top} if kept else {},
        reinit=[last] if last is not None else [],
    )
    record = report.record()
    record["reinitialised"] = [
        name for name in record["reinitialised"] if last is None or not name.startswith(f"{last}.")
    ]
    return {**record, "note": note}


def _from_folder(
    transformers: Any,  # noqa: ANN401 - a module
    folder: Path,
    note: str,
) -> tuple[nn.Module, dict[str, Any]]:
    """Load a network from a folder, and return its provenance."""
    from tl.checkpoints.files import file_sha256, listed  # noqa: PLC0415 - as above

    model, found = transformers.AutoModel.from_pretrained(
        folder, local_files_only=True, output_loading_info=True, dtype=torch.float32
    )
    missing = sorted(found["missing_keys"])
    if missing and all(name.startswith("pooler.") for name in missing):
        model.pooler = None  # a classifier's checkpoint has none: its class token is the feature
    elif missing:
        raise ValueError(
            f"{folder}: the weights lack {listed(missing, 3)}; is it the folder of another network?"
        )
    files = [p for p in sorted(folder.iterdir()) if p.suffix in (".safetensors", ".bin")]
    loaded = {name: t for name, t in model.state_dict().items() if name not in missing}
    record: dict[str, Any] = {
        "path": files[0].name,
        "sha256": file_sha256(files[0]),
        "loaded": {"tensors": len(loaded), "values": sum(t.numel() for t in loaded.values())},
        "reinitialised": [],
        "unused": sorted(found["unexpected_keys"]),
        "parent": None,
        "note": note,
    }
    return model, record
