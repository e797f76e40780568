"""How well the columns of `tl rank` agree with measured fine-tuning, over several targets.

    python scripts/rank_agreement.py RANK.json...      # of `tl rank --measured`, one a target

For each column: the mean over targets of the weighted Kendall tau (Vigna, 2015); the interval that
95 % of columns without a relation to the results have; in how many targets tau lies above the
target's own interval; and how much a user loses, in units of the metric, who fine-tunes from the
source that the column ranks first instead of the one with the best result. As the best of several
noisy results is partly luck, compare that with a source at random. Targets share their sources, and
a source that is good for one is good for others; therefore, the interval is that of permutations
which rename the sources alike in all targets. Sources that are not measured in all files are left
out, and named; a source is known by its weights, with ``--by-name`` by its name, for sources that
were trained anew for some of the files. ``--smoke`` takes random numbers. Results:
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl.questions.measured import agreement, weighted_tau

_DRAWS = 4000
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
    parser.add_argument("--by-name", action="store_true", help="Know sources by their names.")
    parser.add_argument("--smoke", action="store_true", help="Random numbers in place of files.")
    given = parser.parse_args()
    if not given.ranks and not given.smoke:
        parser.error("name the rank.json files of `tl rank --measured`")
    targets = _noise() if given.smoke else read(given.ranks, given.leave_out, by_name=given.by_name)
    count = len(targets[0].results)
    print(f"{len(targets)} targets, {count} sources\n")
    print("| column | mean tau | 95 % under no relation | above chance | lost |")
    print("| --- | --- | --- | --- | --- |")
    for column in targets[0].scores:
        print(row(column, targets))
    chance = np.mean([each.results.max() - each.results.mean() for each in targets])
    print(f"| a source at random | | | | {chance:.3f} |")


def read(
    paths: Sequence[Path], leave_out: Sequence[str] = (), *, by_name: bool = False
) -> list[Target]:
    """Read rankings without some sources; those missing from a file are left out too, all named."""

    def key_of(source: dict[str, Any]) -> str:
        return str(source["name"] if by_name else source["sha256"] or source["name"])

    every = [json.loads(path.read_text()) for path in paths]
    known = [
        {key_of(e): e for e in content["sources"] if e["measured"] is not None} for content in every
    ]
    common = [
        key
        for key, source in known[0].items()
        if all(key in each for each in known)
        and not any(part in source["name"] for part in leave_out)
    ]
    if len(common) < 2:
        raise SystemExit(f"The files share {len(common)} measured sources; 2 or more are needed.")
    out = {e["name"] for content in every for e in content["sources"] if key_of(e) not in common}
    if out:
        print(f"left out: {', '.join(sorted(out))}\n")
    found = []
    for path, content, each in zip(paths, every, known, strict=True):
        sign = -1 if content["measured"]["lower_is_better"] else 1
        names = dict.fromkeys(name for part in every for name in part["sources"][0]["scores"])
        columns = {
            name: np.array([_number(each[key]["scores"].get(name)) for key in common])
            for name in names
        }
        results = np.array([sign * float(each[key]["measured"]) for key in common])
        found.append(Target(str(path), columns, results))
    return found


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def row(column: str, targets: Sequence[Target], draws: int = _DRAWS, seed: int = 0) -> str:
    """Return a column's line of the table.

    Only sources that have a score in all targets count, and targets where scores differ.
    """
    scored = np.all([~np.isnan(each.scores[column]) for each in targets], axis=0)
    pairs = [(each.scores[column][scored], each.results[scored]) for each in targets]
    pairs = [each for each in pairs if all(len(set(side.tolist())) > 1 for side in each)]
    if not pairs:
        return f"| {column} | constant or missing | | | |"
    less = [f"{scored.sum()} sources"] if not scored.all() else []
    less += [f"{len(pairs)} targets"] if len(pairs) < len(targets) else []
    said = f" ({', '.join(less)})" if less else ""
    generator = np.random.default_rng(seed)
    drawn = [_mean(pairs, generator.permutation(int(scored.sum()))) for _ in range(draws)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    own = [agreement(column, *each) for each in pairs]
    above = sum(each.beyond_chance and each.tau > 0 for each in own)
    return (
        f"| {column}{said} | {_mean(pairs):+.2f} | "
        f"{low:+.2f} to {high:+.2f} | {above} of {len(own)} | {lost(pairs):.3f} |"
    )


def _mean(
    pairs: Sequence[tuple[_Floats, _Floats]], order: NDArray[np.int64] | None = None
) -> float:
    """Return the mean tau, with the results of all targets in another order if one is given."""
    return float(np.mean([weighted_tau(s, r if order is None else r[order]) for s, r in pairs]))


def lost(pairs: Sequence[tuple[_Floats, _Floats]]) -> float:
    """Return by how much the source with the best score is worse than the best, on average.

    Sources that share the first place count alike.

    Args:
        pairs: Scores and results ``(sources,)`` of each target.
    """
    return float(np.mean([r.max() - r[s == s.max()].mean() for s, r in pairs]))


def _noise() -> list[Target]:
    generator = np.random.default_rng(0)
    return [
        Target(str(number), {"knn": generator.random(12)}, generator.random(12))
        for number in range(3)
    ]


if __name__ == "__main__":
    main()
