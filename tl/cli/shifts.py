"""``tl test --shifts``: one model under many shifts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from tl.callbacks.surroundings import callbacks_of
from tl.callbacks.test_time import TestTimeAdaptation
from tl.data.shifts.shift import SEVERITIES, Shift
from tl.modules.base import SharedBackboneModule
from tl.modules.checkpointed import description_of
from tl.reading import shown
from tl.report.shifts import with_earlier, write
from tl.runs.averaging.ingredients import fingerprints
from tl.runs.shifted_tests import (
    check_processes,
    fitting_shifts,
    image_sources,
    scores_under_shifts,
    severities_named,
    shifts_named,
)


def add_shift_arguments(parser: LightningArgumentParser) -> None:
    """Add the options of tests under shifts."""
    parser.add_argument(
        "--shifts",
        type=str | list[str] | None,
        default=None,
        help="test: also test under these shifts, at all severities: all, names or families "
        "(noise, blur, colour, digital, style).",
    )
    parser.add_argument(
        "--severities",
        type=int | list[int] | None,
        default=None,
        help="test: severities of --shifts in place of [1, 2, 3, 4, 5].",
    )


def take_shifts(config: Any, verb: str) -> AskedShifts | None:  # noqa: ANN401 - jsonargparse's
    """Take the options out of a configuration: config.yaml describes the run.

    Raises:
        ValueError: If a name or severity is unknown, or the verb is not ``test``.
    """
    given, severities = config.get("shifts"), config.get("severities")
    config.shifts = config.severities = None
    if given is None:
        if severities is not None:
            raise ValueError("`severities` are those of `shifts`; give --shifts too, such as all.")
        return None
    if verb != "test":
        raise ValueError(
            f"`shifts` are for `test`, not for `{verb}`; to {verb} on shifted images set the "
            "data's `shift`."
        )
    return AskedShifts(shifts_named(given), severities_named(severities))


@dataclass(frozen=True)
class AskedShifts:
    """The shifts to test under.

    Args:
        shifts: Their names.
        severities: Their severities.
    """

    shifts: list[str]
    severities: list[int]

    def check(self, trainer: Trainer, data: LightningDataModule | None) -> None:
        """Refuse data without images, and several processes.

        Raises:
            DataError: If the images can be shown under none of the shifts.
            ValueError: If there are no images, or several processes.
        """
        fitting_shifts(image_sources(data), self.shifts)
        check_processes(trainer)

    def run(
        self, trainer: Trainer, module: LightningModule, data: LightningDataModule, folder: Path
    ) -> None:
        """Test, print a table, and write it as JSON with a figure.

        Shifts of an earlier test of the same weights at the same severities stay in it.

        Args:
            trainer: Has tested the model; its device, precision and adaptation are taken.
            module: The model.
            data: Its data.
            folder: Where to write.

        Raises:
            ValueError: If the model is not one of ours.
        """
        if not isinstance(module, SharedBackboneModule):
            raise ValueError(  # noqa: TRY004 - a setting of the run
                f"`shifts` need a module of tl.modules, got a {type(module).__name__}."
            )
        adapting = callbacks_of(trainer, TestTimeAdaptation)  # type: ignore[type-abstract]  # or a subclass
        again = Trainer(
            callbacks=list(adapting),
            accelerator=trainer.accelerator,
            devices=1,
            precision=trainer.precision,
            limit_test_batches=trainer.limit_test_batches,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        sources = image_sources(data)
        shifts, left_out = fitting_shifts(sources, self.shifts)
        scores = scores_under_shifts(module, data, again, shifts, self.severities)
        replaced = {n: s.shift.record() for n, s in sources.items() if s.shift is not None}
        about = {
            "checkpoint": None if trainer.ckpt_path is None else str(trainer.ckpt_path),
            "adaptation": [each.adaptation for each in adapting],
            "data": fingerprints(description_of(data) or {}),
            "seed": Shift(shifts[0]).seed,
            "replaced": replaced,
        }
        parts = ["shifts", *(type(each).__name__.lower() for each in adapting)]
        if self.severities != list(SEVERITIES):
            parts += ["severity", *map(str, self.severities)]
        name = "_".join(parts)
        found = with_earlier(scores, folder / f"{name}.json", about)
        paths = write(found, folder, name, about)
        print("\n\n".join(each.table() for each in found))  # noqa: T201
        if left_out:
            print(f"tl: left out: {left_out}")  # noqa: T201
        for name, own in replaced.items():
            print(  # noqa: T201
                f"tl: the own shift of {name} ({own['name']}, severity {own['severity']}) is not "
                "in this table: clean images, and those under each shift, are without it"
            )
        print(f"tl: wrote {', '.join(shown(path) for path in paths)}")  # noqa: T201
