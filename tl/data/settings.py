"""The settings that all data sources share."""

from __future__ import annotations

from dataclasses import dataclass, field

from tl.data.images.augment import Augment
from tl.data.options import check_options
from tl.data.sampling import Sampling


@dataclass(frozen=True)
class Settings:
    """The values of the shared settings, after inheritance and defaults."""

    root: str = "data"
    batch_size: int = 128
    eval_batch_size: int = 250
    val_size: float = 0.1
    label_fraction: float = 1.0
    seed: int = 0
    augment: Augment = field(default_factory=Augment)
    num_workers: int = 0
    predict_folder: str | None = None
    resident_share: float = 0.25
    sampling: Sampling = "shuffled"
    balanced_by: str | None = None

    def __post_init__(self) -> None:
        check_options(self)
        limits = {
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "eval_batch_size": (self.eval_batch_size >= 1, "1 or more"),
            "val_size": (0 <= self.val_size < 1, "0 or more and below 1"),
            "label_fraction": (0 < self.label_fraction <= 1, "above 0 and at most 1"),
            "resident_share": (0 <= self.resident_share <= 1, "from 0 to 1"),
            "num_workers": (self.num_workers >= 0, "0 or more"),
        }
        for name, (right, range_) in limits.items():
            if not right:
                raise ValueError(f"`{name}` must be {range_}, got {getattr(self, name)}.")
