"""The length of a run by the BiT HyperRule."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from tl.callbacks.surroundings import data_by_source
from tl.transfer.hyper_rule import hyper_rule_steps


class HyperRuleLength(Callback):
    """Train for the number of steps that the HyperRule gives for the labelled images.

    500, 10,000 or 20,000 (Kolesnikov et al., 2020, arXiv:1912.11370, section 3.3), whatever the
    batch size. The images of several sources are added up. If set, the run's `max_steps` and
    `max_epochs` end it earlier.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the Trainer's number of steps before the schedule reads it.

        Raises:
            ValueError: If the data module does not report its number of training images.
        """
        if stage != "fit":
            return
        data = getattr(trainer, "datamodule", None)
        splits = [getattr(source, "splits", {}) for source in data_by_source(data).values()]
        found = [len(split["train"]) for split in splits if "train" in split]
        if len(found) < len(splits):
            raise ValueError(
                "HyperRuleLength counts the training images of a data module of tl.data, got "
                f"{type(data).__name__}; leave it out and set `max_steps`."
            )
        images, limit = sum(found), trainer.max_steps
        steps = hyper_rule_steps(images)
        if limit == -1 or steps < limit:
            trainer.fit_loop.epoch_loop.max_steps = steps
        rank_zero_info(f"tl: the HyperRule gives {steps:,} steps for {images:,} images.")
