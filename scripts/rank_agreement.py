"""How well the columns of `tl rank` agree with measured fine-tuning, over several targets.

    python scripts/rank_agreement.py RANK.json...      # of `tl rank --measured`, one a target

For each column: the mean over targets of the weighted Kendall tau (Vigna, 2015); the interval that
95 % of columns without a relation to the results have; in how many targets tau lies above the
target's own interval; and how much a user loses, in points, who fine-tunes from the source that the
column ranks first instead of the best one. Targets share their sources, and a source that is good
for one is good for others; therefore, the interval is that of permutations which rename the sources
alike in all targets. Sources that are not in all files are left out. ``--smoke`` takes random
numbers. Results: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl.questions.measured import agreement, weighted_tau

_DRAWS = 1000
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """Scores and measured results of the sources for a target.

    Args:
        name: Its file.
        scores: By column ``(sources,)``.
        results: ``(sources,)``, higher is better.
    """

    name: str
    scores: dict[str, _Floats]
    results: _Floats


def main() -> None:
    """Read the rankings and print the table."""
    parser = argparse.ArgumentParser(description="Agreement of scores with fine-tuning.")
    parser.add_argument("ranks", nargs="*", type=Path, help="rank.json of `tl rank --measured`.")
    parser.add_argument(
        "--leave-out", nargs="+", default=[], help="Sources whose names contain one of these."
    )
    parser.add_argument("--smoke", action="store_true", help="Random numbers in place of files.")
    given = parser.parse_args()
    if not given.ranks and not given.smoke:
        parser.error("name the rank.json files of `tl rank --measured`")
    targets = _noise() if given.smoke else read(given.ranks, given.leave_out)
    count = len(targets[0].results)
    print(f"{len(targets)} targets, {count} sources\n")
    print("| column | mean tau | 95 % under no relation | above chance | points lost |")
    print("| --- | --- | --- | --- | --- |")
    for column in targets[0].scores:
        print(row(column, targets))
    chance = np.mean([each.results.max() - each.results.mean() for each in targets])
    print(f"| a source at random | | | | {100 * chance:.1f} |")


def read(paths: Sequence[Path], leave_out: Sequence[str] = ()) -> list[Target]:
    """Read rankings without some sources; those that lack in one are left out too, all named."""
    every = [json.loads(path.read_text()) for path in paths]
    known = [
        {e["sha256"] or e["name"]: e for e in content["sources"] if e["measured"] is not None}
        for content in every
    ]
    common = [
        key
        for key, source in known[0].items()
        if all(key in each for each in known)
        and not any(part in source["name"] for part in leave_out)
    ]
    if len(common) < 2:
        raise SystemExit(f"The files share {len(common)} measured sources; 2 or more are needed.")
    out = {e["name"] for each in known for key, e in each.items() if key not in common}
    if out:
        print(f"left out: {', '.join(sorted(out))}\n")
    found = []
    for path, content, each in zip(paths, every, known, strict=True):
        sign = -1 if content["measured"]["lower_is_better"] else 1
        columns = {
            name: np.array([_number(each[key]["scores"][name]) for key in common])
            for name in each[common[0]]["scores"]
        }
        results = np.array([sign * float(each[key]["measured"]) for key in common])
        found.append(Target(str(path), columns, results))
    return found


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def row(column: str, targets: Sequence[Target], draws: int = _DRAWS, seed: int = 0) -> str:
    """Return a column's line of the table; only sources that all targets score count."""
    scores = [each.scores[column] for each in targets]
    kept = np.all([~np.isnan(each) for each in scores], axis=0)
    pairs = [(s[kept], t.results[kept]) for s, t in zip(scores, targets, strict=True)]
    if kept.sum() < 2 or all(len(set(s)) == 1 for s, _ in pairs):
        return f"| {column} | constant or missing | | | |"
    name = column if kept.all() else f"{column} ({kept.sum()} sources)"
    generator = np.random.default_rng(seed)
    drawn = [_mean(pairs, generator.permutation(int(kept.sum()))) for _ in range(draws)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    own = [agreement(column, s, r) for s, r in pairs]
    above = sum(each.beyond_chance and each.tau > 0 for each in own)
    return (
        f"| {name} | {_mean(pairs):+.2f} | {low:+.2f} to {high:+.2f} | {above} of {len(own)} | "
        f"{100 * lost(column, targets):.1f} |"
    )


def _mean(
    pairs: Sequence[tuple[_Floats, _Floats]], order: NDArray[np.int64] | None = None
) -> float:
    """Return the mean tau, with the results of all targets in another order if one is given."""
    return float(np.mean([weighted_tau(s, r if order is None else r[order]) for s, r in pairs]))


def lost(column: str, targets: Sequence[Target]) -> float:
    """Return by how much the source that a column ranks first is worse than the best, on average.

    Sources that share the first place count alike.
    """
    losses = []
    for each in targets:
        scores = each.scores[column]
        first = scores == np.nanmax(scores)
        losses.append(float(each.results.max() - each.results[first].mean()))
    return float(np.mean(losses))


def _noise() -> list[Target]:
    generator = np.random.default_rng(0)
    return [
        Target(str(number), {"knn": generator.random(12)}, generator.random(12))
        for number in range(3)
    ]


if __name__ == "__main__":
    main()
