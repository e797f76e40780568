"""Which images there are, and which maps belong to them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tl.data.errors import DataError, listed
from tl.data.images.layout import VALIDATION
from tl.data.images.listing import log_left_out, usual_extensions
from tl.data.naming import composed

MAP_EXTENSIONS = (".png", ".npy")


@dataclass(frozen=True)
class DenseFiles:
    """The images of a split and their maps."""

    folder: Path
    images: tuple[Path, ...]
    maps: Mapping[str, tuple[Path, ...]]  # of each kind, in the order of the images

    def names(self) -> list[str]:
        """Paths of the images, relative to the split's folder."""
        return [path.relative_to(self.folder).as_posix() for path in self.images]

    def keys(self) -> list[bytes]:
        """Paths of the images, in folders without links."""
        folders = {folder: folder.resolve() for folder in {path.parent for path in self.images}}
        return [os.fsencode(folders[path.parent] / path.name) for path in self.images]


def find_splits(folder: Path, *, published: bool) -> dict[str, Path]:
    """Return the folders of the splits ``train``, ``val`` and ``test`` that there are.

    Args:
        folder: Folder of the data set.
        published: Whether the folder ``val`` is what the published codes report: it tests then.

    Raises:
        DataError: If there are several validation folders.
    """
    names = [name for name in VALIDATION if (folder / name).is_dir()]
    if len(names) > 1:
        raise DataError(
            f"{folder} has {len(names)} validation folders: {listed(names)}. Keep one of them."
        )
    found = {"train": folder / "train"}
    if published:
        return {**found, "test": folder / "val"}
    if names:
        found["val"] = folder / names[0]
    if (folder / "test").is_dir():
        found["test"] = folder / "test"
    return found


def find_files(folder: Path, image: str, maps: Sequence[str], expected: str) -> DenseFiles:
    """Find the images of a split and the map of each kind with the same name.

    Args:
        folder: Folder of the split.
        image: Name of the folder of the images in it.
        maps: Names of the folders of maps.
        expected: The layout, for messages.

    Raises:
        DataError: If a folder or a map is missing, or two files have one name.
    """
    images = _by_stem(folder / image, (*sorted(usual_extensions()), ".npy"), expected)
    if not images:
        raise DataError(f"{folder / image} holds no images. {expected}")
    stems = sorted(images, key=lambda stem: (int(stem) if stem.isdigit() else -1, stem))
    found: dict[str, tuple[Path, ...]] = {}
    for name in maps:
        there = _by_stem(folder / name, MAP_EXTENSIONS, expected)
        if missing := [stem for stem in stems if stem not in there]:
            first = f"{folder / name / missing[0]}.png or .npy"
            raise DataError(
                f"{len(missing)} of {len(stems)} images in {folder / image} have no map in "
                f"{folder / name}; the first is {images[missing[0]].name}. Expected {first}."
            )
        log_left_out(
            [there[stem] for stem in sorted(there.keys() - images.keys())],
            folder / name,
            f"no image in {folder / image}",
        )
        found[name] = tuple(there[stem] for stem in stems)
    return DenseFiles(folder, tuple(images[stem] for stem in stems), found)


def _by_stem(folder: Path, extensions: Sequence[str], expected: str) -> dict[str, Path]:
    """Return the files of a folder by their names without extension."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.name[0] != ".")
    except FileNotFoundError:
        raise DataError(f"No such folder: {folder}. {expected}") from None
    except OSError as error:
        raise DataError(f"Cannot read {folder}: {error.strerror}.") from None
    found: dict[str, Path] = {}
    others = []
    for path in paths:
        if path.suffix.lower() not in extensions or path.is_dir():
            others.append(path)
        elif (stem := composed(path.stem)) in found:
            raise DataError(
                f"{found[stem]} and {path} have one name; keep one of them, as names tell which "
                "maps belong to which image."
            )
        else:
            found[stem] = path
    log_left_out(others, folder, f"not ending in {', '.join(extensions[:4])}, ...")
    return found
