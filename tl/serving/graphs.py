"""The graphs of a trained model: each is compared with the live model before anyone writes it."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tl.batch import Inputs
from tl.modules import MultiTaskModule
from tl.serving.model import Model
from tl.serving.onnx_file import onnx_model
from tl.serving.program import Answers, ExportError, Program, check_equal, exported
from tl.serving.raw_inputs import RawInput, RawInputs, raw_inputs

_TRACED = 3  # samples that the graph is made from
_COMPARED = (1, 2, 5)
_TEXTS = ("a", "a text of some words", "and one that is longer than the others, to be padded")


class Graphs:
    """Makes graphs of a model, and compares their answers with the live model's.

    Args:
        model: The live model, on the CPU.
        parts: Descriptions of its data by source.
        source: The source whose tasks the graphs answer; ``None`` for all.
        shape: Shape of a sample of data that are not described.

    Attributes:
        raw: The raw inputs; ``None`` if they are unknown.
        difference: Largest difference from the live model so far.

    Raises:
        ValueError: If there is no such source, no task reads it, or sources have different inputs.
    """

    def __init__(
        self,
        model: Model,
        parts: Mapping[str, Mapping[str, Any]],
        source: str | None = None,
        shape: Sequence[int] | None = None,
    ) -> None:
        if source is not None and source not in parts:
            known = ", ".join(parts) or "not described"
            raise ValueError(f"The model has no source {source!r}; its sources are {known}.")
        self._tasks = {
            name: task.source
            for name, task in model.module.tasks.items()
            if source is None or task.source in (None, source) or len(parts) == 1
        }
        if not self._tasks:
            raise ValueError(f"No task of the model reads the source {source!r}; choose another.")
        self._model, self.difference = model, 0.0
        self.raw: RawInputs | None = None
        self._unknown = ""
        chosen: dict[str | None, Mapping[str, Any]] = {
            name: part for name, part in parts.items() if source in (None, name)
        }
        try:
            self._sources = {n: raw_inputs(p, shape) for n, p in (chosen or {None: {}}).items()}
        except ValueError as error:
            self._unknown = str(error)
            return
        if len({raw.layout for raw in self._sources.values()}) > 1:
            said = ", ".join(f"{name} reads {raw.said}" for name, raw in self._sources.items())
            raise ValueError(
                f"The sources have different inputs, which one graph cannot read: {said}; choose "
                "one by `--source`."
            )
        self.raw = next(iter(self._sources.values()))
        if self.raw.kind == "texts" and self._reads_types():
            types = RawInput("token_type_ids", "int64", (None,))
            self.raw = replace(self.raw, parts=(*self.raw.parts, types))
        self._program = Program(model.module, self._sources, self._tasks)
        self._made: torch.export.ExportedProgram | None = None

    def pt2(self) -> bytes:
        """Return the content of ``model.pt2``, read back and compared.

        Raises:
            ExportError: If torch.export cannot take the network.
        """
        buffer = io.BytesIO()
        made = self._exported()
        with warnings.catch_warnings():  # of weights that share memory and lie on the CPU
            warnings.simplefilter("ignore", UserWarning)
            torch.export.save(made, buffer)
        buffer.seek(0)
        again = torch.export.load(buffer).module()
        for size in _COMPARED:
            inputs, expected = self.batch(size)
            with torch.no_grad():
                self._compare(expected, again(inputs), "model.pt2")
        return buffer.getvalue()

    def onnx(self, class_names: Mapping[str, Sequence[str]]) -> bytes:
        """Return the content of ``model.onnx``, compared.

        Args:
            class_names: For its metadata, by task.

        Raises:
            ExportError: If the network cannot be written so, or a package is missing.
        """
        made, raw = self._exported(), self.known()
        metadata = {
            "class_names": json.dumps(dict(class_names), ensure_ascii=False),
            "inputs": json.dumps(raw.record()),
            "tasks": json.dumps([self._model.module.tasks[name].record() for name in self._tasks]),
        }
        model = onnx_model(made, [part.name for part in raw.parts], [*self._tasks], metadata)
        for size in _COMPARED:
            inputs, expected = self.batch(size)
            given = inputs if isinstance(inputs, Mapping) else {raw.parts[0].name: inputs}
            self._compare(expected, model.answers(given), "model.onnx")
        return model.content

    def known(self) -> RawInputs:
        """Return the raw inputs.

        Raises:
            ExportError: If they are unknown.
        """
        if self.raw is None:
            raise ExportError(self._unknown)
        return self.raw

    def batch(self, count: int) -> tuple[Inputs, Answers]:
        """Return raw inputs, and what the live model answers about them."""
        raw = self.known()
        if raw.kind == "texts":
            texts = [_TEXTS[number % len(_TEXTS)] for number in range(count)]
            given = self._tokens(texts)
            types = torch.zeros_like(given["input_ids"])  # as a network without any assumes
            tokens = {part.name: given.get(part.name, types) for part in raw.parts}
            return tokens, self._live(texts)
        drawn = raw.example(count, seed=count)
        if isinstance(drawn, Tensor) and raw.kind == "images":
            return drawn, self._live([*drawn.numpy()])
        return drawn, self._live(drawn)

    def _tokens(self, texts: list[str]) -> Mapping[str, Tensor]:
        given = self._model.transform(texts, next(iter(self._sources)))
        return given if isinstance(given, Mapping) else {"input_ids": given}

    def _reads_types(self) -> bool:
        """Return whether the network reads which text of a pair a token is from."""
        given = self._tokens(list(_TEXTS))
        ones = torch.ones_like(given["input_ids"])
        with torch.no_grad():
            plain = self._model.module.backbone(given)
            other = self._model.module.backbone({**given, "token_type_ids": ones})
        return not torch.equal(plain, other)

    def _live(self, samples: object) -> Answers:
        """Return the live model's answers, each task's as its own source is read."""
        several = isinstance(self._model.module, MultiTaskModule)
        found: Answers = {}
        for source in dict.fromkeys(self._tasks.values()):
            named = source if several and source in self._sources else None
            answers = self._model.predict(samples, source=named)
            for name in (n for n, reads in self._tasks.items() if reads == source):
                found[name] = torch.stack([each[name].value for each in answers])
        return {name: found[name] for name in self._tasks}

    def _exported(self) -> torch.export.ExportedProgram:
        raw = self.known()
        if self._made is None:
            inputs, expected = self.batch(_TRACED)
            with torch.no_grad():
                self._compare(expected, self._program(inputs), "the module to export")
            self._made = exported(self._program, inputs, raw)
        return self._made

    def _compare(self, expected: Answers, found: Mapping[str, Tensor], what: str) -> None:
        self.difference = max(self.difference, check_equal(expected, found, what))
