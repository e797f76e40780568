"""Do balanced tasks beat single-task networks? Delta_m by method, over several seeds.

    python scripts/evidence_balancing.py --root data

Trains CIFAR-10 and CIFAR-100 alone (the baselines) and together, by each balancing method, with
the same images of each task, epochs and schedule, once per seed. The checkpoint is chosen on
validation images; the table shows accuracies on the whole test set and Delta_m (Maninis et al.,
2019) against the baselines of the same seed, in percent, with 95 % intervals. Finished runs are
kept, so an interrupted table resumes where it stopped. ``--smoke`` makes a tiny table on synthetic
images.

Measured with the command above, two runs at a time with one thread each on 2 cores that did other
work too (90 minutes; under an hour on free ones), 2026-11-24, torch 2.14.1, ResNet-20, CIFAR as
JPEG files of quality 75, seeds 0 to 2, means and 95 % intervals:

    | method | cifar10, % | cifar100, % | Delta_m, % |
    | --- | --- | --- | --- |
    | a network each | 54.6 ± 5.0 | 12.7 ± 2.6 | - |
    | sum | 52.0 ± 2.3 | 15.5 ± 0.9 | +9.1 ± 16.1 |
    | uncertainty | 48.5 ± 1.0 | 8.4 ± 2.8 | -22.4 ± 16.4 |
    | dwa | 52.0 ± 1.9 | 15.8 ± 0.5 | +10.0 ± 16.9 |
    | gradnorm | 51.1 ± 4.3 | 16.5 ± 1.5 | +11.8 ± 16.5 |
    | upgrad | 50.3 ± 0.3 | 14.9 ± 0.0 | +5.0 ± 15.7 |
    | pcgrad | 51.3 ± 2.2 | 15.6 ± 1.3 | +8.8 ± 15.0 |

The rows differ in more than the method. Uncertainty weighting took a smaller step: with ``rescale:
sum`` Delta_m is about -0.6 %. PCGrad and UPGrad ran with batch norm per source, the others with one
pass for both, and UPGrad moved the backbone by about half of the sum's step.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from scripts.evidence.grid import GridRun, by_seed, run_all
from tl.report import delta_m_interval, mean_interval

TASKS = {"cifar10": "configs/source_cifar10.yaml", "cifar100": "configs/transfer_cifar100.yaml"}
METHODS = ("sum", "uncertainty", "dwa", "gradnorm", "upgrad", "pcgrad")


def main() -> None:
    """Run what is missing of the table, then print it."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--root", default="data", help="folder of the data sets")
    parser.add_argument("--out", default="lightning_logs/evidence_balancing", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--fraction", type=float, default=0.05, help="share of the labels")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--smoke", action="store_true", help="a tiny table on synthetic images")
    options = parser.parse_args()
    if options.smoke:
        options.seeds, options.methods, options.epochs = options.seeds[:1], ["sum", "pcgrad"], 1
        options.fraction = 0.5
    try:
        run_all([*baselines(options), *balanced(options)], options.out, options.jobs)
    except RuntimeError as error:
        sys.exit(str(error))
    lines = list(table(options.out, options.methods, options.seeds))
    (options.out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def arguments(options: argparse.Namespace, config: str, seed: int) -> tuple[str, ...]:
    """What the runs have in common."""
    drawn = ("--data.init_args.images=generated", "--data.init_args.generated_size=2000")
    return (
        *("--config", config, "--config", "configs/overlays/cpu.yaml"),
        *("--data.init_args.offline=error", "--data.init_args.download=false"),
        f"--data.init_args.root={options.root}",
        f"--data.init_args.label_fraction={options.fraction}",
        "--data.init_args.val_size=0.02",  # a thousand images of each task choose the checkpoint
        *(f"--trainer.max_epochs={options.epochs}", f"--seed_everything={seed}"),
        *("--dashboard.graph=false", *(drawn if options.smoke else ())),
    )


def baselines(options: argparse.Namespace) -> Iterator[GridRun]:
    """A network for each task alone, by seed."""
    for seed in options.seeds:
        for task, config in TASKS.items():
            yield GridRun(f"{task}-{seed}", arguments(options, config, seed))


def balanced(options: argparse.Namespace) -> Iterator[GridRun]:
    """One network for both tasks, by seed and method."""
    for seed in options.seeds:
        for method in options.methods:
            given = arguments(options, "configs/multitask.yaml", seed)
            overlay = () if method == "sum" else ("--config", f"configs/balancing/{method}.yaml")
            yield GridRun(f"{method}-{seed}", (*given, *overlay))


def table(out: Path, methods: list[str], seeds: list[int]) -> Iterator[str]:
    """Rows of Markdown, with negative transfer shown as such."""
    alone = {task: by_seed(out, [f"{task}-{seed}" for seed in seeds]) for task in TASKS}
    yield f"| method | {' | '.join(f'{task}, %' for task in TASKS)} | Delta_m, % |"
    yield f"| --- | {'--- | ' * len(TASKS)}--- |"
    cells = [mean_interval(alone[task]).percent() for task in TASKS]
    yield f"| a network each | {' | '.join(cells)} | - |"
    for method in methods:
        names = [f"{method}-{seed}" for seed in seeds]
        reached = {task: by_seed(out, names, f"test/{task}/acc") for task in TASKS}
        change = delta_m_interval(
            [{task: reached[task][i] for task in TASKS} for i in range(len(seeds))],
            [{task: alone[task][i] for task in TASKS} for i in range(len(seeds))],
        )
        mark = " **negative transfer**" if change.below_zero else ""
        cells = [mean_interval(reached[task]).percent() for task in TASKS]
        yield f"| {method} | {' | '.join(cells)} | {change.percent(signed=True)}{mark} |"


if __name__ == "__main__":
    main()
