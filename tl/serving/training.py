"""What trained when, in words, from a checkpoint and its run's configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tl.modules.base import SharedBackboneModule


def training_said(
    module: SharedBackboneModule, content: Mapping[str, Any], configuration: Mapping[str, Any]
) -> str:
    """Describe as Markdown what was frozen, and what else decided the training."""
    if not configuration:
        return "The run was a script's own: what it froze is not recorded."
    return "\n".join([*_frozen(module, content, configuration), "", *_options(configuration)])


def _frozen(
    module: SharedBackboneModule, content: Mapping[str, Any], configuration: Mapping[str, Any]
) -> Iterator[str]:
    strategy = module.strategy
    lora = type(module.backbone).__name__ == "LoraBackbone"
    if lora:
        yield "LoRA: the layers below its low-rank updates were frozen."
    if strategy is None:
        yield "" if lora else "Nothing was frozen: all stages trained."
        return
    stages = [*module.stages()]
    epochs = (configuration.get("trainer") or {}).get("max_epochs")
    if strategy.changes(stages) and isinstance(epochs, int) and epochs > 0:
        strategy.begin(epochs)
    last = content.get("epoch")
    yield f"Strategy `{type(strategy).__name__}`, batch norm `{strategy.bn}`:"
    yield ""
    yield "| stage | trained |"
    yield "| --- | --- |"
    for stage, first in strategy.first_epochs(stages).items():
        late = first is not None and isinstance(last, int) and first > last
        said = "frozen" if first is None or late else f"from epoch {first} (counted from 0)"
        yield f"| {stage} | {said} |"


def _options(configuration: Mapping[str, Any]) -> Iterator[str]:
    """Name the options that a reader asks for first."""
    arguments = (configuration.get("model") or {}).get("init_args") or {}
    for name in ("balancer", "penalties", "optimizer", "scheduler"):
        if (said := _class_of(arguments.get(name))) is not None:
            yield f"- {name}: {said}"
    seed = configuration.get("seed_everything")
    if seed is not None:
        yield f"- seed: {seed}"


def _class_of(given: object) -> str | None:
    if isinstance(given, list):
        return ", ".join(said for each in given if (said := _class_of(each))) or None
    if not isinstance(given, Mapping) or not given.get("class_path"):
        return None
    options = {
        k: v
        for k, v in (given.get("init_args") or {}).items()
        if isinstance(v, int | float | str | bool)
    }
    said = ", ".join(f"{k}={v}" for k, v in options.items())
    return f"`{given['class_path']}`{f' ({said})' if said else ''}"
