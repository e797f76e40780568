"""CIFAR-10 and CIFAR-100: official archives, image folders, or drawn images in their place."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import torch
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import calculate_md5, download_url, extract_archive

from tl.data import cifar_classes as official
from tl.data.base import ImageDataModule, Split
from tl.data.cache import default_cache
from tl.data.drawing import DrawnClasses, drawn_classes
from tl.data.errors import DataError, listed, one_line
from tl.data.generated import (
    TargetChoice,
    chosen_targets,
    draw_split,
    named_targets,
    show_banner,
)
from tl.data.images import find_classes, find_images, load_images
from tl.data.resident import ImageDataset, ResidentDataset


@dataclass(kw_only=True, eq=False)
class CifarDataModule(ImageDataModule):
    """CIFAR-10 or CIFAR-100 (Krizhevsky, 2009): 50,000 training and 10,000 test images, 32x32.

    Looked for in this order: the unpacked official archive below `root`, the archive itself
    (``cifar-10-python.tar.gz``, ``cifar-100-python.tar.gz``), image folders
    ``<root>/<name>/{train,test}/<class>/*``, then a download. Checksums are verified before
    anything is unpickled, class names against the official list.

    Args:
        name: ``cifar10`` or ``cifar100``.
        targets: Labels of CIFAR-100: the 100 ``fine`` classes, their 20 ``coarse`` groups, or
            ``both``.
        download: Download the archive if it is not there, default true.
        url: Mirror to download the archive from; the official address by default.
        offline: What to do if the set is neither there nor downloadable: ``error`` (default), or
            ``generated``: go on with drawn images, said at the start and at the end of the run.
        images: ``real`` (default), or ``generated`` for drawn images without looking for the set.
        generated_size: Number of drawn training images, default 5,000; a fifth as many for test.

    Raises:
        ValueError: If coarse labels are asked of CIFAR-10, or `url` is no web address.
    """

    name: Literal["cifar10", "cifar100"] = field(default="cifar10", kw_only=False)
    targets: TargetChoice = "fine"
    download: bool | None = None
    url: str | None = None
    offline: Literal["error", "generated"] | None = None
    images: Literal["real", "generated"] | None = None
    generated_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name not in ("cifar10", "cifar100"):
            raise ValueError(f"`name` must be 'cifar10' or 'cifar100', got {self.name!r}.")
        if self.name == "cifar10" and self.targets != "fine":
            raise ValueError(
                f"CIFAR-10 has no coarse labels: `targets` must be 'fine', got {self.targets!r}."
            )
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"`url` must start with http:// or https://, got {self.url!r}.")
        self._archive = CIFAR10 if self.name == "cifar10" else CIFAR100
        self._stand_in = ""  # why drawn images take the place of the set
        self._download_failure = ""

    def _default_name(self) -> str:
        return self.name

    def kind(self) -> str:
        """Say whether the pixels are ``real`` or ``generated``."""
        return "generated" if self._generated() else "real"

    def _generated(self) -> bool:
        return bool(self._stand_in) or self.images == "generated"

    def target_classes(self) -> dict[str, tuple[str, ...]]:
        """Class names by target: the official ones, or those of the drawn images."""
        if self._generated():
            return named_targets(drawn_classes(self._size()), self.targets)
        return named_targets(self._official(), self.targets)

    def _size(self) -> Literal[10, 100]:
        return 10 if self.name == "cifar10" else 100

    def _official(self) -> DrawnClasses:
        if self.name == "cifar10":
            return DrawnClasses(official.CIFAR10, official.CIFAR10, tuple(range(10)))
        return DrawnClasses(
            official.CIFAR100, official.CIFAR100_COARSE, official.CIFAR100_COARSE_OF_FINE
        )

    # Finding and fetching

    def prepare_data(self) -> None:
        """Download or unpack the archive where that is needed; runs in one process per node.

        Raises:
            DataError: If the archive is damaged, or cannot be had and `offline` is ``error``.
        """
        if self.images == "generated" or self._where() in ("unpacked", "folders"):
            return
        archive = self._root() / self._archive.filename
        damaged = self._damage(archive)
        if archive.exists() and not damaged:
            with self._workshop() as folder:
                extract_archive(archive, folder)
                self._move_in(folder / self._archive.base_folder)
            return
        if self.download is not False:
            self._download_failure = self._fetch()
            if not self._download_failure:
                return
        if damaged:
            raise DataError(
                f"{damaged} {self._why_not_downloaded()} Delete it, or replace it with the "
                f"official file from {self.url or self._archive.url}."
            )
        self._refuse_damaged_folder()
        if self.offline != "generated":
            raise self._missing()

    def _fetch(self) -> str:
        """Download, verify and unpack beside the final place; return why it failed, or ``""``."""
        name, url = self._archive.filename, self.url or self._archive.url
        before = socket.getdefaulttimeout()
        try:
            with self._workshop() as folder:
                socket.setdefaulttimeout(30)  # a filtered network would hang for ever
                download_url(url, folder, name, self._archive.tgz_md5)
                socket.setdefaulttimeout(before)
                extract_archive(folder / name, folder)
                self._move_in(folder / self._archive.base_folder)
                self._move_in(folder / name)
        except DataError:
            raise  # `root` cannot be written: no failure of the download
        except (OSError, RuntimeError, ValueError) as error:
            if getattr(error, "errno", None) in (13, 28, 30):  # permission, space, read-only
                raise DataError(f"Cannot write to {self._root()}: {error.strerror}.") from error  # type: ignore[union-attr]
            reason = "its checksum is wrong" if "corrupted" in str(error) else one_line(error)
            return f"{url}: {reason}"
        finally:
            socket.setdefaulttimeout(before)
        return ""

    @contextmanager
    def _workshop(self) -> Iterator[Path]:
        """Give a temporary folder inside `root`, so that nothing half-written has a final name."""
        root = self._root()
        try:
            root.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=".unpack-", dir=root))
        except OSError as error:
            raise DataError(f"Cannot write to {root}: {error.strerror}.") from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _move_in(self, source: Path) -> None:
        target = self._root() / source.name
        if target.is_dir():
            shutil.rmtree(target)
        source.replace(target)

    def _root(self) -> Path:
        return Path(self.settings.root).expanduser()

    def _where(self) -> Literal["unpacked", "folders", "nowhere"]:
        """Find the set below `root`.

        Raises:
            DataError: If files of the unpacked archive are missing or damaged and a download is
                not allowed.
        """
        if (self._root() / self._archive.base_folder).is_dir():
            if self.download is False:
                self._refuse_damaged_folder()
            return "nowhere" if self._wrong_members() else "unpacked"
        return "folders" if (self._root() / self.name).is_dir() else "nowhere"

    def _wrong_members(self) -> str:
        """Say which files of the unpacked archive are wrong; nothing if all are right."""
        base = self._root() / self._archive.base_folder
        try:
            members = dict([*self._archive.train_list, *self._archive.test_list])
            members[self._archive.meta["filename"]] = self._archive.meta["md5"]
            missing = [name for name in members if not (base / name).is_file()]
            wrong = [
                name
                for name in members
                if name not in missing and calculate_md5(base / name) != members[name]
            ]
        except OSError as error:
            raise DataError(f"Cannot read {error.filename}: {error.strerror}.") from error
        parts = [f"missing: {listed(missing)}"] if missing else []
        parts += [f"wrong checksum: {listed(wrong)}"] if wrong else []
        return "; ".join(parts)

    def _refuse_damaged_folder(self) -> None:
        """Stop at a damaged folder, which is not a missing one that drawn images may replace."""
        base = self._root() / self._archive.base_folder
        if base.is_dir() and (wrong := self._wrong_members()):
            raise DataError(
                f"{base} is not the official {self.name}: {wrong}. {self._why_not_downloaded()} "
                "Delete the folder and unpack the archive again, or allow `download`."
            )

    def _damage(self, archive: Path) -> str:
        """Say what is wrong with an archive; nothing if it is right or not there."""
        if not archive.exists():
            return ""
        try:
            if calculate_md5(archive) == self._archive.tgz_md5:
                return ""
        except OSError as error:
            raise DataError(f"Cannot read {archive}: {error.strerror}.") from error
        return (
            f"{archive} is truncated or damaged: {archive.stat().st_size:,} bytes with a wrong "
            f"checksum (expected md5 {self._archive.tgz_md5})."
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
            f"{self.name} was not found in {root}: expected the archive {self._archive.filename}, "
            f"its unpacked folder {self._archive.base_folder}/, or image folders "
            f"{self.name}/{{train,test}}/<class>/*. {self._why_not_downloaded()} Point `root` at "
            "the folder that holds it, put the archive there, or set `offline: generated` to go on "
            "with drawn images."
        )

    # Loading

    def setup(self, stage: str) -> None:
        """Load what a stage needs, or drawn images where the set cannot be had.

        Raises:
            DataError: If the set is damaged, or missing and `offline` is ``error``.
        """
        if not self._generated() and not self.splits and self._where() == "nowhere":
            self._refuse_damaged_folder()
            if self.offline != "generated":
                raise self._missing()
            self._stand_in = self._why_not_downloaded()
        if self._generated():
            self._announce(
                f"\n{self._stand_in} Looked in {self._root().absolute()}." if self._stand_in else ""
            )
        super().setup(stage)

    def teardown(self, stage: str) -> None:
        """Say once more at the end of a run that its images were drawn."""
        del stage
        if self._generated() and self.splits:
            self._announce("")

    def _announce(self, reason: str) -> None:
        show_banner(
            f"These are {self.generated_size or 5000:,} drawn images, NOT {self.name.upper()}. "
            f"Results say nothing about {self.name.upper()}.{reason}"
        )

    def load(self, split: Split) -> ImageDataset:
        """Read one official split."""
        if self._generated():
            size = self.generated_size or 5000
            return draw_split(
                split,
                self._size(),
                size if split == "train" else max(size // 5, self._size()),
                targets=self.targets,
            )
        groups = torch.tensor(self._official().coarse_of_fine)
        if self._where() == "unpacked":
            data = self._archive(self._root(), train=split == "train")
            self._check_classes(tuple(data.classes), self._root() / self._archive.base_folder)
            fine = torch.tensor(data.targets)
            images, names = torch.from_numpy(data.data), None
        else:
            folder = self._root() / self.name / split
            self._check_classes(find_classes(folder), folder)
            files = find_images(folder, self._official().names)
            images = load_images(
                files.paths, self.image_size, default_cache(), f"{self.name} {split} images"
            )
            fine, names = files.labels, files.names()
        return ResidentDataset(images, chosen_targets(fine, groups, self.targets), names)

    def _check_classes(self, found: tuple[str, ...], where: Path) -> None:
        expected = self._official().names
        if set(found) == set(expected) and (where.name in ("train", "test") or found == expected):
            return
        missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
        parts = [f"missing: {listed(missing)}"] if missing else []
        parts += [f"unknown: {listed(extra)}"] if extra else []
        raise DataError(
            f"The classes in {where} are not those of {self.name}: "
            f"{'; '.join(parts) or 'another order'}. Use FolderDataModule for images of your own."
        )

    def describe(self) -> dict[str, object]:
        """Say in plain types what was loaded."""
        what = super().describe()
        if self._generated():
            what["note"] = f"drawn images, not {self.name}. {self._stand_in}".strip()
        return cast("dict[str, object]", what)
