"""Build networks of torchvision, timm and Transformers, with checked options."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib import import_module
from typing import Any, get_args

from torch import nn
from torchvision import models

from tl.backbones.base import check_in_channels
from tl.backbones.library import OutputStride


def library(package: str, extra: str, what: str = "This backbone") -> Any:  # noqa: ANN401 - a module
    """Import an optional library.

    Args:
        package: Its name.
        extra: Which extra of this package installs it.
        what: What needs it, for the message.

    Raises:
        ModuleNotFoundError: If it is not installed, with the command that installs it.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"{what} needs {package}: pip install 'tl[{extra}]'.") from None


def given(weights: str | None) -> str | None:
    """Return the weights asked for; a `null` this deep on a command line arrives as a word."""
    return None if weights in ("None", "null") else weights


def did_you_mean(name: str, known: Iterable[str], most: int = 3) -> str:
    """Return a question after the names that resemble a wrong one; empty if none does."""
    close = difflib.get_close_matches(name, list(known), n=most)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def no_such(library: str, name: str, known: list[str]) -> str:
    """Return the message that a library does not have a network, with the closest names."""
    return f"{library} has no network {name!r}.{did_you_mean(name, known)}"


def check_options(in_channels: int, output_stride: int | None, stem: str) -> None:
    """Check what the networks of all libraries take.

    Raises:
        ValueError: If an option is out of range, or does not fit another.
    """
    check_in_channels(in_channels)
    if output_stride not in (None, *get_args(OutputStride)):
        raise ValueError(f"`output_stride` must be 8, 16, 32 or null, got {output_stride!r}.")
    if output_stride is not None and stem != "keep":
        raise ValueError(
            f"`output_stride={output_stride}` needs `stem: keep`; `stem: {stem}` already makes the "
            "maps four times as large."
        )


def torchvision_network(name: str, output_stride: int | None) -> nn.Module:
    """Return a classification network of torchvision.

    Args:
        name: Its name.
        output_stride: Dilate it to this stride; ``None`` leaves it as it is.

    Raises:
        ValueError: If torchvision does not have it, or does not dilate it.
    """
    known = models.list_models(module=models)
    if name not in known:
        raise ValueError(no_such("torchvision", name, known))
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
    except (TypeError, NotImplementedError, ValueError):  # refuse a stride in different ways
        if output_stride is None:
            raise
        raise ValueError(not_dilated("torchvision", name, output_stride)) from None
    return network


def timm_network(
    timm: Any,  # noqa: ANN401 - a module
    name: str,
    in_channels: int,
    output_stride: int | None,
) -> nn.Module:
    """Return a network of timm without its classifier.

    Args:
        timm: The library.
        name: Its name.
        in_channels: Channels of the images.
        output_stride: Dilate it to this stride; ``None`` leaves it as it is.

    Raises:
        ValueError: If timm does not have it, or does not dilate it.
    """
    options = {} if output_stride is None else {"output_stride": output_stride}
    try:
        return timm.create_model(  # type: ignore[no-any-return]
            name, pretrained=False, num_classes=0, in_chans=in_channels, **options
        )
    except RuntimeError:
        known = timm.list_models() + timm.list_pretrained()
        raise ValueError(no_such("timm", name, known)) from None
    except (TypeError, AssertionError, NotImplementedError):  # as in torchvision
        if output_stride is None:
            raise
        raise ValueError(not_dilated("timm", name, output_stride)) from None


def not_dilated(library: str, name: str, output_stride: int) -> str:
    """Return the message that a library does not build a network with a stride."""
    return (
        f"{library} does not build {name} with `output_stride={output_stride}`; leave it out, or "
        "choose a network with dilation, such as resnet50."
    )


def set_field(config: Any, key: str, value: int, name: str) -> None:  # noqa: ANN401 - untyped
    """Set a field of a Transformers configuration, which accepts fields that nothing reads.

    Raises:
        ValueError: If the configuration does not have the field.
    """
    if not hasattr(config, key):
        raise ValueError(
            f"`{'in_channels' if key == 'num_channels' else key}` of {value} is not possible: the "
            f"configuration of {name} ({config.model_type}) has no {key}."
        )
    setattr(config, key, value)
