"""``tl fewshot``: how well features tell new classes from a few samples of each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from tl.questions.class_splits import ClassSplit

_BASE = 20  # images per class that may be trained on, of which the mean is subtracted


def fewshot_arguments(parser: argparse.ArgumentParser) -> None:
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
        help="Configuration whose `data` hold the classes: CIFAR-100 in --root by default.",
    )
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or cuda.")
    parser.add_argument("--out", default="lightning_logs/fewshot", help="Folder for the results.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")


def fewshot(given: argparse.Namespace) -> None:
    """Print the accuracies, and write them."""
    shots = _shots(given.shots)
    from tl.questions.class_splits import read_split  # noqa: PLC0415 - imports torch
    from tl.questions.fewshot import (  # noqa: PLC0415 - as above
        as_dict,
        check_unseen,
        few_shot,
        table,
        write,
    )
    from tl.serving.candidates import open_candidate  # noqa: PLC0415 - as above

    split = read_split(given.split)
    device = {"gpu": "cuda"}.get(given.accelerator, given.accelerator)
    names = list(dict.fromkeys(given.sources))
    candidates = [open_candidate(name, device=device) for name in names]
    for candidate in candidates:
        check_unseen(candidate, split, given.part)
        if candidate.modality != "images":
            raise ValueError(
                f"{candidate.name} reads {candidate.modality}; `tl fewshot` compares images."
            )
    pool = _Pool(_data(given), split)
    found = few_shot(
        {each.name: pool.features(each, split.part(given.part)) for each in candidates},
        pool.labels(split.part(given.part)),
        {each.name: pool.centre(each) for each in candidates} if split.train else {},
        split=split,
        part=given.part,
        ways=given.ways,
        shots=shots,
        queries=given.queries,
        episodes=given.episodes,
        seed=given.seed,
        unknown=[each.name for each in candidates if each.seen is None],
    )
    paths = write(found, Path(given.out))
    print(json.dumps(as_dict(found), indent=2) if given.json else table(found))  # noqa: T201
    print(f"tl: wrote {', '.join(map(str, paths))}", file=sys.stderr)  # noqa: T201


def _shots(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"`--shots` must be numbers from 1, as 1,5, got {text!r}.")
    return tuple(sorted({int(part) for part in parts}))


def _data(given: argparse.Namespace) -> Any:  # noqa: ANN401 - a data module
    from tl.data import CifarDataModule  # noqa: PLC0415 - imports torch
    from tl.data.base import ImageDataModule  # noqa: PLC0415 - as above
    from tl.runs.folders import build_data  # noqa: PLC0415 - imports Lightning

    data: Any = CifarDataModule("cifar100", root=given.root, download=False)
    if given.config:
        data = build_data([Path(each) for each in given.config])
    if not isinstance(data, ImageDataModule):
        raise ValueError(  # noqa: TRY004 - a setting
            f"`tl fewshot` needs the images of one source, got a {type(data).__name__}."
        )
    return data


class _Pool:
    """All images of the classes of a split, training and test files together."""

    def __init__(self, data: Any, split: ClassSplit) -> None:  # noqa: ANN401 - a data module
        data.prepare_data()
        data.setup("fit")
        self._target, self._names = data.strata()
        self._split = split
        self._parts = [data.load(each) for each in data.official_splits()]

    def labels(self, classes: Sequence[str]) -> Tensor:
        """Return the class of each image ``(N,)``."""
        import torch  # noqa: PLC0415 - takes a second

        return torch.cat([p.targets[self._target][at] for p, at in self._at(classes)])

    def _at(self, classes: Sequence[str]) -> list[tuple[Any, Tensor]]:
        from tl.questions.fewshot import class_positions  # noqa: PLC0415 - as above

        return [
            (part, class_positions(part.targets[self._target], self._names, classes))
            for part in self._parts
        ]

    def features(self, candidate: Any, classes: Sequence[str]) -> Tensor:  # noqa: ANN401
        """Return the features of all images of some classes ``(N, D)``."""
        import torch  # noqa: PLC0415 - as above

        from tl.questions.features import features_of  # noqa: PLC0415 - as above
        from tl.questions.samples import ImageSamples  # noqa: PLC0415 - as above

        return torch.cat(
            [
                features_of(candidate.network, ImageSamples(part.subset(at), ())).features
                for part, at in self._at(classes)
                if len(at)
            ]
        )

    def centre(self, candidate: Any) -> Tensor:  # noqa: ANN401
        """Return the mean feature of images of the classes that may be trained on ``(D,)``."""
        from tl.questions.features import features_of  # noqa: PLC0415 - as above
        from tl.questions.samples import ImageSamples  # noqa: PLC0415 - as above

        (part, at), *_ = self._at(self._split.train)
        part = part.subset(at)
        most = _BASE * len(self._split.train)
        part = part.subset(_spread(part.targets[self._target], most))
        return features_of(candidate.network, ImageSamples(part, ())).features.mean(0)


def _spread(labels: Tensor, most: int) -> Tensor:
    """Return positions with the classes in proportion."""
    from tl.data.loaders import mixed_order  # noqa: PLC0415 - as above

    return mixed_order([labels], len(labels))[:most].sort().values
