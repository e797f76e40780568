"""What a transfer brings over training from scratch, by label fraction, over several seeds.

    python scripts/benchmark_transfer.py --root data

Trains a source on CIFAR-10 once per seed, then CIFAR-100 at each label fraction, from scratch and
from the source's weights, with the same number of epochs and the same schedule. The checkpoint is
chosen on validation images; the table shows accuracy on the whole test set. Runs that are done
are kept, so a grid that was cut off goes on where it stopped. ``--smoke`` runs a tiny grid on
drawn images.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tl.report import mean_interval

METHODS = ("scratch", "fine_tuning")


def main() -> None:
    """Run what is missing of the grid, then print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--root", default="data", help="folder of the data sets")
    parser.add_argument("--out", default="lightning_logs/benchmark_transfer", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.05, 0.2])
    parser.add_argument("--source-fraction", type=float, default=0.4)
    parser.add_argument("--source-epochs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--smoke", action="store_true", help="a tiny grid on drawn images")
    options = parser.parse_args()
    common = ["--config", "configs/overlays/cpu.yaml", f"--data.init_args.root={options.root}"]
    common += ["--data.init_args.offline=error", "--data.init_args.download=false"]
    if options.smoke:
        common += ["--data.init_args.images=generated", "--data.init_args.generated_size=2000"]
        options.seeds, options.fractions = options.seeds[:1], options.fractions[-1:]
        options.source_epochs = options.epochs = 1

    for seed in options.seeds:
        source = [*common, f"--trainer.max_epochs={options.source_epochs}"]
        source += [f"--data.init_args.label_fraction={options.source_fraction}"]
        name = f"source-{seed}"
        run(options.out, name, "configs/source_cifar10.yaml", seed, source)
        start = options.out / name / "version_0" / "checkpoints" / "best.ckpt"
        for fraction in options.fractions:
            target = [*common, f"--trainer.max_epochs={options.epochs}"]
            target += [f"--data.init_args.label_fraction={fraction}"]
            for method in METHODS:
                more = [f"--model.init_args.init_from={start}"] if method != "scratch" else []
                name = f"{method}-{fraction}-{seed}"
                run(options.out, name, "configs/transfer_cifar100.yaml", seed, target + more)
    lines = list(table(options.out, options.fractions, options.seeds))
    (options.out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def run(out: Path, name: str, config: str, seed: int, arguments: list[str]) -> None:
    """Train and test, unless that is done."""
    if accuracy(out, name) is not None:
        print(f"{name}: done before", flush=True)
        return
    print(f"{name}: running", flush=True)
    for old in sorted((out / name).glob("version_*")):  # what a cut-off run left
        old.rename(out / f"unfinished-{name}-{old.name}-{len(list(out.iterdir()))}")
    shared = ["--config", config, *arguments, f"--seed_everything={seed}"]
    shared += [f"--log_dir={out}", f"--name={name}", "--dashboard.graph=false"]
    for verb in ("fit", "test"):
        command = [sys.executable, "-m", "tl.cli", verb, *shared]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            sys.exit(f"{name}: {verb} failed: {done.stderr.strip().splitlines()[-1]}")
    print(f"{name}: {accuracy(out, name):.4f}", flush=True)


def accuracy(out: Path, name: str) -> float | None:
    """Test accuracy of a finished run; ``None`` if it is not finished."""
    for path in (out / name).glob("version_*/results.json"):
        metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
        if "test/acc" in metrics:
            return float(metrics["test/acc"])
    return None


def table(out: Path, fractions: list[float], seeds: list[int]) -> Iterator[str]:
    """Rows of Markdown: test accuracy and gain over scratch, in percent, with 95 % intervals."""
    yield "| label fraction | method | test accuracy, % | gain over scratch, points |"
    yield "| --- | --- | --- | --- |"
    for fraction in fractions:
        reached = {
            method: [value for s in seeds if (value := accuracy(out, f"{method}-{fraction}-{s}"))]
            for method in METHODS
        }
        for method, values in reached.items():
            pairs = zip(values, reached["scratch"], strict=True)
            gain = mean_interval([value - base for value, base in pairs])  # paired by seed
            mark = " **negative transfer**" if gain.below_zero else ""
            brought = "-" if method == "scratch" else gain.percent(signed=True) + mark
            yield f"| {fraction:.0%} | {method} | {mean_interval(values).percent()} | {brought} |"


if __name__ == "__main__":
    main()
