"""CIFAR-10 and CIFAR-100: official archives, image folders, or synthetic stand-ins."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100

from tl.counting import counted
from tl.data.base import ImageDataModule
from tl.data.cache import default_cache, read_cache, write_cache
from tl.data.cifar import classes as official
from tl.data.cifar.archive import CifarArchive
from tl.data.errors import DataError, listed
from tl.data.images.class_folders import find_classes, find_images
from tl.data.images.image_set import load_images
from tl.data.images.listing import log_left_out
from tl.data.images.resident import ImageDataset, ResidentDataset
from tl.data.settings import StandInOptions
from tl.data.split import Split
from tl.data.synthetic.generated import (
    TargetChoice,
    draw_split,
    named_targets,
    show_banner,
)
from tl.data.synthetic.vocabulary import DrawnClasses, drawn_classes


@dataclass(kw_only=True, eq=False)
class CifarDataModule(StandInOptions, ImageDataModule):
    """CIFAR-10 or CIFAR-100 (Krizhevsky, 2009): 50,000 training and 10,000 test images, 32x32.

    Search order: the unpacked official archive below `root`, the archive itself
    (``cifar-10-python.tar.gz``, ``cifar-100-python.tar.gz``), image folders
    ``<root>/<name>/{train,test}/<class>/*``, then a download. Checksums are verified before
    anything is unpickled, and class names are compared with the official list.

    Args:
        name: ``cifar10`` or ``cifar100``.
        targets: Labels of CIFAR-100: the 100 ``fine`` classes, their 20 ``coarse`` groups, or
            ``both``.
        url: Mirror to download the archive from; the official address by default.

    Raises:
        ValueError: If coarse labels are requested for CIFAR-10, `url` is not a web address, or
            `generated_size` is smaller than the number of classes.
    """

    name: Literal["cifar10", "cifar100"] = field(default="cifar10", kw_only=False)
    targets: TargetChoice = "fine"
    url: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name == "cifar10" and self.targets != "fine":
            raise ValueError(
                f"CIFAR-10 has no coarse labels: `targets` must be 'fine', got {self.targets!r}."
            )
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"`url` must start with http:// or https://, got {self.url!r}.")
        self._set = CIFAR10 if self.name == "cifar10" else CIFAR100
        self._stand_in = ""  # why synthetic images replace the set
        self._announced = False
        self._download_failure = ""

    def inherit(self, **given: Any) -> None:  # noqa: ANN401 - any type
        """Inherit settings that this source does not set."""
        super().inherit(**given)
        if self.generated_size is not None and self.generated_size < self._size():
            raise ValueError(
                f"`generated_size` must be at least the number of classes of {self.name}, "
                f"{self._size()}, got {self.generated_size}."
            )

    def _default_name(self) -> str:
        return self.name

    def kind(self) -> str:
        """Return whether the pixels are ``real`` or ``generated``."""
        return "generated" if self._generated() else "real"

    def _generated(self) -> bool:
        trained = self.trained_on.kind if self.trained_on is not None else None
        stands_in = bool(self._stand_in) and trained != "real"
        return stands_in or self.images == "generated"

    def target_classes(self) -> dict[str, tuple[str, ...]]:
        """Class names by target: the official ones, or those of the synthetic images."""
        return named_targets(self._known(), self.targets)

    def strata(self) -> tuple[str, tuple[str, ...]]:
        """Fine classes, whichever labels are requested."""
        return "fine", self._known().names

    def caches(self) -> bool:
        """Return whether the set exists as image folders."""
        return not self._generated() and self._where() == "folders"

    def _size(self) -> Literal[10, 100]:
        return 10 if self.name == "cifar10" else 100

    def _official(self) -> DrawnClasses:
        if self.name == "cifar10":
            return DrawnClasses(official.CIFAR10, official.CIFAR10, tuple(range(10)))
        return DrawnClasses(
            official.CIFAR100, official.CIFAR100_COARSE, official.CIFAR100_COARSE_OF_FINE
        )

    def _known(self) -> DrawnClasses:
        return drawn_classes(self._size()) if self._generated() else self._official()

    # Finding and fetching

    def prepare_data(self) -> None:
        """Download or unpack the archive if needed; runs in one process per node.

        Raises:
            DataError: If the archive is damaged, or unavailable and `offline` is ``error``.
        """
        if self.images == "generated" or self._predicts_folder():
            return
        if self._where() == "nowhere":
            self._obtain()
        super().prepare_data()

    def _obtain(self) -> None:
        archive = self._archive
        damaged = archive.damage()
        if archive.path.exists() and not damaged:
            archive.unpack()
            return
        if self.download is not False:
            self._download_failure = archive.fetch()
            # or another run has unpacked it in the meantime
            if not self._download_failure or self._where() == "unpacked":
                return
        if damaged:
            raise DataError(
                f"{damaged} {self._why_not_downloaded()} Delete it, or replace it with the "
                f"official file from {archive.address}."
            )
        self._refuse_damaged_folder()
        if self.offline != "generated":
            raise self._missing()

    @property
    def _archive(self) -> CifarArchive:
        return CifarArchive(self._set, self._root(), self.url)

    def _root(self) -> Path:
        return Path(self.settings.root).expanduser()

    def _where(self) -> Literal["unpacked", "folders", "nowhere"]:
        """Find the set below `root`; a damaged folder does not count."""
        try:
            if self._archive.folder.is_dir():
                return "unpacked" if self._archive.is_whole() else "nowhere"
            folder = self._root() / self.name
            here = any((folder / split).is_dir() for split in ("train", "test"))
        except OSError as error:
            raise DataError(f"Cannot read {self._root()}: {error.strerror}.") from error
        return "folders" if here else "nowhere"

    def _refuse_damaged_folder(self) -> None:
        """Raise for a damaged folder: synthetic images may only replace a missing one."""
        folder = self._archive.folder
        if folder.is_dir() and (wrong := self._archive.wrong_members()):
            raise DataError(
                f"{folder} is not the official {self.name}: {wrong}. {self._why_not_downloaded()} "
                "Delete the folder and unpack the archive again, or allow `download`."
            )

    def _why_not_downloaded(self) -> str:
        if self._download_failure:
            return f"The download failed ({self._download_failure})."
        if self.download is False:
            return "`download` is off."
        return "Nothing was downloaded: `prepare_data` was not called."

    def _missing(self) -> DataError:
        root = self._root().absolute()
        return DataError(
            f"{self.name} was not found in {root}: expected the archive {self._archive.path.name}, "
            f"its unpacked folder {self._archive.folder.name}/, or image folders "
            f"{self.name}/{{train,test}}/<class>/*. {self._why_not_downloaded()} Point `root` at "
            "the folder that holds it, put the archive there, or set `offline: generated` to "
            "continue with synthetic images."
        )

    # Loading

    def setup(self, stage: str) -> None:
        """Load what a stage needs, or synthetic images if the set is unavailable.

        Raises:
            DataError: If the set is damaged, or missing and `offline` is ``error``.
        """
        needs_set = not (self.trained_on and self._predicts_folder())
        absent = not self._generated() and not self.splits and self._where() == "nowhere"
        if needs_set and absent:
            self._refuse_damaged_folder()
            trained_on_real = self.trained_on is not None and self.trained_on.kind == "real"
            if self.offline != "generated" or trained_on_real:
                raise self._missing()
            self._stand_in = self._why_not_downloaded()
        if self._generated() and not self._announced:
            self._announced = True
            self._announce()
        super().setup(stage)

    def _announce(self) -> None:
        name = self.name.upper()
        why = f" {self._stand_in} Looked in {self._root().absolute()}." if self._stand_in else ""
        show_banner(
            f"These are {counted(self.generated_size or 5000, 'synthetic image')}, NOT {name}. "
            "Results say "
            f"nothing about {name}.{why}"
        )

    def load(self, split: Split) -> ImageDataset:
        """Read one official split."""
        if self._generated():
            size = self.generated_size or 5000
            count = size if split == "train" else max(size // 5, self._size())
            return draw_split(split, self._size(), count)
        groups = torch.tensor(self._official().coarse_of_fine)
        if self._where() == "unpacked":
            (images, fine), names = self._unpickled(split), None
        else:
            folder = self._root() / self.name / split
            self._check_classes(find_classes(folder), folder)
            files = find_images(folder, self._official().names)
            log_left_out(files.others, folder)
            images = load_images(files.paths, self._reading, f"{self.name} {split} images")
            fine, names = files.labels, files.names()
        return ResidentDataset(images, {"fine": fine, "coarse": groups[fine]}, names)

    def _unpickled(self, split: Split) -> tuple[Tensor, Tensor]:
        """Return images and fine labels, from the verified archive or the cache."""
        members = self._set.train_list if split == "train" else self._set.test_list
        digest = hashlib.sha256("".join(md5 for _, md5 in members).encode()).hexdigest()[:32]
        stored = [default_cache() / f"{digest}-{self.name}-{what}.npy" for what in ("x", "y")]
        images, labels = read_cache(stored[0], (-1, 32, 32, 3)), read_cache(stored[1], (-1,))
        if images is None or labels is None or len(images) != len(labels):
            data = self._set(self._root(), train=split == "train")
            self._check_classes(tuple(data.classes), self._archive.folder)
            images, labels = torch.from_numpy(data.data), torch.tensor(data.targets)
            write_cache(stored[0], data.data)
            write_cache(stored[1], labels.byte().numpy())
        return images, labels.long()

    def _check_classes(self, found: tuple[str, ...], where: Path) -> None:
        expected = self._official().names
        if set(found) == set(expected) and (where.name in ("train", "test") or found == expected):
            return
        missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
        parts = [f"missing: {listed(missing)}"] if missing else []
        parts += [f"unknown: {listed(extra)}"] if extra else []
        raise DataError(
            f"The classes in {where} are not those of {self.name}: "
            f"{'; '.join(parts) or 'another order'}. Use FolderDataModule for your own images."
        )

    def describe(self) -> dict[str, object]:
        """Return a description of the loaded data, in plain types."""
        what = super().describe()
        if self._generated():
            what["note"] = f"synthetic images, not {self.name}. {self._stand_in}".strip()
        return cast("dict[str, object]", what)
