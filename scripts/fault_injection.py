"""The faults that a run survives: kills, full disks, damaged checkpoints, signals, lost ranks.

    python scripts/fault_injection.py

Each trial starts a tiny run on the command line, injects a fault, and repeats the same command with
``--resume auto`` until the run is complete. Its last checkpoint must then equal that of an
undisturbed run, bit for bit: weights, buffers, optimizer, schedule. The table counts

- tried: faults that really happened;
- survived: the run ended as documented (exit code, one line, nothing left running), and the same
  command resumed and ended with exit code 0;
- identical: the result equals that of the undisturbed run, including the best score;
- lost: steps that an intact checkpoint held were trained again.

Kills come from outside as SIGKILL, at a random step and a random moment of it. Those in a
checkpoint hit a write of which the kernel lets only so many bytes through, the fsync, the rename,
the moment after it, or any moment. A damaged checkpoint must be refused, or hold what was in it. A
full disk is a tmpfs of some megabytes, which needs root. Two ranks are two processes, one of which
is killed or raises; both must be gone within a minute, with the original error shown. In a study
of six real runs, itself, a worker or a run's process is killed at random times; the report, in all
its digits, must be that of the undisturbed study.

All but ranks and studies are forked from one process that has imported everything: a trial takes a
second or two. ``--only SECTION`` runs one section, ``--seed`` draws other faults, ``--smoke`` tries
a few.

Measured with the defaults (seed 0), 2026-11-28, torch 2.14.1, 2 shared CPU cores, 15 minutes beside
other work:

    | fault | tried | survived | identical | lost |
    | --- | --- | --- | --- | --- |
    | SIGKILL at a random step | 40 | 40 | 40 | 0 |
    | SIGKILL or SIGTERM in a run bounded by max_steps | 8 | 8 | 8 | 0 |
    | SIGKILL or SIGTERM in a run with a plateau schedule | 8 | 8 | 8 | 0 |
    | SIGKILL or SIGTERM in a run with a plateau schedule, validated in mid-epoch | 8 | 8 | 8 | 0 |
    | SIGKILL or SIGTERM in a run with averaged weights (SWA) | 8 | 8 | 8 | 0 |
    | SIGKILL or SIGTERM in a run with an accumulation by epoch | 8 | 8 | 8 | 0 |
    | SIGKILL, then a moved log folder | 4 | 4 | 4 | 0 |
    | workers in a small /dev/shm | 4 | 4 | 4 | 0 |
    | killed while a checkpoint is written: in a write | 3 | 3 | 3 | 0 |
    | killed while a checkpoint is written: before the fsync | 3 | 3 | 3 | 0 |
    | killed while a checkpoint is written: before the rename | 3 | 3 | 3 | 0 |
    | killed while a checkpoint is written: after the rename | 3 | 3 | 3 | 0 |
    | killed while a checkpoint is written: at any moment | 3 | 3 | 3 | 0 |
    | full disk | 6 | 6 | 6 | 0 |
    | limit on the size of files | 4 | 4 | 4 | 0 |
    | truncated checkpoint | 8 | 8 | 8 | 0 |
    | checkpoint with a flipped bit | 50 | 50 | 50 | 0 |
    | SIGTERM, exit code 143 | 3 | 3 | 3 | 0 |
    | SIGINT, exit code 130 | 3 | 3 | 3 | 0 |
    | SIGUSR1, exit code 138 | 3 | 3 | 3 | 0 |
    | SIGHUP, exit code 129 | 3 | 3 | 3 | 0 |
    | rank 0 of two killed | 1 | 1 | 1 | 0 |
    | rank 1 of two killed | 1 | 1 | 1 | 0 |
    | rank 0 of two raises | 1 | 1 | 1 | 0 |
    | rank 1 of two raises | 1 | 1 | 1 | 0 |

and ``--only studies``, 2026-11-30, 29 minutes beside other work:

    | SIGKILL of the study, within a study | 4 | 4 | 4 | 0 |
    | SIGKILL of a worker, within a study | 5 | 5 | 5 | 0 |
    | SIGKILL of a run, within a study | 4 | 4 | 4 | 0 |
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from rich.progress import Progress

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.faults import checkpoints, children, study  # noqa: E402
from scripts.faults.bench import Bench, Harm, Row, command, errors_of  # noqa: E402
from scripts.faults.ranks import run_ranks  # noqa: E402

ONE, TWO = (f"--config={ROOT}/scripts/faults/{name}.yaml" for name in ("transfer", "multitask"))
STRATEGY = "--model.init_args.strategy"
BALANCER = "--model.init_args.balancer"
STATISTICS = "--model.init_args.batch_norm"
LENGTH = "--data.init_args.epoch_length"
WORKERS = "--data.init_args.num_workers=2"
ACCUMULATE = "--trainer.accumulate_grad_batches=2"
MIDDLE = "--trainer.val_check_interval=3"
THAW = (f"{STRATEGY}=tl.transfer.LPFT", f"{STRATEGY}.init_args.probe_epochs=1")
SCENARIOS = (
    (ONE,),
    (TWO, f"{BALANCER}=tl.balancing.GradNorm", f"{STATISTICS}=per_source"),
    (ONE, WORKERS, MIDDLE),
    (TWO, WORKERS, f"{LENGTH}=shortest", f"{STATISTICS}=per_source"),
    (ONE, *THAW, ACCUMULATE),
    (TWO, f"{LENGTH}=5", f"{BALANCER}=torchjd.scalarization.DWA"),
    (ONE, WORKERS, ACCUMULATE),
    (TWO, ACCUMULATE, MIDDLE, f"{BALANCER}=torchjd.aggregation.PCGrad"),
    (TWO, WORKERS, f"{LENGTH}=5", f"{STATISTICS}=per_source_statistics", *THAW),
)
SCHEDULER = "--model.init_args.scheduler"
CALLBACK = "--trainer.callbacks+=lightning.pytorch.callbacks"
PLATEAU = (
    f"{SCHEDULER}=torch.optim.lr_scheduler.ReduceLROnPlateau",
    *(f"{SCHEDULER}.init_args.{given}" for given in ("patience=0", "factor=0.5", "threshold=0.5")),
)
# runs in which something other than epochs and a schedule by steps decides
OTHERS = {
    "bounded by max_steps": (TWO, "--trainer.max_epochs=-1", "--trainer.max_steps=17"),
    "with a plateau schedule": (ONE, *PLATEAU),
    "with a plateau schedule, validated in mid-epoch": (ONE, *PLATEAU, MIDDLE, WORKERS),
    "with averaged weights (SWA)": (
        *(ONE, f"{CALLBACK}.StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.01"),
        "--trainer.callbacks.swa_epoch_start=1",
    ),
    "with an accumulation by epoch": (
        *(ONE, f"{CALLBACK}.GradientAccumulationScheduler"),
        "--trainer.callbacks.scheduling={0: 1, 1: 2}",
        *(f"{SCHEDULER}=torch.optim.lr_scheduler.StepLR", f"{SCHEDULER}.init_args.step_size=1"),
    ),
}
_KILLS = 4  # of each kind of a study's processes
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


def main() -> None:
    """Make the trials, print the table, and fail unless all went well."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", choices=SECTIONS, nargs="+", default=list(SECTIONS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few trials of each section")
    options = parser.parse_args()
    torch.set_num_threads(1)  # threads do not survive a fork
    work = Path(tempfile.mkdtemp(prefix="faults_"))
    rows: list[Row] = []
    # the bar draws when told to: a thread of its own would not survive a fork either
    with Progress(auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as progress:
        bench = Bench(work, options.smoke)
        for name in options.only:
            task = progress.add_task(name, total=None)
            bench.rng = random.Random(f"{options.seed} {name}")  # noqa: S311 - draws faults
            bench.step = partial(progress.update, task, advance=1, refresh=True)
            begin = time.monotonic()
            rows += SECTIONS[name](bench)
            done = f"{name}, {time.monotonic() - begin:.0f} s"
            progress.update(task, description=done, total=1, completed=1, refresh=True)
    for failure in bench.failures:
        print(failure, file=sys.stderr)
    print(f"torch {torch.__version__}, seed {options.seed}\n")
    print("| fault | tried | survived | identical | lost |\n| --- | --- | --- | --- | --- |")
    print(*rows, sep="\n")
    if bench.failures or not all(row.stands for row in rows):
        sys.exit(f"some were lost; their runs are in {work}")
    shutil.rmtree(work)


def kills(bench: Bench) -> Iterator[Row]:
    """SIGKILL at random steps, again and again until a run gets through."""
    row = Row("SIGKILL at a random step")
    for scenario in itertools.cycle(SCENARIOS):
        left = bench.number(40, 2) - row.tried
        if left <= 0:
            break
        steps = len(bench.whole(scenario)[1].steps)
        harms = [
            Harm(act=after("step", bench.rng.randint(1, steps // 2), signal.SIGKILL, bench.rng))
            for _ in range(left)
        ]
        bench.trials(row, scenario, bench.folder(), harms)
    yield row


def others(bench: Bench) -> Iterator[Row]:
    """SIGKILL and SIGTERM in runs of other kinds."""
    for name, scenario in list(OTHERS.items())[: bench.number(len(OTHERS), 1)]:
        row = Row(f"SIGKILL or SIGTERM in a run {name}")
        steps = len(bench.whole(scenario)[1].steps)
        while row.tried < bench.number(8, 1):
            harms = [
                Harm(
                    act=after("step", bench.rng.randint(1, steps // 2), number, bench.rng),
                    ends=-number if number == signal.SIGKILL else 128 + number,
                )
                for number in (signal.SIGKILL, signal.SIGTERM)
            ]
            bench.trials(row, scenario, bench.folder(), harms)
        yield row


def moved(bench: Bench) -> Iterator[Row]:
    """SIGKILL, and the folder of the logs has another name when the run resumes."""
    row = Row("SIGKILL, then a moved log folder")
    for scenario in SCENARIOS[: bench.number(4, 1)]:
        steps = len(bench.whole(scenario)[1].steps)
        log = bench.folder()
        killed = after("step", bench.rng.randint(steps // 2, steps - 2), signal.SIGKILL, bench.rng)
        children.run(command(scenario, log), act=killed)
        floor = checkpoints.intact_step(log)
        bench.trials(row, scenario, log.rename(bench.folder()), done=1, floor=floor)
        bench.step()
    yield row


def shared_memory(bench: Bench) -> Iterator[Row]:
    """Workers whose shared memory has no room, then enough."""
    row = Row("workers in a small /dev/shm")
    for scenario in [s for s in SCENARIOS if WORKERS in s][: bench.number(4, 1)]:
        small = children.small_shared_memory()
        if small is None:
            print("shared memory: skipped, a tmpfs cannot be mounted here")
            return
        harm = Harm(prepare=small, ends=2, says=True)
        bench.trials(row, scenario, bench.folder(), [harm])
    yield row


def after(word: str, count: int, number: int, rng: random.Random) -> children.Act:
    """Send a signal at a random moment after the n-th event of a kind."""
    seen = itertools.count(1)
    delay = rng.uniform(0, 0.04 if word == "step" else 0.01)

    def act(event: str) -> int | None:
        if event != word or next(seen) != count:
            return None
        time.sleep(delay)
        return number

    return act


def writes(bench: Bench) -> Iterator[Row]:
    """Kills while a checkpoint is written."""
    points: dict[str, Callable[[], children.Prepare]] = {
        "in a write": lambda: children.die_in_write(part_of_a_checkpoint(bench)),
        "before the fsync": lambda: children.die_before("fsync"),
        "before the rename": lambda: children.die_before("replace"),
        "after the rename": lambda: children.die_after("replace"),
    }
    for name in [*points, "at any moment"][: bench.number(5, 1)]:
        row = Row(f"killed while a checkpoint is written: {name}")
        for scenario in SCENARIOS[: bench.number(3, 1)]:
            count = bench.rng.randint(2, len(bench.whole(scenario)[1].saved) - 1)
            if name in points:
                ends = -signal.SIGXFSZ if name == "in a write" else -signal.SIGKILL
                harm = Harm(prepare=children.in_save(count, points[name]()), ends=ends)
            else:
                harm = Harm(act=after("save", count, signal.SIGKILL, bench.rng))
            bench.trials(row, scenario, bench.folder(), [harm])
        yield row


def part_of_a_checkpoint(bench: Bench) -> int:
    """Draw a number of bytes that is less than a checkpoint has, and more than logs have."""
    bench.whole(SCENARIOS[0])
    size = min(path.stat().st_size for path in bench.work.rglob("last.ckpt"))
    return bench.rng.randint(size // 4, size - 1)


def full(bench: Bench) -> Iterator[Row]:
    """A full disk, then room again; a limit on the size of files, then none."""
    row = Row("full disk")
    for scenario in SCENARIOS[: bench.number(2, 1)]:
        for room in (0, *(part_of_a_checkpoint(bench) for _ in range(bench.number(2, 0)))):
            with small_disk(bench.work / "disk") as disk:
                if disk is None:
                    print("full disk: skipped, a tmpfs cannot be mounted here")
                    return
                harm = Harm(
                    prepare=children.in_save(
                        bench.rng.randint(3, 6), children.fill_disk(disk, room)
                    ),
                    ends=1,
                    says=True,
                    after=(disk / "ballast").unlink,
                )
                bench.trials(row, scenario, disk / "logs", [harm])
    yield row


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Mount a file system of 32 MB in memory; nothing where that is not allowed."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0  # noqa: S603
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)  # noqa: S603, S607


def limits(bench: Bench) -> Iterator[Row]:
    """A limit on the size of files, then none."""
    row = Row("limit on the size of files")
    for scenario in SCENARIOS[: bench.number(4, 1)]:
        limit = children.limit_files(part_of_a_checkpoint(bench))
        harm = Harm(children.in_save(bench.rng.randint(3, 6), limit), ends=1, says=True)
        bench.trials(row, scenario, bench.folder(), [harm])
    yield row


def truncated(bench: Bench) -> Iterator[Row]:
    """The newest checkpoint is cut short."""

    def cut(path: Path, trial: int) -> None:
        size = path.stat().st_size
        lengths = (size - 1, 0, size // 2, 1, size - 100, 512)
        keep = lengths[trial] if trial < len(lengths) else bench.rng.randrange(size)
        checkpoints.cut(path, keep)

    yield damaged(bench, "truncated checkpoint", SCENARIOS[1], bench.number(8, 1), cut)


def flips(bench: Bench) -> Iterator[Row]:
    """A bit of the newest checkpoint is flipped."""
    flip = lambda path, _: checkpoints.flip(path, bench.rng)  # noqa: E731
    yield damaged(bench, "checkpoint with a flipped bit", SCENARIOS[0], bench.number(50, 5), flip)


def damaged(
    bench: Bench,
    fault: str,
    scenario: tuple[str, ...],
    wanted: int,
    damage: Callable[[Path, int], None],
) -> Row:
    """Damage the newest checkpoint of a run that was killed, again and again."""
    row = Row(fault)
    log = bench.folder()
    steps = len(bench.whole(scenario)[1].steps)
    killed = after("step", 2 * steps // 3, signal.SIGKILL, bench.rng)
    children.run(command(scenario, log), act=killed)
    template = log.rename(log.with_name("template"))
    for trial in range(wanted):
        shutil.copytree(template, log)
        newest = checkpoints.newest(log)
        if newest is None:
            raise RuntimeError(f"{log}: the killed run left no checkpoint")
        intact = checkpoints.content(newest)
        damage(newest, trial)
        if not checkpoints.refused_or_same(newest, intact):
            bench.failures.append(f"{fault}: trial {trial} is read and holds something else")
        floor = checkpoints.intact_step(log)
        bench.trials(row, scenario, log, done=1, floor=floor)
        bench.step()
        shutil.rmtree(log, ignore_errors=True)
    shutil.rmtree(template)
    return row


def signals(bench: Bench) -> Iterator[Row]:
    """Signals that schedulers and people send."""
    for number in SIGNALS[: bench.number(4, 1)]:
        row = Row(f"{number.name}, exit code {128 + number}")
        for scenario in SCENARIOS[:: bench.number(3, 9)]:
            steps = len(bench.whole(scenario)[1].steps)
            act = after("step", bench.rng.randint(1, steps - 4), number, bench.rng)
            harm = Harm(act=act, ends=128 + number, says=True)
            bench.trials(row, scenario, bench.folder(), [harm])
        yield row


def ranks(bench: Bench) -> Iterator[Row]:
    """Two ranks, one of which is killed or raises."""
    if bench.smoke:  # each pair of processes takes the imports twice
        return
    log = bench.folder()
    run_ranks(command((TWO,), log))
    whole = checkpoints.content(checkpoints.newest(log))
    for how, rank in itertools.product(("killed", "raises"), (0, 1)):
        row = Row(f"rank {rank} of two {how}")
        log = bench.folder()
        code, said, seconds = run_ranks(command((TWO,), log), f"{how} {rank}")
        if code == 0:
            raise RuntimeError(f"{row.fault}: it did not\n{said}")
        row.tried = 1
        original = f"this is the fault of rank {rank}" in said or how == "killed"
        floor = checkpoints.intact_step(log)
        again, more, _ = run_ranks(command((TWO,), log))
        ended = code != 124 and seconds < 60 and bool(errors_of(said) or code < 0)
        row.survived = int(ended and original and again == 0)
        row.identical = int(checkpoints.equal(checkpoints.content(checkpoints.newest(log)), whole))
        went_on = re.search(r"resuming from \S+, at step (\d+)", more)
        row.lost = int(floor == 0 or went_on is None or int(went_on[1]) < floor)
        if not row.stands:
            bench.failures.append(f"{row.fault}: {code}, {seconds:.0f} s\n{said}\n{again}\n{more}")
        bench.step()
        yield row


def studies(bench: Bench) -> Iterator[Row]:
    """Processes of a study are killed; its report must be that of an undisturbed one."""
    if bench.smoke:  # six runs that take the imports twice
        return
    path = study.write(bench.work)
    code, whole = study.report(path, bench.folder())
    if code != 0:
        raise RuntimeError(f"the undisturbed study ended with {code}")
    rows = {kind: Row(f"SIGKILL of {kind}, within a study") for kind in study.KINDS}
    kinds = list(study.KINDS)
    while any(row.tried < _KILLS for row in rows.values()):
        wanted = [kind for kind in kinds if rows[kind].tried < _KILLS]
        out = bench.folder()
        killed, code, found = study.disturbed(path, out, bench.rng, wanted * 2)
        for kind in killed:
            rows[kind].tried += 1
            rows[kind].survived += code == 0
            rows[kind].identical += found == whole
            bench.step()
        if code != 0 or found != whole:
            bench.failures.append(f"{killed} within a study: {code}, see {out}")
            break
    yield from rows.values()


SECTIONS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "kills": kills,
    "others": others,
    "moved": moved,
    "shared_memory": shared_memory,
    "writes": writes,
    "full": full,
    "limits": limits,
    "truncated": truncated,
    "flips": flips,
    "signals": signals,
    "ranks": ranks,
    "studies": studies,
}

if __name__ == "__main__":
    main()
