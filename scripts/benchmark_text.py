"""Tokens a second of a text classifier: tl, a bare loop, and Transformers' Trainer.

    python scripts/benchmark_text.py

One BERT (2 layers of 128) learns topics of synthetic sentences. The bare loop has the same network,
optimiser and batches as tl and nothing else. Transformers' Trainer has its classifier of the same
size, the same texts as tokens, and its own order and padding. The three alternate for `--rounds`
rounds in one process; the first steps of each are left out. Tokens are those that are not padding.
``--smoke`` takes a few steps.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1]))

from tl import SyntheticTextDataModule, TransferModule
from tl.backbones import TextBackbone

CONFIG: dict[str, Any] = {
    "vocab_size": 1000,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 512,
    "max_position_embeddings": 64,
}
FIRST = 5  # steps that are left out


def adamw(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW as all three use it."""
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)


class Clock:
    """Counts tokens and seconds from the end of the first steps on."""

    def __init__(self) -> None:
        self.tokens, self.steps, self.start, self.end = 0, 0, 0.0, 0.0

    def tick(self, tokens: int) -> None:
        """End a step."""
        self.end = time.perf_counter()
        self.steps += 1
        if self.steps <= FIRST:
            self.start = self.end
        else:
            self.tokens += tokens

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / (self.end - self.start)


def bare(data: SyntheticTextDataModule, steps: int) -> float:
    """Return the tokens a second of a loop without anything around it."""
    torch.manual_seed(0)
    net = TextBackbone(config={"model_type": "bert", **CONFIG}).train()
    head = nn.Linear(128, 6)
    optimizer = adamw([*net.parameters(), *head.parameters()])
    clock = Clock()
    data.trainer = None  # of a run before, where its order would go on
    for number, (inputs, target) in enumerate(data.train_dataloader(steps)):
        loss = functional.cross_entropy(head(net(inputs)), target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()
        clock.tick(int(inputs["attention_mask"].sum()))
        if number + 1 == steps:
            break
    return clock.rate


class Ticks(Callback):
    """Ticks a clock at every step."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Count a step."""
        self.clock.tick(int(batch[0]["attention_mask"].sum()))


def ours(data: SyntheticTextDataModule, steps: int) -> float:
    """Return the tokens a second of a run of tl."""
    torch.manual_seed(0)
    net = TextBackbone(config={"model_type": "bert", **CONFIG})
    clock = Clock()
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[Ticks(clock)],
    )
    trainer.fit(TransferModule(net, data.task, optimizer=adamw), data)
    return clock.rate


def theirs(data: SyntheticTextDataModule, steps: int, folder: str) -> float:
    """Return the tokens a second of Transformers' Trainer."""
    torch.manual_seed(0)
    texts = data.splits["train"]
    rows = [
        {
            "input_ids": texts.tokens.batch(row[None], 0, types=False)["input_ids"][0],
            "labels": label,
        }
        for row, label in zip(texts.index, texts.targets["topic"], strict=True)
    ]
    clock = Clock()

    def collate(batch: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        ids = [row["input_ids"] for row in batch]
        padded = nn.utils.rnn.pad_sequence(ids, batch_first=True)
        mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
        seen.append(int(mask.sum()))
        labels = torch.stack([row["labels"] for row in batch])
        return {"input_ids": padded, "attention_mask": mask, "labels": labels}

    class Steps(transformers.TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            """Count a step."""
            clock.tick(seen.pop(0))

    seen: list[int] = []
    config = transformers.BertConfig(**CONFIG)
    config.num_labels = 6
    net = transformers.BertForSequenceClassification(config)
    arguments = transformers.TrainingArguments(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=data.batch_size,
        learning_rate=1e-3,
        weight_decay=0.01,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    transformers.Trainer(
        net, arguments, data_collator=collate, train_dataset=rows, callbacks=[Steps()]
    ).train()
    return clock.rate


def main() -> None:
    """Alternate, and print a table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="a few steps")
    options = parser.parse_args()
    if options.smoke:
        options.steps, options.rounds = 2 * FIRST, 1
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    size = max(500, 72 * options.steps)
    data = SyntheticTextDataModule(size, 100, targets="topic", val_size=0.0)
    data.setup("fit")
    found: dict[str, list[float]] = {"tl": [], "bare loop": [], "transformers.Trainer": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            found["bare loop"].append(bare(data, options.steps))
            found["tl"].append(ours(data, options.steps))
            found["transformers.Trainer"].append(theirs(data, options.steps, folder))
    print("| | tokens/s, median | of the bare loop, median of the rounds |\n| --- | --- | --- |")
    for name, rates in found.items():
        shares = [rate / base for rate, base in zip(rates, found["bare loop"], strict=True)]
        print(f"| {name} | {statistics.median(rates):,.0f} | {statistics.median(shares):.2f} |")


if __name__ == "__main__":
    main()
