"""Training speed compared with a bare PyTorch loop, a typical Lightning setup, and a tutorial.

    python scripts/benchmark.py
    python scripts/benchmark.py --root DIR        # real CIFAR images instead of synthetic ones

In one process, from the same weights, on the same images, round by round in alternating order
(ABCD, then DCBA), after a round to warm up:

- A: a bare loop over the framework's tensors, and again, for the noise;
- B: ``tl fit`` with ``configs/multitask.yaml``, with its metrics, logs, bar and checkpoints; it
  must end with the losses of A, on a CPU to the bit;
- two passes: A with a pass of the backbone for each source;
- C: a typical Lightning setup: PIL transforms in two workers, ``self.log`` at every step, bar,
  TensorBoard;
- D: the article's loop: batches of 4, two loaders zipped, two forward passes, ``.item()`` at every
  step, torchvision's resnet18; and once more with the network of the others.

A ratio is the median over the rounds of one variant's time over another's of the same round, with
quartiles. If the noise (the loop against itself) exceeds the distance of a ratio from its bar,
there is no verdict. Measured separately: the data path against PIL, peak memory and time to the
first step (each in its own process, not counting workers; A also imports everything that this
script imports, including Lightning), and how an epoch's time grows (``benchmark.png``). Then what
stands between two epochs of 20 steps, with one batch of validation; how long JPEG files of 32
pixels take to list, to hash, and to decode in threads; and where the time of a profiled step goes:
operators, launches of kernels, and Python, which includes waiting. On a GPU also steps replayed
from CUDA graphs, with the backbone compiled and not, and the shipped 60 epochs to their end with
test scores (``--gpu`` tries these rows on a CPU, where no graph is captured).

On a GPU the network is ResNet-18 with 256 images of each set, in bf16; on a CPU ResNet-20 with 64
of each, on one thread. ``--smoke`` makes two rounds of one step with tiny batches. The rows for a
GPU are unmeasured so far.

Measured with ``--root DIR``, 2026-11-28, torch 2.14.1, one thread of an AVX2 CPU with 2 shared
cores, load 1.2; 0.242 GFLOP an image, matrix products at 105 GFLOP/s; A and B ended with the same
losses, to the bit:

    | | images/s | epoch of 90,000, s | MFU |
    | --- | --- | --- | --- |
    | A | 361 | 249 | 83% |
    | A again | 358 | 252 | 82% |
    | B | 359 | 251 | 83% |
    | two passes | 358 | 252 | 82% |
    | C | 276 | 327 | 63% |
    | D | 94 | 960 |  |
    | D, same network | 188 | 480 | 43% |

    | ratio | median (quartiles) | bar | |
    | --- | --- | --- | --- |
    | A again over A (noise) | 1.002 (1.000 to 1.004) | | |
    | B over A | 1.008 (0.994 to 1.026) | at most 1.02 | held |
    | D over B, same network | 1.920 (1.897 to 1.948) | at least 3 | missed |
    | C over B | 1.312 (1.284 to 1.343) | at least 1.02 | held |
    | two passes over one | 1.015 (0.994 to 1.021) | at least 1.15 | missed |
    | D over B | 3.8 (3.7 to 3.9) |  |  |
    | data path over PIL | 76.4 (75.2 to 77.7) | at least 50 | held |

    | alone | imported after, s | first step after, s | peak memory, MB |
    | --- | --- | --- | --- |
    | A | 6.0 | 14.1 | 2,191 |
    | B | 5.0 | 14.2 | 2,354 |
    | C | 5.1 | 11.0 | 1,924 |

    (There the first steps of A and C were noted after their second.)

    | between epochs of 20 steps | s | of an epoch |
    | --- | --- | --- |
    | validation | 0.450 | 6.1% |
    | checkpoints | 0.024 | 0.3% |
    | figures | 0.044 | 0.6% |
    | rest | 0.011 | 0.1% |
    | all | 0.529 | 7.2% |

    | JPEG files | us a file |
    | --- | --- |
    | list | 6 |
    | hash | 22 |
    | decode | 60 |
    | decode, PIL | 150 |

    | a step, profiled | ms | of the step |
    | --- | --- | --- |
    | all | 387.52 | 100.0% |
    | operators | 379.12 | 97.8% |
    | python | 8.40 | 2.2% |

An epoch's time grows in proportion: 1.52, 3.15, 6.42 s for 512, 1,024, 2,048 images; 1.60, 3.15,
6.83, 12.97 s for 1, 2, 4, 8 tasks of 512; 3.08, 4.14, 4.25 s with 0, 1, 2 workers. With ``--batch 4
--steps 30``, on 2026-11-24, two passes took 1.186 (1.167 to 1.213) of one, and B 1.074 (1.053 to
1.087) of A.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torchvision.models import resnet18

sys.path.insert(0, str(Path(__file__).parents[1]))

from scripts.speed.beside import as_markdown, beside
from scripts.speed.growth import growth, plot
from scripts.speed.loops import Article, Bare, data_path
from scripts.speed.runs import Clock, Rounds, Usually, framework
from scripts.speed.whole import as_markdown as gpu_tables
from scripts.speed.whole import captured, whole
from tl.backbones import ResNet18, ResNet20
from tl.callbacks.compute import flops_per_image
from tl.hardware import matmul_peak, peak_memory_bytes

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
ORDER = ("A", "A again", "B", "two passes", "C", "D", "D, same network")
IMAGES = {"D": 2 * Article.BATCH, "D, same network": 2 * Article.BATCH}
LOG_EVERY = 50
# for quartiles over rounds, and for one end of an epoch after the first, which is left out
LEAST = {"rounds": 2, "epochs": 3}
# what over what, at most or at least, on a CPU and on a GPU
BARS = {
    "B over A": ("B", "A", "most", (1.02, 1.03)),
    "D over B, same network": ("D, same network", "B", "least", (3.0, 50.0)),
    "C over B": ("C", "B", "least", (1.02, 5.0)),
    "two passes over one": ("two passes", "A", "least", (1.15, 1.2)),
}


class Comparison:
    """All variants around one run of the framework."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.rounds = Rounds(self.before, self.after)
        self.others: dict[str, Any] = {}
        self.times: dict[str, list[float]] = {name: [] for name in ORDER}
        self.known: dict[str, Any] = {}

    def before(self, number: int, module: Any, data: Any) -> None:  # noqa: ANN401
        """Run what comes before B in a round."""
        if not self.others:
            self.build(module, data)
        here = ORDER.index("B")
        self.run(ORDER[:here] if number % 2 == 0 else ORDER[:here:-1])

    def after(self, number: int, module: Any, data: Any) -> None:  # noqa: ANN401
        """Run what comes after it."""
        del module, data
        here = ORDER.index("B")
        self.times["B"].append(self.rounds.steps[-1])
        self.run(ORDER[here + 1 :] if number % 2 == 0 else ORDER[here - 1 :: -1])
        print(f"round {number} of {self.options.rounds}", file=sys.stderr)

    def run(self, names: Iterable[str]) -> None:
        """Run a round of some variants."""
        for name in names:
            self.times[name].append(self.others[name].run())

    def build(self, module: Any, data: Any) -> None:  # noqa: ANN401
        """Build the other variants, from the framework's network before its first step."""
        options, steps = self.options, self.options.steps
        spans = (steps, options.rounds + 1)
        self.others = {
            "A": Bare(module, data, *spans),
            "A again": Bare(module, data, *spans),
            "two passes": Bare(module, data, *spans, joint=False),
            "C": Usually(module, data, steps, self.folder, options.workers),
        }
        plain = resnet18()
        plain.fc = torch.nn.Identity()
        same = type(module.backbone)()
        few = options.article_steps
        self.others["D"] = Article(plain, 512, data, few, DEVICE)
        self.others["D, same network"] = Article(same, same.num_features, data, few, DEVICE)
        images = torch.zeros(2, 3, 32, 32)
        batch = {name: (images, torch.zeros(2)) for name in data.sources}
        self.known = {
            "flops_per_image": flops_per_image(module, batch),
            "images": {name: len(s.splits["train"]) for name, s in data.sources.items()},
            "data": data.fingerprint,
            "data_path": data_path(data, DEVICE, options.rounds),
        }


def main() -> None:
    """Measure, judge, and write the table and the figures."""
    options = arguments()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    if not GPU:
        torch.set_num_threads(1)
    if options.child:
        child(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        compared = Comparison(options, Path(folder))
        framework(compared.rounds, run_arguments(options, Path(folder), options.rounds + 1))
    found = summary(compared, options)

    def arguments_of(folder: Path, epochs: int) -> list[str]:
        return run_arguments(options, folder, epochs)

    length = 2 if options.smoke else 20
    profiled, images = (1, 20) if options.smoke else (10, 2000)
    found["beside"] = beside(arguments_of, options.epochs, length, profiled, images)
    if options.gpu:
        found["captured"] = captured(arguments_of, options.steps, options.rounds)
        found["whole"] = whole(whole_arguments(options))
    text = tables(found)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "benchmark.md").write_text(text, encoding="utf-8")
    if options.growth:
        kind, unit, batch = (ResNet18, 20_000, 256) if GPU else (ResNet20, 512, 64)
        found["growth"] = growth(kind, unit, batch, options.growth)
        plot(found["growth"], options.out / "benchmark.png")
    path = options.out / "benchmark.json"
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"\n{path}", file=sys.stderr)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--root", help="folder of the real data sets")
    parser.add_argument("--rounds", type=int, default=9, help="2 or more")
    parser.add_argument("--steps", type=int, default=200 if GPU else 10, help="timed, per round")
    parser.add_argument("--article-steps", type=int, default=200 if GPU else 10)
    parser.add_argument("--batch", type=int, default=256 if GPU else 64, help="per source")
    parser.add_argument("--workers", type=int, default=2, help="of C, per source")
    parser.add_argument("--out", type=Path, default=Path("benchmark"), help="folder for figures")
    parser.add_argument("--epochs", type=int, default=11, help="whose ends are timed, 3 or more")
    parser.add_argument("--growth", type=int, default=3, help="rounds of that; 0 leaves it out")
    parser.add_argument("--gpu", action="store_true", default=GPU, help="the rows for a GPU too")
    parser.add_argument("--smoke", action="store_true", help="two rounds of one step")
    parser.add_argument("--child", choices=("A", "B", "C"), help=argparse.SUPPRESS)
    parser.add_argument("--since", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name, least in LEAST.items():
        if (given := getattr(options, name)) < least:
            raise SystemExit(f"--{name} must be at least {least}, got {given}.")
    if options.smoke:
        options.rounds, options.steps, options.article_steps, options.batch = 2, 1, 1, 4
        options.workers = options.growth = 0
        options.epochs = 4
    return options


def data_arguments(options: argparse.Namespace) -> list[str]:
    """Which images the framework's run reads."""
    if options.root:
        return [f"--data.init_args.root={options.root}", "--data.init_args.offline=error"]
    return ["--data.init_args.images=generated", "--data.init_args.generated_size=5000"]


def whole_arguments(options: argparse.Namespace) -> list[str]:
    """What the whole run is told beside its configuration."""
    small = ["--data.init_args.generated_size=200", "--trainer.max_epochs=1"]
    small += ["--data.init_args.batch_size=50", "--model.init_args.backbone=tl.backbones.ResNet20"]
    return [*data_arguments(options), "--trainer.devices=1", *(small if options.smoke else [])]


def run_arguments(options: argparse.Namespace, folder: Path, epochs: int) -> list[str]:
    """What the framework's run is told beside its configuration."""
    network = "ResNet18" if GPU else "ResNet20"
    return [
        *data_arguments(options),
        f"--data.init_args.batch_size={options.batch}",
        f"--data.init_args.epoch_length={options.steps + 1}",
        f"--model.init_args.backbone=tl.backbones.{network}",
        f"--trainer.max_epochs={epochs}",
        # the configuration's own, but one log at least in each round
        f"--trainer.log_every_n_steps={min(LOG_EVERY, options.steps + 1)}",
        "--trainer.limit_val_batches=1",
        "--trainer.num_sanity_val_steps=0",
        "--trainer.devices=1",
        f"--log_dir={folder}",
    ]


def child(options: argparse.Namespace) -> None:
    """Be one variant in a process of its own: seconds to its first step, peak memory."""
    imported = time.time()
    with tempfile.TemporaryDirectory() as folder:
        first = alone(options, Path(folder))
    # the framework prints too; the parent reads the last line
    found = {"imports": imported - options.since, "first_step": first - options.since}
    print(json.dumps(found | {"peak": peak_memory_bytes()}))


def alone(options: argparse.Namespace, folder: Path) -> float:
    """Run a round of A, B or C; returns the time of day at the end of its first step."""
    if options.child == "B":
        clock = Clock()
        framework(clock, run_arguments(options, folder, 1))
        return clock.first_at
    from tl import CifarDataModule, MultiTaskDataModule, MultiTaskModule  # noqa: PLC0415

    real = {"root": options.root} if options.root else {"images": "generated"}
    size = {} if options.root else {"generated_size": 5000}
    names = ("cifar10", "cifar100")
    sources = {name: CifarDataModule(name, **real, **size) for name in names}  # type: ignore[arg-type]
    data = MultiTaskDataModule(sources=sources, batch_size=options.batch)
    data.setup("fit")
    module = MultiTaskModule(ResNet18() if GPU else ResNet20(), data.tasks).to(DEVICE)
    if options.child == "C":
        variant: Any = Usually(module, data, options.steps, folder, options.workers)
    else:
        variant = Bare(module, data, options.steps, 1)
    variant.run()
    return float(variant.first_at)


def in_children(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """First step and peak memory of A, B and C."""
    found = {}
    for name in ("A", "B") if options.smoke else ("A", "B", "C"):
        command = [sys.executable, __file__, f"--child={name}", f"--since={time.time()}"]
        command += [f"--steps={options.steps}", f"--batch={options.batch}"]
        command += [f"--workers={options.workers}"]
        command += [f"--root={options.root}"] if options.root else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
        found[name] = json.loads(done.stdout.splitlines()[-1])
    return found


def summary(compared: Comparison, options: argparse.Namespace) -> dict[str, Any]:
    """Put together all that was measured, without the warm-up round."""
    times = {name: values[1:] for name, values in compared.times.items()}
    images = {name: IMAGES.get(name, 2 * options.batch) for name in ORDER}
    per_image = {name: [t / images[name] for t in times[name]] for name in ORDER}
    # with one thread on a CPU every sum has one order; on a GPU it has not
    a, b = compared.others["A"].losses, compared.rounds.losses
    pairs = list(zip(a, (loss.detach() for loss in b), strict=True))
    same = all(torch.equal(x, y.to(x)) for x, y in pairs)
    if not (same if not GPU else all(torch.allclose(x, y, rtol=0.05) for x, y in pairs)):
        raise SystemExit(f"A and B ended with other losses: {float(a[-1])} and {float(b[-1])}.")
    peak = matmul_peak(DEVICE, torch.bfloat16 if GPU else torch.float32, seconds=1.0)
    flops = compared.known["flops_per_image"]
    noise = quartiles(ratios(per_image, "A again", "A"))
    epoch = sum(compared.known["images"].values())
    return {
        "machine": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name() if GPU else f"{torch.get_num_threads()} thread",
        "load": os.getloadavg()[0],
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "network": "ResNet-18" if GPU else "ResNet-20",
        "options": {key: str(value) for key, value in vars(options).items()},
        "data": compared.known["data"],
        "same_losses": same,
        "images_per_second": {n: 1 / statistics.median(per_image[n]) for n in ORDER},
        "epoch_seconds": {n: epoch * statistics.median(per_image[n]) for n in ORDER},
        "epoch_images": epoch,
        "epoch_end_seconds": statistics.median(compared.rounds.ends[1:]),
        "flops_per_image": flops,
        "matmul_peak": peak,
        "mfu": {n: flops / statistics.median(per_image[n]) / peak for n in ORDER if n != "D"},
        "noise": noise,
        "ratios": {
            name: {**judged(ratios(per_image, one, other), kind, bars[GPU], noise)}
            for name, (one, other, kind, bars) in BARS.items()
        }
        | {"D over B": judged(ratios(per_image, "D", "B"), "", 0.0, noise)}
        | {
            "data path over PIL": judged(
                compared.known["data_path"], "least", 1000.0 if GPU else 50.0, noise
            )
        },
        "alone": in_children(options),
    }


def ratios(times: dict[str, list[float]], one: str, other: str) -> list[float]:
    """Ratios of two variants, round by round."""
    return [a / b for a, b in zip(times[one], times[other], strict=True)]


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def judged(
    values: list[float], kind: str, bar: float, noise: tuple[float, float, float]
) -> dict[str, Any]:
    """Hold a ratio against its bar, unless the noise is wider than the bar's distance from 1."""
    low, middle, high = quartiles(values)
    found = {"low": low, "median": middle, "high": high, "bar": f"at {kind} {bar:g}"}
    if not kind:
        return found | {"bar": "", "verdict": ""}
    if max(abs(noise[0] - 1), abs(noise[2] - 1)) > abs(middle - bar):
        return found | {"verdict": "no verdict: noise"}
    held = middle <= bar if kind == "most" else middle >= bar
    return found | {"verdict": "held" if held else "missed"}


def tables(found: dict[str, Any]) -> str:
    """Write Markdown."""
    same = "equal to the bit" if found["same_losses"] else "close"
    head = (
        f"{found['device']}, {found['machine']}, torch {found['versions']['torch']}, load "
        f"{found['load']:.1f}; {found['network']}, {found['flops_per_image'] / 1e9:.3f} GFLOP an "
        f"image, peak {found['matmul_peak'] / 1e9:,.0f} GFLOP/s; losses of A and B {same}"
    )
    lines = [
        head,
        "",
        f"| | images/s | epoch of {found['epoch_images']:,}, s | MFU |",
        "| --- | --- | --- | --- |",
    ]
    for name, speed in found["images_per_second"].items():
        mfu = f"{found['mfu'][name]:.0%}" if name in found["mfu"] else ""
        lines.append(f"| {name} | {speed:,.0f} | {found['epoch_seconds'][name]:,.0f} | {mfu} |")
    low, middle, high = found["noise"]
    lines += ["", "| ratio | median (quartiles) | bar | |", "| --- | --- | --- | --- |"]
    lines.append(f"| A again over A (noise) | {middle:.3f} ({low:.3f} to {high:.3f}) | | |")
    for name, row in found["ratios"].items():
        digits = 3 if row["high"] < 2 else 1
        middle, low, high = (f"{row[k]:.{digits}f}" for k in ("median", "low", "high"))
        lines.append(f"| {name} | {middle} ({low} to {high}) | {row['bar']} | {row['verdict']} |")
    lines += ["", "| alone | imported after, s | first step after, s | peak memory, MB |"]
    lines += ["| --- | --- | --- | --- |"]
    for name, row in found["alone"].items():
        seconds = f"{row['imports']:.1f} | {row['first_step']:.1f}"
        lines.append(f"| {name} | {seconds} | {row['peak'] / 1e6:,.0f} |")
    lines += ["", "an epoch's end (validation of one batch, checkpoints): "]
    lines[-1] += f"{found['epoch_end_seconds']:.2f} s"
    lines += as_markdown(found["beside"])
    if "whole" in found:
        images = 2 * int(found["options"]["batch"])
        lines += gpu_tables(found["captured"], images, found["whole"])
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
