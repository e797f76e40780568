"""``tl fewshot``: how well features tell new classes from a few samples of each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl.cli.devices import add_accelerator

if TYPE_CHECKING:
    from torch import Tensor

    from tl.questions.candidates import Candidate
    from tl.questions.samples import Samples

_BASE = 20  # samples per class that may be trained on, of which the mean is subtracted


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tl fewshot``."""
    parser.add_argument(
        "sources", nargs="+", help="Checkpoints, run folders or networks, as for `tl rank`."
    )
    parser.add_argument(
        "--split",
        required=True,
        help="cifar-fs, fc100, or a YAML file with lists of class names: train, val, test.",
    )
    parser.add_argument("--part", choices=("val", "test"), default="test", help="Classes: test.")
    parser.add_argument("--shots", default="1,5", help="Labelled samples per class: 1,5.")
    parser.add_argument("--ways", type=int, default=5, help="Classes in an episode: 5.")
    parser.add_argument("--queries", type=int, default=15, help="Per class, to answer: 15.")
    parser.add_argument("--episodes", type=int, default=2000, help="Number of episodes: 2000.")
    parser.add_argument("--seed", type=int, default=0, help="Of the episodes: 0.")
    parser.add_argument("--root", default="data", help="Folder of CIFAR-100, without --config.")
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        help="Configuration whose `data`, images or texts, hold the classes, such as a run's "
        "config.yaml: CIFAR-100 in --root by default.",
    )
    add_accelerator(parser)
    parser.add_argument("--out", default="lightning_logs/fewshot", help="Folder for the results.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")


def run(given: argparse.Namespace) -> None:
    """Print the accuracies, and write them."""
    shots = _shots(given.shots)
    for name, least in (("ways", 2), ("queries", 1), ("episodes", 1)):
        if getattr(given, name) < least:
            raise ValueError(f"`--{name}` must be {least} or more, got {getattr(given, name)}.")
    from tl.checkpoints.whole_files import made_folder  # noqa: PLC0415 - imports torch
    from tl.data.cifar.few_shot import CifarFewShotDataModule  # noqa: PLC0415 - as above
    from tl.data.progress import progress  # noqa: PLC0415 - as above
    from tl.questions.about import about_data  # noqa: PLC0415 - as above
    from tl.questions.candidates import (  # noqa: PLC0415 - as above
        check_different,
        check_modality,
    )
    from tl.questions.class_pool import pool_of  # noqa: PLC0415 - as above
    from tl.questions.class_splits import read_split  # noqa: PLC0415 - as above
    from tl.questions.episodes import check_episodes  # noqa: PLC0415 - as above
    from tl.questions.fewshot import (  # noqa: PLC0415 - as above
        as_dict,
        check_unseen,
        few_shot,
        table,
        write,
    )
    from tl.questions.samples import by_size  # noqa: PLC0415 - as above
    from tl.serving.candidates import open_candidate  # noqa: PLC0415 - as above

    split = read_split(given.split)
    if not split.part(given.part):
        raise ValueError(f"{given.split} names no classes under {given.part!r}; add them.")
    device = {"gpu": "cuda"}.get(given.accelerator, given.accelerator)
    data = _data(given)
    if isinstance(data, CifarFewShotDataModule):
        data = data.whole()  # its parts number their classes each in its own way
    about = getattr(data, "data_name", None)
    candidates = [open_candidate(name, device=device, source=about) for name in given.sources]
    check_different(candidates)
    for candidate in candidates:
        check_unseen(candidate, split, given.part)
    pool_at = by_size(data, lambda: pool_of(data, split))
    classes = split.part(given.part)
    labels = pool_at(candidates[0].size).labels(classes)  # which loads the data
    named = about_data(data, "all samples")
    for k in shots:
        check_episodes(labels, ways=given.ways, shots=k, queries=given.queries)
    out = made_folder(given.out)
    features, centres = {}, {}
    for candidate in progress(candidates, len(candidates), "Features of sources", least=2):
        pool = pool_at(candidate.size)
        samples = pool.samples(classes)
        check_modality(candidate, samples[0])
        features[candidate.name] = _features(candidate, samples)
        if split.train:
            base = pool.some(split.train, _BASE * len(split.train))
            centres[candidate.name] = _features(candidate, [base]).mean(0)
    found = few_shot(
        features,
        labels,
        centres,
        split=split,
        part=given.part,
        ways=given.ways,
        shots=shots,
        queries=given.queries,
        episodes=given.episodes,
        seed=given.seed,
        unknown=[each.name for each in candidates if not each.seen_all],
        about=named,
    )
    print(json.dumps(as_dict(found), indent=2) if given.json else table(found))  # noqa: T201
    paths = write(found, out)
    print(f"tl: wrote {', '.join(map(str, paths))}", file=sys.stderr)  # noqa: T201


def _shots(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"`--shots` must be numbers from 1, as 1,5, got {text!r}.")
    return tuple(sorted({int(part) for part in parts}))


def _data(given: argparse.Namespace) -> Any:  # noqa: ANN401 - a data module
    from tl.data import CifarDataModule  # noqa: PLC0415 - imports torch
    from tl.runs.folders import build_data  # noqa: PLC0415 - imports Lightning

    if given.config:
        return build_data([Path(each) for each in given.config])
    return CifarDataModule("cifar100", root=given.root, download=False)


def _features(candidate: Candidate, samples: Sequence[Samples]) -> Tensor:
    """Return the features of samples ``(N, D)``."""
    import torch  # noqa: PLC0415 - takes a second

    from tl.questions.features import features_of  # noqa: PLC0415 - as above

    found = torch.cat([features_of(candidate.network, each).features for each in samples])
    if not bool(found.isfinite().all()):
        raise ValueError(f"{candidate.name} has features that are not finite; leave it out.")
    return found
