"""Answers for pixels as files beside ``predictions.csv``."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from torch import Tensor

from tl.checkpoints.whole_files import write_whole
from tl.tasks.pixels import MapFile

_PLANAR = 3  # dimensions of maps (N, H, W)


class MapFiles:
    """Writes maps as ``<folder>/<task>/<image>.png`` or ``.npy``, each complete or absent.

    Class numbers are ``png`` images with a palette, whose pixels are the numbers. Floats are
    ``npy`` arrays: ``(H, W)``, or ``(H, W, C)`` of several channels.

    Args:
        folder: Where to write; made at once, so that a run ends before it computes anything.

    Raises:
        ValueError: If nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            write_whole(folder / ".writable", [b""])
            (folder / ".writable").unlink(missing_ok=True)  # several processes
        except OSError as error:
            raise ValueError(
                f"The maps of predictions cannot be written to {folder}: {error.strerror}. Make "
                "room there, or set `filename` of tl.callbacks.PredictionWriter to another place."
            ) from None

    def add(self, task: str, names: Sequence[str], found: MapFile) -> list[str]:
        """Write the maps of a batch.

        Args:
            task: Name of the task.
            names: What each file is called, without its ending.
            found: The maps.

        Returns:
            Paths relative to what the folder lies in.

        Raises:
            OSError: If one cannot be written, naming it.
        """
        maps = found.maps.detach().cpu()
        end = ".npy" if found.palette is None else ".png"
        paths = [self.folder / task / f"{name}{end}" for name in names]
        for path, each in zip(paths, maps, strict=True):
            write_whole(path, [encoded(each, found.palette)])
        return [path.relative_to(self.folder.parent).as_posix() for path in paths]


def encoded(one: Tensor, palette: Tensor | None) -> bytes:
    """Return a map ``(H, W)`` or ``(C, H, W)`` as the content of a file.

    Args:
        one: The map.
        palette: Colours of class numbers ``(C, 3)`` uint8, for a ``png``; ``None`` for ``npy``.
    """
    file = io.BytesIO()
    if palette is None:
        plain = one.squeeze(0) if one.ndim == _PLANAR and len(one) == 1 else one
        array = plain.movedim(0, -1) if plain.ndim == _PLANAR else plain
        np.save(file, np.ascontiguousarray(array.numpy()), allow_pickle=False)
    else:
        image = Image.fromarray(one.numpy().astype(np.uint8), mode="P")
        image.putpalette(palette.flatten().tolist())
        image.save(file, "PNG")
    return file.getvalue()


def file_names(images: Sequence[str]) -> Mapping[str, str]:
    """Return the name of each image's maps, below a folder and without an ending.

    The image's own ending is left out, unless images differ in nothing else; ``..`` and the root
    are left out too, so that no file lies outside the folder.

    Args:
        images: Names of all images, which may be paths.
    """
    inside = {name: _inside(name) for name in images}
    plain = {name: path.with_suffix("").as_posix() for name, path in inside.items()}
    count = Counter(plain.values())
    found = {n: plain[n] if count[plain[n]] == 1 else inside[n].as_posix() for n in inside}
    again = Counter(found.values())
    # what is still the same, such as a/b and ../a/b, is told apart by its place
    return {
        name: path if again[path] == 1 else f"{path}-{place}"
        for place, (name, path) in enumerate(found.items())
    }


def _inside(name: str) -> PurePosixPath:
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..")]
    return PurePosixPath(*parts or ("image",))
