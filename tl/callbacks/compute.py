"""How much arithmetic training takes, and how much the device can do."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tl.backbones.streams import StreamsBackbone
from tl.backbones.text import TextBackbone
from tl.batch import Inputs, on_each, shapes_of, size_of
from tl.hardware import matmul_peak
from tl.modules.base import SharedBackboneModule
from tl.modules.batch import AnyBatch, by_source, source_of
from tl.modules.batch_norm import without_sources
from tl.modules.features import FeatureReader, Features
from tl.tasks import Task, owners

_TYPES = {"bf16": torch.bfloat16, "16": torch.float16, "64": torch.float64}


def flops_per_image(module: SharedBackboneModule, batch: AnyBatch) -> float:
    """Count the operations of one training step per image, forward and backward.

    These are the model's operations, as required for model FLOPs utilisation (Chowdhery et al.,
    2022, arXiv:2204.02311, appendix B): recomputation does not count. They are counted from shapes;
    nothing is computed. Frozen layers count as they are.

    Args:
        module: The module, in its training state.
        batch: A batch as passed to `training_step`.

    Returns:
        Operations (additions and multiplications).
    """
    parts = by_source(batch)
    sizes = {source: size_of(inputs) for source, (inputs, _) in parts.items()}
    readers: dict[object, list[Task]] = {source: [] for source in parts}
    by_vectors: set[object] = set()  # sources with a task that reads vectors
    total = 0.0
    # forward, gradient of weights, and of features if needed: products of equal size
    products = 3 if any(p.requires_grad for p in module.backbone.parameters()) else 2
    for name, task in module.trained_tasks.items():
        source = source_of(task, parts)
        if task.reads != "vector":
            readers.setdefault(source, []).append(task)
            continue
        by_vectors.add(source)
        weights = [p.numel() for p in module.head_of(name).parameters() if p.ndim > 1]
        total += 2.0 * products * sum(weights) * sizes.get(source, 0)
    counted: dict[object, float] = {}
    for source, (inputs, _) in parts.items():
        tasks = readers[source]
        vectors = source in by_vectors or not tasks
        own = source if isinstance(module.backbone, StreamsBackbone) else None
        key = shapes_of(inputs), vectors, tuple(task.name for task in tasks), own
        if key not in counted:
            counted[key] = _of_pass(module, inputs, tasks, vectors=vectors, source=own)
        total += counted[key] * sizes[source]
    return total / max(sum(sizes.values()), 1)


def _of_pass(
    module: SharedBackboneModule,
    inputs: Inputs,
    tasks: Sequence[Task],
    *,
    vectors: bool,
    source: str | None,
) -> float:
    """Count the backbone's operations for a sample, and those of heads on its maps or tokens."""
    backbone = without_sources(without_weights(module.backbone)).train()
    two = _on_meta(inputs, 2, backbone)
    heads = [(task, without_weights(module.head_of(task.name)).train()) for task in tasks]
    owner = owners(module.tasks)
    with FlopCounterMode(display=False) as counter:
        every = tasks if not isinstance(backbone, StreamsBackbone) else module.tasks.values()
        found = FeatureReader(every)(backbone, two, source)
        outputs = [found.read_by(task, head, owner[task.name]) for task, head in heads]
        if found.streams is not None:
            outputs += [stream.vector for stream in found.streams.values()]
        elif vectors:
            outputs.append(found.vector)
        results = [output.sum() for output in outputs if output.requires_grad]
        if results:
            torch.autograd.backward(results)
    return float(counter.get_total_flops()) / 2


def forward_flops(
    module: SharedBackboneModule, inputs: Inputs, source: str | None
) -> dict[str, float]:
    """Count the operations of one forward pass of a sample, by part.

    They are counted from shapes; nothing is computed.

    Args:
        module: The module.
        inputs: Inputs of a source.
        source: The source; heads on maps are counted for the tasks that read it.

    Returns:
        Operations (additions and multiplications) of ``backbone`` and of each head on vectors or
        maps, ``head TASK``. What a head takes on tokens depends on which it reads.
    """
    backbone = without_sources(without_weights(module.backbone)).eval()
    one = _on_meta(inputs, 1, backbone)
    text = next((part for part in backbone.modules() if isinstance(part, TextBackbone)), None)
    found: Features | None = None
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        if text is not None and isinstance(one, Mapping):
            # without a mask: to see whether one hides anything, Transformers reads its numbers
            net: Any = text.model
            net(input_ids=one["input_ids"])
        else:
            found = FeatureReader(module.tasks.values())(backbone, one, source)
    flops = {"backbone": float(counter.get_total_flops())}
    here = heads_of_source(module, source)
    for name, head in module.heads.named_children():
        task = module.tasks[name]
        if task.reads == "vector":
            flops[f"head {name}"] = 2.0 * sum(p.numel() for p in head.parameters() if p.ndim > 1)
        elif task.reads == "maps" and found is not None and name in here:
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                found.read_by(task, without_weights(head).eval())
            flops[f"head {name}"] = float(counter.get_total_flops())
    return flops


def heads_of_source(module: SharedBackboneModule, source: str | None) -> set[str]:
    """Return the heads that a pass over a source uses; all of them over a batch without sources."""
    return {
        module.owners[name]
        for name, task in module.tasks.items()
        if source is None or task.source in (None, source)
    }


def _on_meta(inputs: Inputs, count: int, backbone: nn.Module) -> Inputs:
    """Return shapes of so many samples, in the precision of a network."""
    kind = next(backbone.parameters()).dtype

    def empty(part: Tensor) -> Tensor:
        numbers = kind if part.is_floating_point() else part.dtype
        return torch.empty(count, *part.shape[1:], device="meta", dtype=numbers)

    return on_each(empty, inputs)


def without_weights(network: nn.Module) -> nn.Module:
    """Copy a network onto the meta device, without copying its weights."""
    known: dict[int, Tensor] = {
        id(buffer): torch.empty_like(buffer, device="meta") for buffer in network.buffers()
    }
    for parameter in network.parameters():
        shape = torch.empty_like(parameter, device="meta")
        known[id(parameter)] = nn.Parameter(shape, parameter.requires_grad)
    return copy.deepcopy(network, known).to("meta")


def peak_of(trainer: Trainer, module: SharedBackboneModule) -> float:
    """Measure the peak matrix-product rate of a run's device in its precision."""
    precision = str(trainer.precision).split("-")[0]
    found = matmul_peak(module.device, _TYPES.get(precision, torch.float32))
    if module.device.type == "cuda":  # exclude the benchmark's memory from the run's peak
        torch.cuda.reset_peak_memory_stats(module.device)
    return found
