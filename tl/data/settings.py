"""The options that data sources share, and their values in force."""

# types as objects, not as text: the command line looks text up where a subclass is defined
from dataclasses import dataclass, field
from typing import Literal

from tl.data.images.augment import Augment
from tl.data.images.hashing import Verify
from tl.data.images.views import Views
from tl.data.options import check_options
from tl.data.sampling import Sampling
from tl.data.shifts.shift import Shift
from tl.tasks import Task, TwoViews, as_task


@dataclass(kw_only=True, eq=False, init=False)
class SharedOptions:
    """Options of every source of images, and of the `MultiTaskDataModule` around several.

    An option that a source leaves unset comes from the `MultiTaskDataModule` around it, or takes
    the stated default.

    Args:
        root: Folder of the data sets, default ``data``.
        batch_size: Training images per step, process and source, default 128.
        eval_batch_size: Images per evaluation step, process and source, default 250. The losses of
            two views (`learns`) depend on it.
        val_size: Fraction of each class of the training split used for validation, default 0.1. 0
            turns validation off. The test split is never used for validation.
        label_fraction: Fraction of each class's training images to use, default 1.0. Fractions are
            nested: 1 % is a subset of 10 %, and the validation images are the same for all.
        seed: Seed of split, order and augmentation, default 0.
        augment: Random crop, flip and cutout of training images.
        num_workers: Loader processes per source, default 0. Images in memory need none; images
            streamed from files do. Workers cut the batches, which then move to the device in each
            step.
        predict_folder: Folder of images, with or without labels, for ``predict``; the test split by
            default.
        resident_share: Fraction of the memory of the training device (on a CPU: of the machine)
            that a split of a source may take, default 0.25. Its images then stay there, laid out
            for augmentation, and no step moves any. 0 turns this off.
        sampling: ``shuffled`` (default): each pass holds every training image once. ``balanced``:
            every class of a source occurs equally often, against class imbalance; the length of
            the epoch stays. A source with several tasks needs its `balanced_by`.
        verify: Which image files to read for the fingerprint: ``changed`` (default), those whose
            size or times differ from an earlier run's; ``full``, all of them.
    """

    root: str | None = None
    batch_size: int | None = None
    eval_batch_size: int | None = None
    val_size: float | None = None
    label_fraction: float | None = None
    seed: int | None = None
    augment: Augment | None = None
    num_workers: int | None = None
    predict_folder: str | None = None
    resident_share: float | None = None
    sampling: Sampling | None = None
    verify: Verify | None = None


@dataclass(kw_only=True, eq=False, init=False)
class StandInOptions:
    """Options of sources that may be downloaded or replaced by synthetic images.

    Args:
        download: Download missing archives, default true.
        offline: What to do if a set is neither present nor downloadable: ``error`` (default), or
            ``generated``: continue with synthetic images, with a warning at the start and end of
            the run.
        images: ``real`` (default), or ``generated`` for synthetic images without searching for the
            set.
        generated_size: Number of synthetic training images per source, default 5,000; a fifth as
            many for testing.
    """

    download: bool | None = None
    offline: Literal["error", "generated"] | None = None
    images: Literal["real", "generated"] | None = None
    generated_size: int | None = None


@dataclass(kw_only=True, eq=False, init=False)
class DomainOptions:
    """Options of a single source of images: what is learned from it, and what it shows.

    Args:
        learns: A self-supervised task, such as `tl.tasks.NTXent`, in place of the tasks on labels:
            the source gives two views of each image, and no label reaches a loss.
        views: How these views are made, in place of `augment`; by default as SimCLR does.
        shift: Shows all images as another camera, another weather or another style would: name and
            severity, such as ``{name: fog, severity: 3}``. In training it applies to training and
            validation images, in ``test`` to the test images.
        labels: ``all`` (default), or ``none``: training sees the images alone, split at random, and
            validation and test keep their labels to say how it went.
    """

    learns: TwoViews | None = None
    views: Views | None = None
    shift: Shift | None = None
    labels: Literal["all", "none"] = "all"

    @property
    def views_made(self) -> Views | None:
        """How two views of each image are made; ``None`` if the source gives one."""
        return None if self.learns is None else self.views or Views()

    def check_learns(self, *, on_pixels: bool) -> None:
        """Check that both options fit each other and the source.

        Args:
            on_pixels: Whether the source has tasks of its own, which lie on the pixels.

        Raises:
            ValueError: If they do not.
        """
        if self.learns is None:
            if self.views is not None:
                raise ValueError(
                    "`views` gives two views of each image, which only a self-supervised task "
                    "reads; set `learns` too, such as tl.tasks.NTXent."
                )
        elif on_pixels:
            raise ValueError(
                f"`learns` is not for {type(self).__name__}, whose `tasks` lie on the pixels; "
                "take a FolderDataModule of its images."
            )

    def learned_task(self, name: str, targets: list[str]) -> Task | None:
        """Return the self-supervised task under the name of the data set, if there is one.

        Args:
            name: The name.
            targets: Names of the source's labels, which are only counted.
        """
        if self.learns is None:
            return None
        target = targets[0] if len(targets) > 1 else None
        return as_task({**self.learns.record(), "name": name, "target": target})


@dataclass(frozen=True)
class Settings:
    """The values of the shared options of a source, after inheritance and defaults."""

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
    verify: Verify = "changed"

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
