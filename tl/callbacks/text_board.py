"""A dashboard for runs on text: mistakes as text, tokens per second, padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tl.callbacks.board import class_names_of
from tl.callbacks.step_clock import StepClock, log_rates
from tl.callbacks.surroundings import data_by_source
from tl.data.text.tokenizer import TextTokenizer
from tl.modules.base import SharedBackboneModule
from tl.modules.batch import by_source, source_of
from tl.modules.picture_log import log_text
from tl.modules.step_log import is_due

_MASK = "attention_mask"


@dataclass
class TextMistakes:
    """The most confident wrong predictions, with their tokens.

    Args:
        most: How many to keep.
    """

    most: int
    kept: list[tuple[float, int, int, list[int]]] = field(default_factory=list)

    def add(self, inputs: Mapping[str, Tensor], answer: Tensor, target: Tensor) -> None:
        """Look through a batch.

        Args:
            inputs: ``input_ids`` and ``attention_mask`` ``(N, L)``.
            answer: Class probabilities ``(N, C)``.
            target: ``(N,)``; negative where there is no label.
        """
        confidence, predicted = answer.max(1)
        wrong = (predicted != target) & (target >= 0)
        values, rows = torch.where(wrong, confidence, -1.0).topk(min(self.most, len(target)))
        for value, row in zip(values.tolist(), rows.tolist(), strict=True):
            if value >= 0:
                tokens = inputs["input_ids"][row][inputs[_MASK][row] > 0].tolist()
                self.kept.append((value, int(target[row]), int(predicted[row]), tokens))
        self.kept = sorted(self.kept, key=lambda kept: -kept[0])[: self.most]

    def table(self, names: Sequence[str] | None, decode: Any) -> str:  # noqa: ANN401 - of the library
        """Return them as a table in Markdown.

        Args:
            names: Class names; ``None`` shows the numbers.
            decode: Tokens to text.
        """
        rows = [
            f"| {confidence:.0%} | {names[true] if names else true} | "
            f"{names[predicted] if names else predicted} | "
            f"{decode(tokens).replace('|', ' ')} |"
            for confidence, true, predicted, tokens in self.kept
        ]
        return "\n".join(["| confidence | true | predicted | text |", "|---|---|---|---|", *rows])


class TextBoard(Callback):
    """Log the mistakes, speed and padding of a run on text to TensorBoard.

    - ``<split>/mistakes/<task>``: the most confident wrong predictions, as text, among the samples
      of the first process;
    - ``perf/tokens_per_second``: tokens trained per second over all processes, without padding;
    - ``perf/padding_share``: fraction of a batch that is padding.

    Args:
        mistakes: How many mistakes to show per task; 0 for none.

    Raises:
        ValueError: If `mistakes` is negative.
    """

    def __init__(self, mistakes: int = 16) -> None:
        if mistakes < 0:
            raise ValueError(f"`mistakes` must be 0 or more, got {mistakes}.")
        self.mistakes = mistakes
        self.clock = StepClock()
        self._found: dict[str, TextMistakes] = {}
        self._begin()

    def _begin(self) -> None:
        self._tokens: Tensor | int = 0  # stays on the device until it is logged
        self._places, self._seconds = 0, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting."""
        self._begin()
        self.clock.pause()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exclude the time between epochs."""
        self.clock.pause()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Count a batch; every ``log_every_n_steps`` steps, log the speed of the last ones."""
        seconds = self.clock.tick()
        if seconds is not None:
            self._seconds += seconds
            read: list[Any] = [inputs for inputs, _ in by_source(batch).values()]
            for inputs in read:
                if isinstance(inputs, Mapping) and _MASK in inputs:
                    self._tokens = self._tokens + inputs[_MASK].sum()
                    self._places += inputs[_MASK].numel()
        if not self._places or not is_due(trainer):
            return
        tokens = int(self._tokens)
        values = {
            "perf/tokens_per_second": tokens * trainer.world_size / self._seconds,
            "perf/padding_share": 1 - tokens / self._places,
        }
        self._begin()
        log_rates(trainer, pl_module, values)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the mistakes of the last validation, and stop the clock."""
        self._found = {}
        self.clock.pause()

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Look for mistakes."""
        wanted = self.mistakes and trainer.is_global_zero and not trainer.sanity_checking
        if not wanted or not isinstance(pl_module, SharedBackboneModule):
            return
        parts = by_source(batch)
        for name, (output, target) in outputs.items():
            task = pl_module.tasks[name]
            inputs: Any = parts[source_of(task, parts)][0]
            labels = task.strata(target)  # of a task with one class per sample
            if labels is not None and isinstance(inputs, Mapping) and _MASK in inputs:
                kept = self._found.setdefault(name, TextMistakes(self.mistakes))
                kept.add(inputs, task.answer(output), labels)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the mistakes of each task."""
        found, self._found = self._found, {}
        tokenizer = tokenizer_of(getattr(trainer, "datamodule", None))
        if tokenizer is None or not trainer.is_global_zero:
            return
        split = "test" if trainer.testing else "val"
        for name, mistakes in found.items():
            if mistakes.kept:
                table = mistakes.table(class_names_of(trainer, name), tokenizer.decode)
                log_text(trainer, f"{split}/mistakes/{name}", table, trainer.global_step)

    on_test_epoch_end = on_validation_epoch_end


def tokenizer_of(data: object) -> TextTokenizer | None:
    """Return the tokenizer of a data module, or that of the sources in it, if there is one."""
    found = (getattr(source, "tokenizer", None) for source in data_by_source(data).values())
    return next((one for one in found if isinstance(one, TextTokenizer)), None)
