"""A trained network as one module: raw inputs in, answers by task out."""

from __future__ import annotations

import io
import sys
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tl.batch import Inputs
from tl.modules.base import SharedBackboneModule
from tl.modules.batch_norm import source_statistics
from tl.serving.quiet import quiet
from tl.serving.raw_inputs import RawInputs
from tl.tasks.sharing import owner_of

Answers = dict[str, Tensor]
_OTHER_CLASSES = 1e-3  # share of pixels whose two likeliest classes may be equally likely


class ExportError(ValueError):
    """A format that cannot take a network; one line that says why."""


class UnequalError(ValueError):
    """A copy of a network that does not answer as the network does."""


@dataclass(frozen=True)
class _Pass:
    """A pass of the network.

    Args:
        source: The source whose statistics and streams it uses; ``None`` for all.
        tasks: Tasks that read it.
        statistics: Whether batch norm has statistics of its own for the source.
    """

    source: str | None
    tasks: tuple[str, ...]
    statistics: bool

    def context(self, backbone: nn.Module) -> AbstractContextManager[None]:
        """Return the context of the source's statistics."""
        if self.statistics and self.source is not None:
            return source_statistics(backbone, self.source)
        return nullcontext()


class Program(nn.Module):
    """Normalisation, backbone, heads and probabilities in one module, for ``torch.export``.

    Each task reads its input as its source was normalised in training: one pass of the network for
    all sources that are normalised alike.

    Args:
        module: The trained module.
        sources: The raw inputs by source; ``None`` where the data have one.
        answers: Names of the tasks that it answers; by default all.
    """

    def __init__(
        self,
        module: SharedBackboneModule,
        sources: Mapping[str | None, RawInputs],
        answers: Collection[str] | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.heads = module.backbone, module.heads
        self.tasks = dict(module.tasks)
        self.reader = module.reader
        self.passes, alike = _passes(module, sources, module.tasks if answers is None else answers)
        self.normalisers = nn.ModuleList(sources[source].normaliser() for source in alike)
        self.eval()

    def forward(self, inputs: Inputs) -> Answers:
        """Return what each task answers, as :meth:`tl.tasks.Task.answer` does."""
        found: Answers = {}
        for part, normalise in zip(self.passes, self.normalisers, strict=True):
            with part.context(self.backbone):
                features = self.reader(self.backbone, normalise(inputs), part.source)
            for name in part.tasks:
                owner = owner_of(name, self.tasks)
                output = features.read_by(self.tasks[name], self.heads[owner], owner)
                found[name] = self.tasks[name].answer(output.float())
        return {name: found[name] for name in self.tasks if name in found}


def _passes(
    module: SharedBackboneModule,
    sources: Mapping[str | None, RawInputs],
    answers: Collection[str],
) -> tuple[list[_Pass], list[str | None]]:
    """Group the tasks by how their sources are read; return also a source of each group."""
    apart = getattr(module, "batch_norm", "joint") == "per_source_statistics"
    groups: dict[Any, list[str | None]] = {}
    for source, raw in sources.items():
        said = tuple((n, *(tuple(v.tolist()) for v in both)) for n, both in raw.statistics.items())
        groups.setdefault((said, source if apart else None), []).append(source)
    # then streams of the others' tasks are left out
    several = len(groups) > 1 or len(answers) < len(module.tasks)
    found, alike = [], []
    for group in groups.values():
        tasks = tuple(
            name
            for name, task in module.tasks.items()
            if name in answers
            and (task.source in group or task.source is None or len(sources) == 1)
        )
        if tasks:
            own = apart or (several and len(group) == 1)
            found.append(_Pass(group[0] if own else None, tasks, apart))
            alike.append(group[0])
    return found, alike


def exported(program: Program, inputs: Inputs, raw: RawInputs) -> torch.export.ExportedProgram:
    """Return the graph of a program, for any number of samples.

    Raises:
        ExportError: If torch.export cannot take the network; says why.
    """
    batch = torch.export.Dim("batch")
    most = getattr(program.backbone, "max_length", None) or raw.longest
    length = torch.export.Dim("length", max=min(most, raw.longest or most) if most else None)
    free = {
        part.name: {0: batch, **{i: length for i, s in enumerate(part.shape, 1) if s is None}}
        for part in raw.parts
    }
    shapes: Any = next(iter(free.values())) if raw.single else free
    said = io.StringIO()
    try:
        # torch prints the graph up to what it cannot take; the error says what that is
        with torch.no_grad(), quiet("torch"), redirect_stderr(said):
            made = torch.export.export(
                program, (inputs,), dynamic_shapes={"inputs": shapes}, strict=False
            )
    except Exception as error:
        raise ExportError(
            f"torch.export cannot take {type(program.backbone).__name__}: {reason(error)}"
        ) from error
    sys.stderr.write(said.getvalue())  # the network's own
    return made


def check_equal(expected: Answers, found: Mapping[str, Tensor], what: str) -> float:
    """Refuse answers that differ from the live model's by more than rounding.

    Classes of pixels may differ at one of a thousand, where two are equally likely.

    Args:
        expected: The live model's answers.
        found: The others'.
        what: What gave them.

    Returns:
        The largest difference; of classes, the share that differs.

    Raises:
        UnequalError: If they differ; names the task and the difference.
    """
    if expected.keys() != found.keys():
        raise UnequalError(f"{what} answers {', '.join(found)}, the model {', '.join(expected)}.")
    largest = 0.0
    for name, wanted in expected.items():
        given = found[name].detach().cpu()
        if given.shape != wanted.shape:
            raise UnequalError(
                f"{what} answers {name!r} with the shape {tuple(given.shape)}, the model with "
                f"{tuple(wanted.shape)}."
            )
        if not wanted.is_floating_point():
            share = float((given != wanted).float().mean()) if wanted.numel() else 0.0
            if share > _OTHER_CLASSES:
                raise UnequalError(
                    f"{what} does not answer {name!r} as the model does: {share:.1%} of the "
                    "classes differ."
                )
            largest = max(largest, share)
            continue
        given = given.float()
        if not torch.allclose(given, wanted, rtol=1e-3, atol=1e-5, equal_nan=True):
            apart = float((given - wanted).abs().max())
            raise UnequalError(
                f"{what} does not answer {name!r} as the model does: they differ by {apart:.3g}."
            )
        largest = max(largest, float((given - wanted).abs().max()) if wanted.numel() else 0.0)
    return largest


def reason(error: Exception) -> str:
    """Return a library's message in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:2]) or type(error).__name__
    return said if len(said) <= 240 else f"{said[:240]}..."  # noqa: PLR2004 - a line or two
