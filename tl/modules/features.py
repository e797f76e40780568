"""What heads read: one computation of the backbone gives vectors, maps and tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tl.backbones.base import offered, parameters_of
from tl.backbones.streams import StreamsBackbone
from tl.batch import Inputs, in_one_batch, views_of
from tl.tasks import Task, TwoViews
from tl.tasks.sharing import owner_of, owners

Maps = list[Tensor] | Tensor
_IMAGES = 4  # dimensions of images


class Features(NamedTuple):
    """What a backbone gives for the inputs of one source.

    Attributes:
        vector: ``(N, num_features)``.
        maps: ``(N, C_s, H_s, W_s)`` by stage, or tokens ``(N, L, D)``; ``None`` where no task reads
            them.
        size: Height and width of the images, for heads on maps.
        streams: Features of its own for each task, of a backbone with a stream per task.
    """

    vector: Tensor
    maps: Maps | None = None
    size: tuple[int, ...] = ()
    streams: Mapping[str, Features] | None = None

    def split(self, sizes: Sequence[int]) -> list[Features]:
        """Cut them into parts of so many samples each."""
        cut = torch.split_with_sizes
        vectors = cut(self.vector, sizes)
        if self.streams is not None:
            each = {task: stream.split(sizes) for task, stream in self.streams.items()}
            return [
                Features(vector, streams={task: parts[i] for task, parts in each.items()})
                for i, vector in enumerate(vectors)
            ]
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

    @classmethod
    def join(cls, parts: Sequence[Features]) -> Features:
        """Concatenate the vectors of several batches, of each stream where there are streams."""
        streams = {
            name: cls.join([part.streams[name] for part in parts if part.streams is not None])
            for name in parts[0].streams or ()
        }
        return cls(torch.cat([part.vector for part in parts]), streams=streams or None)

    def read_by(self, task: Task, head: nn.Module, owner: str | None = None) -> Tensor:
        """Return what a task's head gives for what it reads.

        Args:
            task: The task.
            head: Its head.
            owner: The task whose head that is, and whose stream it reads; by default this one.
        """
        if self.streams is not None:
            return self.streams[owner or task.name].read_by(task, head)
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

    def __call__(self, backbone: nn.Module, inputs: Inputs, source: str | None = None) -> Features:
        """Return what a backbone gives for inputs.

        Args:
            backbone: The backbone.
            inputs: The inputs.
            source: Where they come from: streams of other sources' tasks are left out. By default
                all tasks may read them.

        Raises:
            ValueError: If the channels of images are not those of the backbone, or there is no
                size for heads on maps.
        """
        inputs = self.in_one_pass(inputs, source)
        if (views := views_of(inputs)) is not None:
            return Features.join([self(backbone, view, source) for view in views])
        if isinstance(inputs, Tensor) and inputs.ndim == _IMAGES:
            check_channels(backbone, inputs.shape[1])
        if isinstance(backbone, StreamsBackbone):
            return self._streams(backbone, inputs, source)
        try:
            if not self.maps:
                return Features(backbone(inputs))
            size = self._size(inputs)
            maps = (self.compiled or backbone.maps)(inputs)  # type: ignore[operator]
            return Features(backbone.pool(maps), maps, size)  # type: ignore[operator]
        except RuntimeError as error:
            _refuse_integers(backbone, inputs, error)
            raise

    def in_one_pass(self, inputs: Inputs, source: str | None = None) -> Inputs:
        """Return two views of each sample as one batch ``(2N, ...)``, all first views first.

        Other inputs, and views whose task asks for a pass of each, stay as they are.
        """
        views = views_of(inputs)
        if views is None or any(
            task.passes == "two"
            for task in self.tasks
            if isinstance(task, TwoViews) and (source is None or task.source in (None, source))
        ):
            return inputs
        return in_one_batch(inputs)

    def compile(self, backbone: nn.Module, mode: str | None) -> None:
        """Compile what computes the features, in place: names of weights stay."""
        if isinstance(backbone, StreamsBackbone):
            self.compiled = torch.compile(backbone.streams, mode=mode)
        elif self.maps:  # `nn.Module.compile` is of `forward` alone
            maps: Any = backbone.maps
            self.compiled = torch.compile(maps, mode=mode)
        else:
            backbone.compile(mode=mode)

    def _streams(self, backbone: StreamsBackbone, inputs: Inputs, source: str | None) -> Features:
        tasks = {task.name: task for task in self.tasks}
        readers = [t for t in self.tasks if source is None or t.source in (None, source)]
        read = {owner_of(task.name, tasks) for task in readers}
        names = [name for name in backbone.tasks if name in read]
        size = self._size(inputs) if self.maps else ()
        compute: Any = self.compiled or backbone.streams
        vector, maps = compute(inputs, names)
        streams = {name: Features(backbone.pool(each), each, size) for name, each in maps.items()}
        return Features(vector, streams=streams)

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


def _refuse_integers(backbone: nn.Module, inputs: Inputs, error: RuntimeError) -> None:
    """Name inputs of integers on which a backbone of floats failed.

    Raises:
        ValueError: If torch's error is about types, and some inputs are integers.
    """
    parts = inputs if isinstance(inputs, Mapping) else {"": inputs}
    integers = [
        f"{name} {part.dtype} of shape {tuple(part.shape)}".strip()
        for name, part in parts.items()
        if not part.is_floating_point()
    ]
    said = str(error).splitlines()[0]
    if integers and ("type" in said or "not implemented for" in said):
        raise ValueError(
            f"The backbone {type(backbone).__name__} cannot compute with inputs of "
            f"{', '.join(integers)}: {said}. Convert them, such as by `.float()`."
        ) from error


def name_tasks(backbone: nn.Module, tasks: Mapping[str, Task]) -> None:
    """Tell a backbone with streams which tasks have a head; any other is left as it is."""
    if isinstance(backbone, StreamsBackbone):
        backbone.name_tasks([name for name, owner in owners(tasks).items() if name == owner])


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
    """Return the parameters of a backbone that no loss depends on, by name."""
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
