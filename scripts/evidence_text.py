"""What does a language model's pretraining give a text classifier, by number of labels?

    python scripts/evidence_text.py --text glosses.csv.xz

`--text` is a table with the columns text, lexname, pos and split. A language model learns masked
tokens of its training texts, once. From its weights a classifier of lexname starts (``fine-tuned``,
a ``probe`` of frozen features, ``LP-FT``, ``gradual`` unfreezing) and, with the same budget, from
``scratch``, for each number of labels and seed; and lexname and pos are trained together by several
balancers, against each alone. The checkpoint is chosen on validation texts, and the tables show
accuracies on the test texts, means with 95 % intervals over the seeds. Runs that are done are kept.
``--smoke`` makes tiny tables on synthetic sentences.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from scripts.evidence.grid import GridRun, best_checkpoint, by_seed, run_all
from tl.data.text.table import read_table
from tl.report import mean_interval

START = {  # overlay, and options beside it
    "scratch": (),
    "fine-tuned": (),
    "probe": (
        *("--config", "configs/transfer/linear_probe.yaml"),
        "--model.init_args.optimizer.init_args.lr=0.01",
    ),
    "LP-FT": ("--config", "configs/transfer/lp_ft.yaml"),
    "gradual": ("--config", "configs/transfer/gradual_unfreezing.yaml"),
}
BALANCERS = ("sum", "uw", "gradnorm", "pcgrad")
_STEPS, _BATCH, _EPOCHS = 300, 64, 3  # of a classifier: at least as many steps, and epochs


class Grid:
    """The runs of the tables.

    Args:
        options: Of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.folder: Path = options.out
        self.seeds: Sequence[int] = options.seeds
        self.fine, self.coarse = ("topic", "sentiment") if options.smoke else ("lexname", "pos")
        self.data: tuple[str, ...] = (f"--data.init_args.train={options.text}",)
        self.training = 180
        if options.smoke:
            self.data = (
                *("--config", "configs/overlays/quick_text.yaml"),
                *("--data.init_args.train_size=200", "--data.init_args.test_size=60"),
            )
        else:
            splits = read_table(options.text).column("split", "split")
            self.training = int(0.9 * splits.count("train"))  # a tenth validates
        self.quiet = ("--trainer.enable_progress_bar=false", "--dashboard.graph=false")
        self.source_epochs = 1 if options.smoke else options.source_epochs
        self.smoke = options.smoke

    def source(self) -> GridRun:
        """The language model."""
        return GridRun(
            "source",
            (
                *("--config", "configs/text_source.yaml", *self.data, *self.quiet),
                f"--trainer.max_epochs={self.source_epochs}",
            ),
        )

    def classifier(self, start: str, labels: int, seed: int) -> GridRun:
        """A classifier of the fine labels."""
        epochs = max(_EPOCHS, ceil(_STEPS * _BATCH / labels))
        best = best_checkpoint(self.folder / "source")
        given = ["--config", "configs/text_classification.yaml", *self.data, *self.quiet]
        given += [*START[start], f"--seed_everything={seed}", f"--data.init_args.seed={seed}"]
        given += [f"--data.init_args.targets={self.fine}", f"--data.init_args.tokenizer={best}"]
        if start != "scratch":
            given.append(f"--model.init_args.init_from={best}")
        given.append(f"--data.init_args.label_fraction={min(1.0, labels / self.training):.8f}")
        given.append(f"--trainer.max_epochs={4 if self.smoke else epochs}")
        given.append("--trainer.limit_val_batches=8")
        return GridRun(f"{start}-{labels}-{seed}", tuple(given))

    def together(self, balancer: str, seed: int) -> GridRun:
        """Both levels of labels in one network."""
        given = ["--config", "configs/text_multitask.yaml", *self.data, *self.quiet]
        if balancer != "sum":
            given += ["--config", f"configs/balancing/{balancer}.yaml"]
        given += [f"--seed_everything={seed}", f"--data.init_args.seed={seed}"]
        given += [f"--data.init_args.targets=[{self.fine}, {self.coarse}]", *self._same()]
        return GridRun(f"together-{balancer}-{seed}", (*given, "--data.init_args.masked_tokens=0"))

    def alone(self, target: str, seed: int) -> GridRun:
        """One level of labels in a network of its own."""
        given = ["--config", "configs/text_classification.yaml", *self.data, *self.quiet]
        given += [f"--seed_everything={seed}", f"--data.init_args.seed={seed}"]
        return GridRun(
            f"alone-{target}-{seed}", (*given, f"--data.init_args.targets={target}", *self._same())
        )

    def _same(self) -> tuple[str, ...]:
        best = best_checkpoint(self.folder / "source")
        epochs = 1 if self.smoke else _EPOCHS
        return (f"--data.init_args.tokenizer={best}", f"--trainer.max_epochs={epochs}")

    def cell(self, runs: Iterator[GridRun], metric: str = "test/acc") -> str:
        """Return the mean over seeds in percent, with its interval where there are several."""
        values = [100 * v for v in by_seed(self.folder, [run.name for run in runs], metric)]
        found = mean_interval(values)
        return f"{found.mean:.1f}" + (f" ± {found.half_width:.1f}" if len(values) > 1 else "")


def main() -> None:
    """Run what is missing of the tables, then print them."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--text", default="data/glosses.csv.xz", help="the table of texts")
    parser.add_argument("--out", default="lightning_logs/evidence_text", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--labels", type=int, nargs="+", default=[500, 2000, 10000])
    parser.add_argument("--source-epochs", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--smoke", action="store_true", help="tiny tables on synthetic sentences")
    options = parser.parse_args()
    starts, balancers = list(START), list(BALANCERS)
    if options.smoke:
        options.seeds, options.labels = options.seeds[:1], [100]
        starts, balancers = ["fine-tuned"], ["sum"]
    grid = Grid(options)
    run_all([grid.source()], options.out)
    runs = [
        grid.classifier(start, labels, seed)
        for labels in options.labels
        for start in starts
        for seed in options.seeds
    ]
    runs += [grid.together(name, seed) for name in balancers for seed in options.seeds]
    targets = (grid.fine, grid.coarse)
    runs += [grid.alone(target, seed) for target in targets for seed in options.seeds]
    run_all(runs, options.out, options.jobs)
    print(f"\n| labels | {' | '.join(starts)} |\n| --- |{' --- |' * len(starts)}")
    for labels in options.labels:
        cells = [
            grid.cell(grid.classifier(start, labels, seed) for seed in options.seeds)
            for start in starts
        ]
        print(f"| {labels} | {' | '.join(cells)} |")
    print(f"\n| method | {grid.fine} | {grid.coarse} |\n| --- | --- | --- |")
    cells = [grid.cell(grid.alone(target, seed) for seed in options.seeds) for target in targets]
    print(f"| a network each | {' | '.join(cells)} |")
    source = "sentences" if options.smoke else Path(options.text).name.partition(".")[0]
    for name in balancers:
        cells = [
            grid.cell(
                (grid.together(name, seed) for seed in options.seeds),
                f"test/{source}_{target}/acc",
            )
            for target in targets
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
