"""Read checkpoint files of any origin without running their code."""

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from tl.checkpoints.errors import CheckpointError, first_line, listed
from tl.checkpoints.hashes import file_sha256, is_cut_short, is_sealed, sums
from tl.checkpoints.nesting import check_nesting
from tl.checkpoints.paths import check_file, local_file, weights_file
from tl.checkpoints.pickles import refused_globals
from tl.checkpoints.safe_weights import from_safetensors

__all__ = [
    "CheckpointError",
    "file_sha256",
    "glance_at",
    "listed",
    "local_file",
    "read_checkpoint",
    "read_hashed",
    "weights_file",
]

_MIB = 2**20
_MOST_UNPACKED = 10  # times the length of an archive; torch.save does not compress

# Files that are mistaken for checkpoints, by their first bytes.
_FOREIGN = {
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself with `git lfs pull`",
    b"<": "an HTML or XML page, perhaps of a failed download; download the file again",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"\x89HDF": "an HDF5 file (Keras?); export the weights to safetensors",
}


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a PyTorch or safetensors checkpoint on the CPU; nothing in the file is executed.

    The content determines the format. Pickles are read with an explicit ``weights_only=True``,
    which ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD`` cannot override: a file that needs anything but
    tensors and plain types is refused, and so is TorchScript. Checksums are verified first: that of
    the whole file if it carries one, like the files of this framework, otherwise those of a zip
    archive's parts, which ``torch.load`` ignores.

    Args:
        path: The file, or an address (``https://``) to download first.

    Raises:
        CheckpointError: If the file is missing, unreadable, damaged, unsafe or not a checkpoint.
    """
    return _opened(path, hashed=False)[0]


def read_hashed(path: str | Path) -> tuple[dict[str, Any], str]:
    """Read a checkpoint like :func:`read_checkpoint`, with the SHA-256 of the same bytes.

    Raises:
        CheckpointError: As there.
    """
    return _opened(path, hashed=True)


def glance_at(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint's description of itself: nothing is verified, no tensor read.

    Raises:
        CheckpointError: As :func:`read_checkpoint`, if it cannot be opened.
    """
    path = local_file(path)
    check_file(path)  # opening a pipe would block
    try:
        with path.open("rb") as file:
            _check_size(file, path)  # before torch unpacks anything
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except CheckpointError:
        raise
    except Exception:  # noqa: BLE001  # damaged, unsafe or in an old format: the reader reports which
        return read_checkpoint(path)
    _check_content(content, path)
    return content if isinstance(content, dict) else {}


def _opened(path: str | Path, *, hashed: bool) -> tuple[dict[str, Any], str]:
    path = local_file(path)
    check_file(path)
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols: the result is enough
            sealed = is_sealed(file)
            found = sums(file) if sealed or hashed else None
            if found is not None and found.intact is False:
                raise _broken(path, "damaged: it does not match the checksum in it")
            content = _read(file, path, verified=sealed)
    except PermissionError:
        raise CheckpointError(f"{path}: no permission to read it.") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}).") from None
    _check_content(content, path)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise CheckpointError(
            f"{path}: holds a {type(content).__name__}, expected a dict with string keys; save a "
            "`state_dict()`."
        )
    return content, found.sha256 if found is not None else ""


def _check_content(content: object, path: Path) -> None:
    try:
        check_nesting(content)
    except ValueError as error:
        raise CheckpointError(f"{path}: refused, {error}.") from None


def _read(file: BinaryIO, path: Path, *, verified: bool) -> object:
    """Read an open file in the format indicated by its first bytes."""
    head = file.read(512)
    file.seek(0)
    if head.startswith(b"PK\x03\x04"):
        _check_zip(file, path, verified=verified)
        return _torch_load(file, path)
    # safetensors: the header's length, of at most 100 MB, then the header as JSON
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100 * _MIB:
        return _safetensors_load(file, path)
    if head.startswith(pickle.PROTO):
        return _torch_load(file, path)
    found = next((what for start, what in _FOREIGN.items() if head.startswith(start)), None)
    if head[257:262] == b"ustar":
        found = "a tar archive; unpack it first"
    found = found or (
        f"not a checkpoint: it starts with {head[:12]!r}; expected a file written by torch.save "
        "or safetensors"
    )
    raise CheckpointError(f"{path}: is {found}.")


def _safetensors_load(file: BinaryIO, path: Path) -> object:
    """Load a safetensors file, which holds only tensors."""
    try:
        return from_safetensors(file.read())
    except Exception as error:  # noqa: BLE001  # SafetensorError, or KeyError for an unknown type
        what = f"a truncated or damaged safetensors file ({first_line(error)})"
        raise _broken(path, what) from None


def _check_size(file: BinaryIO, path: Path) -> None:
    """Refuse a zip archive that unpacks to many times its length; rewind the file."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        length = path.stat().st_size
        if unpacked > _MOST_UNPACKED * length:
            raise CheckpointError(
                f"{path}: refused: its {length:,} bytes unpack to {unpacked:,}; torch.save does "
                "not compress."
            )
    file.seek(0)


def _check_zip(file: BinaryIO, path: Path, *, verified: bool) -> None:
    """Refuse an archive that is truncated, damaged, or not from ``torch.save``."""
    try:
        _check_size(file, path)
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            # torch stores zeros if configured not to write checksums
            checked = not verified and any(e.CRC for e in archive.infolist())
            damaged = archive.testzip() if checked else None
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001  # a damaged archive may raise anything
        raise _broken(path, f"truncated or damaged ({first_line(error)})") from None
    if is_cut_short(file):
        raise _broken(path, "truncated: its end is missing")
    if damaged is not None:
        part = listed([damaged])
        raise _broken(path, f"damaged: its part {part} does not match the checksum")
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            f"{path}: is a TorchScript archive, which contains code; save the module's "
            "`state_dict()` at its origin instead."
        )
    if not any(name.endswith("/data.pkl") for name in names):
        raise CheckpointError(
            f"{path}: is a zip archive of {listed(names)}, not a checkpoint; expected a file "
            f"written by torch.save or safetensors."
        )


def _torch_load(file: BinaryIO, path: Path) -> object:
    """Load tensors and plain types, or refuse."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  # a damaged pickle may raise anything
        file.seek(0)
        if names := refused_globals(file):
            raise CheckpointError(
                f"{path}: refused: it needs more than tensors and plain types, and loading that "
                f"runs code: {listed(names)}; save only the `state_dict()` at its origin."
            ) from None
        # torch's message here suggests weights_only=False
        reason = "" if isinstance(error, pickle.UnpicklingError) else f" ({first_line(error)})"
        what = "truncated, damaged or not written by torch.save with its default protocol"
        raise _broken(path, f"{what}{reason}") from None


def _broken(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path}: is {what}; copy it again or use an earlier one.")
