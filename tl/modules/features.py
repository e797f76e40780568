"""What heads read: one computation of the backbone gives vectors, maps and tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tl.backbones.base import offered, parameters_of
from tl.batch import Inputs
from tl.tasks import Task

Maps = list[Tensor] | Tensor
_IMAGES = 4  # dimensions of images


class Features(NamedTuple):
    """What a backbone gives for the inputs of one source.

    Attributes:
        vector: ``(N, num_features)``.
        maps: ``(N, C_s, H_s, W_s)`` by stage, or tokens ``(N, L, D)``; ``None`` where no task reads
            them.
        size: Height and width of the images, for heads on maps.
    """

    vector: Tensor
    maps: Maps | None = None
    size: tuple[int, ...] = ()

    def split(self, sizes: Sequence[int]) -> list[Features]:
        """Cut them into parts of so many samples each."""
        cut = torch.split_with_sizes
        vectors = cut(self.vector, sizes)
        if self.maps is None:
            return [Features(vector) for vector in vectors]
        parts: Iterable[Maps]
        if isinstance(self.maps, Tensor):
            parts = cut(self.maps, sizes)
        else:
            parts = map(list, zip(*(cut(each, sizes) for each in self.maps), strict=True))
        return [
            Features(vector, part, self.size) for vector, part in zip(vectors, parts, strict=True)
        ]

    def read_by(self, task: Task, head: nn.Module) -> Tensor:
        """Return what a task's head gives for what it reads."""
        if task.reads == "vector":
            return head(self.vector)  # type: ignore[no-any-return]
        if task.reads == "tokens":
            return head(self.maps)  # type: ignore[no-any-return]
        return head(self.maps, self.size)  # type: ignore[no-any-return]


class FeatureReader:
    """Computes what the tasks read, in one pass.

    Args:
        tasks: The tasks; maps are computed only if one of them reads maps or tokens.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.tasks = tuple(tasks)
        self.maps = [task for task in self.tasks if task.reads != "vector"]
        self.compiled: Any = None

    def __call__(self, backbone: nn.Module, inputs: Inputs) -> Features:
        """Return what a backbone gives for inputs.

        Raises:
            ValueError: If the channels of images are not those of the backbone, or there is no
                size for heads on maps.
        """
        if isinstance(inputs, Tensor) and inputs.ndim == _IMAGES:
            check_channels(backbone, inputs.shape[1])
        if not self.maps:
            return Features(backbone(inputs))
        size = self._size(inputs)
        maps = (self.compiled or backbone.maps)(inputs)  # type: ignore[operator]
        return Features(backbone.pool(maps), maps, size)  # type: ignore[operator]

    def compile(self, backbone: nn.Module, mode: str | None) -> None:
        """Compile what computes the features, in place: names of weights stay."""
        if self.maps:  # `nn.Module.compile` is of `forward` alone
            maps: Any = backbone.maps
            self.compiled = torch.compile(maps, mode=mode)
        else:
            backbone.compile(mode=mode)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was compiled, as torch does."""
        return {**vars(self), "compiled": None}

    def _size(self, inputs: Inputs) -> tuple[int, ...]:
        parts = inputs.values() if isinstance(inputs, Mapping) else (inputs,)
        sizes = {tuple(part.shape[2:]) for part in parts if part.ndim == _IMAGES}
        if len(sizes) == 1:
            return sizes.pop()
        task = next((task for task in self.maps if task.reads == "maps"), None)
        if task is None:
            return ()
        found = ", ".join(sorted(f"{tuple(part.shape)}" for part in parts))
        raise ValueError(
            f"Task {task.name!r} reads maps, and its head needs the size of the images: expected "
            f"inputs with images (N, C, H, W) of one size, got {found}."
        )


def check_num_features(backbone: nn.Module) -> None:
    """Refuse a network that does not tell the length of its output.

    Raises:
        ValueError: If it does not.
    """
    if not isinstance(getattr(backbone, "num_features", None), int):
        raise ValueError(  # noqa: TRY004 - an argument that lacks something
            f"The backbone {type(backbone).__name__} has no integer attribute `num_features`; "
            "set it to the length of its output."
        )


def check_channels(backbone: nn.Module, found: int) -> None:
    """Refuse images of other channels than a backbone reads.

    Args:
        backbone: The network; one without an attribute `in_channels` is not checked.
        found: Channels of the images.

    Raises:
        ValueError: If they differ.
    """
    expected = getattr(backbone, "in_channels", None)
    if expected is None or expected == found:
        return
    path, within = "model.init_args.backbone.init_args", backbone
    while isinstance(inner := getattr(within, "backbone", None), nn.Module):  # adapters
        path, within = f"{path}.backbone.init_args", inner
    raise ValueError(
        f"Found images of {found} channels, and the backbone {type(within).__name__} expects "
        f"{expected}; set {path}.in_channels={found}."
    )


def parameters_without_gradient(
    backbone: nn.Module, tasks: Iterable[Task]
) -> dict[str, nn.Parameter]:
    """Return the parameters of a backbone that no loss depends on, by name.

    Args:
        backbone: The network.
        tasks: The tasks that have a loss.
    """
    reads = {task.reads for task in tasks}
    method: Any = "unread_parameters" if "vector" in reads else "pool_parameters"
    found = {id(parameter) for parameter in parameters_of(backbone, method)}
    return {name: p for name, p in backbone.named_parameters() if id(p) in found}


def head_of(task: Task, backbone: nn.Module) -> nn.Module:
    """Return a new head of a task on what the backbone offers.

    Raises:
        ValueError: If the backbone does not offer what the task reads.
    """
    check_num_features(backbone)
    num_features: Any = backbone.num_features
    if task.reads == "vector":
        return task.head(num_features)
    there = offered(backbone)
    if there == task.reads:
        return task.head(backbone.map_channels if there == "maps" else num_features)  # type: ignore[arg-type]
    raise ValueError(
        f"Task {task.name!r} reads {task.reads}, and the backbone {type(backbone).__name__} gives "
        f"{f'vectors and {there}' if there else 'vectors only'}; take a backbone with {task.reads}"
        f", such as {_SUCH[task.reads]}, or give it the methods `maps` and `pool`."
    )


_SUCH = {"maps": "tl.backbones.ResNet18", "tokens": "tl.backbones.TextBackbone"}
