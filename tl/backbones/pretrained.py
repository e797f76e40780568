"""Pretrained networks from torchvision, timm and Hugging Face."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision import models

from tl.backbones.library import OutputStride, PretrainedBackbone, StemChoice
from tl.backbones.library_maps import (
    HiddenStates,
    Route,
    TimmIntermediates,
    TorchvisionTokens,
    Trunk,
)
from tl.backbones.library_networks import (
    check_options,
    given,
    library,
    set_field,
    timm_network,
    torchvision_network,
)
from tl.backbones.library_weights import (
    last_linear,
    load,
    load_folder,
    timm_file,
    torchvision_file,
)
from tl.backbones.offline import hub_folder
from tl.backbones.structure import change_channels

__all__ = ["HuggingFaceBackbone", "PretrainedBackbone", "TimmBackbone", "TorchvisionBackbone"]

_RGB = 3


class TorchvisionBackbone(PretrainedBackbone):
    """Any classification network of torchvision, without its last linear layer.

    torchvision's weights expect images normalised by ImageNet's mean (0.485, 0.456, 0.406) and
    standard deviation (0.229, 0.224, 0.225). The data modules normalise by the statistics of the
    data, which shifts and scales each channel slightly; training adapts to this, a linear probe
    does not.

    Args:
        name: As ``torchvision.models.get_model`` takes it, such as ``resnet50``.
        weights: ``DEFAULT`` or another name of torchvision's weights, such as ``IMAGENET1K_V1``,
            downloaded if necessary; the path of a file; or ``null`` for random weights.
        stem: ``32x32``: a first convolution of 3x3 (the middle of a larger kernel) and stride 1,
            no max-pooling, for small images. ``keep``: the original stem.
        image_size: Resize images to this height and width, bilinearly; ``null`` keeps their
            size.
        in_channels: Channels of the images. If it is not 3, pretrained weights give each channel
            the mean kernel of red, green and blue, scaled so that an image with equal channels has
            the features of the same grey image.
        output_stride: Size of the images over that of the last map. 8 and 16 replace strides of
            the last stages by dilation (Yu & Koltun, 2016, arXiv:1511.07122), where torchvision
            supports it: ResNets from ``resnet50`` up, MobileNetV3 (16 only). Needs ``stem: keep``;
            ``null`` keeps the network's own stride.

    Raises:
        ValueError: If the network or the weights do not exist, or an option does not fit them.
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
        check_options(in_channels, output_stride, stem)
        model = torchvision_network(name, output_stride)
        last = last_linear(model)
        if last is None:
            raise ValueError(f"torchvision's {name} has no final linear layer to remove.")
        record, said = None, "random weights"
        if (weights := given(weights)) is not None:
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

    Needs ``pip install 'tl[timm]'``. As with torchvision, images are normalised by the statistics
    of the data; ``model.pretrained_cfg`` has those that the weights were trained with.

    Args:
        name: As ``timm.create_model`` takes it, such as ``resnet18.a1_in1k``.
        weights: ``DEFAULT``: those of `name`, from the Hugging Face cache or downloaded; the path
            of a file, or of a folder with ``model.safetensors``; or ``null`` for random weights.
        stem: As for :class:`TorchvisionBackbone`.
        image_size: As for :class:`TorchvisionBackbone`.
        in_channels: As for :class:`TorchvisionBackbone`.
        output_stride: As for :class:`TorchvisionBackbone`, where timm supports it.

    Raises:
        ModuleNotFoundError: If timm is not installed.
        ValueError: If the network or the weights do not exist, or an option does not fit them.
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
        check_options(in_channels, output_stride, stem)
        timm = library("timm", "timm")
        weights = given(weights)
        # weights are those of three channels
        channels = in_channels if weights is None else _RGB
        model = timm_network(timm, name, channels, output_stride)
        record, said = None, "random weights"
        if weights is not None:
            path = timm_file(model, name, weights)
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
    """An image network of Transformers (ResNet, ConvNeXt, ViT, ...) and its pooled output.

    Needs ``pip install 'tl[huggingface]'``. Code from a repository never runs. As with
    torchvision, images are normalised by the statistics of the data;
    ``preprocessor_config.json`` has those that the weights were trained with.

    Args:
        name: A repository such as ``microsoft/resnet-18``, from the Hugging Face cache or
            downloaded, or a folder with ``config.json`` and the weights.
        weights: ``DEFAULT``: those of `name`; ``null``: random weights for the architecture in
            ``config.json``.
        stem: As for :class:`TorchvisionBackbone`.
        image_size: As for :class:`TorchvisionBackbone`.
        in_channels: As for :class:`TorchvisionBackbone`.
        output_stride: As for :class:`TorchvisionBackbone`, where Transformers supports it.

    Raises:
        ModuleNotFoundError: If transformers is not installed.
        ValueError: If the folder or a file in it is missing, or an option is invalid or does not
            fit the network.
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
        check_options(in_channels, output_stride, stem)
        transformers = library("transformers", "huggingface")
        if (weights := given(weights)) not in ("DEFAULT", None):
            raise ValueError(
                f"`weights` must be DEFAULT or null, got {weights!r}; set `name` to a folder "
                "with weights."
            )
        folder = hub_folder(name, weights is not None)
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        if output_stride is not None:
            set_field(config, "output_stride", output_stride, name)
        record, said = None, "random weights"
        own = getattr(config, "num_channels", _RGB)
        if weights is None:
            if in_channels != own:
                set_field(config, "num_channels", in_channels, name)
            model = transformers.AutoModel.from_config(config)
        elif own not in (_RGB, in_channels):
            raise ValueError(
                f"The weights of {name} read {own} channels, and `in_channels` is {in_channels}; "
                f"set in_channels={own}."
            )
        else:
            model, record = load_folder(transformers, folder, f"transformers' {name}", config)
            said = f"weights {record['path']}"
            if own == _RGB:
                said += change_channels(model, in_channels, average=True)
        super().__init__(model, stem, image_size, in_channels, output_stride)
        self.pretrained, self.provenance = record is not None, record
        self.say(f"transformers' {name} ({type(model).__name__}), {said}")

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled output, or the class token if there is none."""
        output = self.model(images)
        pooled = getattr(output, "pooler_output", None)
        found: Tensor = output.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)
        return found

    def route(self, images: Tensor, features: Tensor) -> Route:
        """Return the way through the hidden states."""
        return HiddenStates(self.model, images, features)
