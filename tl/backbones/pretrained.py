"""Networks with pretrained weights out of torchvision, timm and Hugging Face."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from torch import Tensor, nn
from torchvision import models

from tl.backbones.base import check_in_channels
from tl.backbones.library import OutputStride, PretrainedBackbone, StemChoice
from tl.backbones.library_maps import (
    HiddenStates,
    Route,
    TimmIntermediates,
    TorchvisionTokens,
    Trunk,
)
from tl.backbones.library_weights import load, load_folder, torchvision_file
from tl.backbones.offline import hub_file, hub_folder
from tl.backbones.structure import change_channels

__all__ = ["HuggingFaceBackbone", "PretrainedBackbone", "TimmBackbone", "TorchvisionBackbone"]

_RGB = 3


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
        in_channels: Channels of the images. With weights and another number than 3, each channel
            gets the mean kernel of red, green and blue, scaled so that an image with equal
            channels gives what it gives in grey.
        output_stride: How often the last map is smaller than the images: 8 or 16 dilate the
            convolutions of the last stages instead of striding (Yu & Koltun, 2016,
            arXiv:1511.07122), in networks that torchvision builds so: ResNets from ``resnet50``
            up, MobileNetV3 (16). It needs ``stem: keep``; ``null`` leaves it as it is.

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
        in_channels: int = 3,
        output_stride: OutputStride | None = None,
    ) -> None:
        _check(in_channels, output_stride, stem)
        known = models.list_models(module=models)
        if name not in known:
            raise ValueError(_no_such("torchvision", name, known))
        model = _torchvision_network(name, output_stride)
        linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
        if not linear:
            raise ValueError(f"torchvision's {name} has no last linear layer to take off.")
        last = linear[-1]
        record, said = None, "random weights"
        if (weights := _given(weights)) is not None:
            path, said = torchvision_file(name, weights)
            record = load(model, path, last, f"torchvision's {name}, {said}")
        model.set_submodule(last, nn.Identity())
        said += change_channels(model, in_channels, average=record is not None)
        super().__init__(model, stem, image_size, in_channels, output_stride)
        self.pretrained, self.provenance = record is not None, record
        self.say(f"torchvision's {name}, {said}")

    def route(self, images: Tensor, features: Tensor) -> Route:
        """Return the way through a row of parts, or through the layers of a transformer."""
        del images, features
        transformer = isinstance(self.model, models.VisionTransformer)
        return TorchvisionTokens() if transformer else Trunk(self.model)


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
        in_channels: As for :class:`TorchvisionBackbone`.
        output_stride: As for :class:`TorchvisionBackbone`, in networks that timm builds so.

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
        in_channels: int = 3,
        output_stride: OutputStride | None = None,
    ) -> None:
        _check(in_channels, output_stride, stem)
        timm = _extra("timm", "timm")
        weights = _given(weights)
        # weights are those of three channels
        channels = in_channels if weights is None else _RGB
        model = _timm_network(timm, name, channels, output_stride)
        record, said = None, "random weights"
        if weights is not None:
            path = Path(weights).expanduser() / "model.safetensors"
            if weights == "DEFAULT":
                repository = model.pretrained_cfg.get("hf_hub_id")  # type: ignore[union-attr, operator]
                if not repository:
                    raise ValueError(f"timm has no weights for {name}; name a file by `weights`.")
                path = hub_file(str(repository), "model.safetensors")
            path = path if path.is_file() else Path(weights).expanduser()
            said = f"weights {path.name if weights != 'DEFAULT' else name}"
            record = load(model, path, None, f"timm's {name}, {said}")
            said += change_channels(model, in_channels, average=True)
        super().__init__(model, stem, image_size, in_channels, output_stride)
        self.pretrained, self.provenance = record is not None, record
        self.say(f"timm's {name}, {said}")

    def route(self, images: Tensor, features: Tensor) -> Route:
        """Return the way through timm's intermediate maps."""
        del images, features
        return TimmIntermediates()


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
        in_channels: As for :class:`TorchvisionBackbone`.
        output_stride: As for :class:`TorchvisionBackbone`, in networks that Transformers builds so.

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
        in_channels: int = 3,
        output_stride: OutputStride | None = None,
    ) -> None:
        _check(in_channels, output_stride, stem)
        transformers = _extra("transformers", "huggingface")
        if (weights := _given(weights)) not in ("DEFAULT", None):
            raise ValueError(
                f"`weights` must be DEFAULT or null, got {weights!r}; a folder with weights is "
                "given by `name`."
            )
        folder = hub_folder(name, weights is not None)
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        if output_stride is not None:
            _set(config, "output_stride", output_stride, name)
        record, said = None, "random weights"
        if weights is None:
            if in_channels != getattr(config, "num_channels", _RGB):
                _set(config, "num_channels", in_channels, name)
            model = transformers.AutoModel.from_config(config)
        else:
            model, record = load_folder(transformers, folder, f"transformers' {name}")
            said = f"weights {record['path']}"
            said += change_channels(model, in_channels, average=True)
        super().__init__(model, stem, image_size, in_channels, output_stride)
        self.pretrained, self.provenance = record is not None, record
        self.say(f"transformers' {name} ({type(model).__name__}), {said}")

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled output, or the class token where there is none."""
        output = self.model(images)
        pooled = getattr(output, "pooler_output", None)
        found: Tensor = output.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)
        return found

    def route(self, images: Tensor, features: Tensor) -> Route:
        """Return the way through the hidden states."""
        return HiddenStates(self.model, images, features)


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


def _check(in_channels: int, output_stride: int | None, stem: str) -> None:
    check_in_channels(in_channels)
    if output_stride not in (None, *get_args(OutputStride)):
        raise ValueError(f"`output_stride` must be 8, 16, 32 or null, got {output_stride!r}.")
    if output_stride is not None and stem != "keep":
        raise ValueError(
            f"`output_stride={output_stride}` needs `stem: keep`; with `stem: {stem}` the maps are "
            "four times as large as the library's already."
        )


def _torchvision_network(name: str, output_stride: int | None) -> nn.Module:
    # without the auxiliary outputs that some have in training
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options["aux_logits"] = False
    if output_stride in (8, 16):
        mobile = name.startswith("mobilenet_v3")
        dilated = {"replace_stride_with_dilation": [False, output_stride == 8, True]}  # noqa: PLR2004
        options |= {"dilated": True} if mobile else dilated
    try:
        network: nn.Module = models.get_model(name, weights=None, **options)
    except (TypeError, NotImplementedError, ValueError):
        if output_stride is None:
            raise
        raise ValueError(_not_dilated("torchvision", name, output_stride)) from None
    return network


def _timm_network(
    timm: Any,  # noqa: ANN401 - a module
    name: str,
    in_channels: int,
    output_stride: int | None,
) -> nn.Module:
    options = {} if output_stride is None else {"output_stride": output_stride}
    try:
        return timm.create_model(  # type: ignore[no-any-return]
            name, pretrained=False, num_classes=0, in_chans=in_channels, **options
        )
    except RuntimeError:
        known = timm.list_models() + timm.list_pretrained()
        raise ValueError(_no_such("timm", name, known)) from None
    except (TypeError, AssertionError, NotImplementedError):
        if output_stride is None:
            raise
        raise ValueError(_not_dilated("timm", name, output_stride)) from None


def _not_dilated(library: str, name: str, output_stride: int) -> str:
    return (
        f"{library} does not build {name} with `output_stride={output_stride}`; leave it out, or "
        "choose a network that it dilates, such as resnet50."
    )


def _set(config: Any, key: str, value: int, name: str) -> None:  # noqa: ANN401 - untyped
    """Set a field of a configuration of Transformers, which keeps fields that nothing reads."""
    if not hasattr(config, key):
        raise ValueError(
            f"`{'in_channels' if key == 'num_channels' else key}` of {value} is not possible: the "
            f"configuration of {name} ({config.model_type}) has no {key}."
        )
    setattr(config, key, value)
