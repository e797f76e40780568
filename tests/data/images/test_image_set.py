from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from tl.data.cache import Pixels
from tl.data.errors import DataError
from tl.data.images import image_set as module
from tl.data.images.decoding import decode
from tl.data.images.hashing import Verify
from tl.data.images.image_set import Reading, StreamedDataset, check_images, load_images
from tl.data.images.listing import list_images
from tl.data.loaders import as_batch

RED, BLUE = (255, 0, 0), (0, 0, 255)


def halves(width: int = 20, height: int = 20) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def files(folder: Path, count: int) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:02}.png" for i in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return paths


def test_the_cache_saves_decoding_and_is_keyed_by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, cache = files(tmp_path, 3), tmp_path / "cache"
    decoded: list[Path] = []
    honest = decode

    def counted(path: Path, size: int, _: object) -> Pixels:
        decoded.append(path)
        return honest(path, size)

    monkeypatch.setattr(module, "decode", counted)
    first = load_images(paths, Reading(8, cache=cache), "images")
    assert sorted(decoded) == paths
    decoded.clear()
    assert torch.equal(load_images(paths, Reading(8, cache=cache), "images"), first)
    assert decoded == []
    moved = paths[0].rename(tmp_path / "renamed.png")
    assert torch.equal(load_images([moved, *paths[1:]], Reading(8, cache=cache), "images"), first)
    assert decoded == []  # a name is no content

    before = moved.stat()
    halves(8, 8).save(moved)
    os.utime(moved, ns=(before.st_atime_ns, before.st_mtime_ns))  # and a date is none either
    changed = load_images([moved, *paths[1:]], Reading(8, cache=cache), "images")
    assert decoded
    assert torch.equal(changed[1:], first[1:])
    assert torch.equal(changed[0, 0, 0], torch.tensor(RED, dtype=torch.uint8))

    decoded.clear()
    assert load_images(paths[1:], Reading(4, cache=cache), "images").shape == (2, 4, 4, 3)
    assert load_images(paths[:0:-1], Reading(8, cache=cache), "images").shape == (2, 8, 8, 3)
    assert len(decoded) == 4  # another size, another order


@pytest.mark.parametrize("damage", ["short", "empty", "other", "pickle", "values"])
def test_a_damaged_cache_decodes_again_with_a_warning(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    paths, cache = files(tmp_path, 4), tmp_path / "cache"
    first = load_images(
        paths, Reading(8, cache=cache), "images"
    ).clone()  # not the file's pages, cut off below
    (stored,) = cache.iterdir()
    content = stored.read_bytes()
    if damage == "short":
        stored.write_bytes(content[:-7])
    elif damage == "empty":
        stored.write_bytes(b"")
    elif damage == "other":
        np.save(stored, np.zeros((4, 9, 9, 3), np.uint8))
    elif damage == "pickle":
        np.save(stored, np.array([{"a": 1}]), allow_pickle=True)
    else:
        stored.write_bytes(content[:-7] + bytes(255 - b for b in content[-7:]))
    assert torch.equal(load_images(paths, Reading(8, cache=cache), "images"), first)
    assert "Decoding again" in caplog.text
    caplog.clear()
    assert torch.equal(
        load_images(paths, Reading(8, cache=cache), "images"), first
    )  # it was written anew
    assert caplog.text == ""


@pytest.mark.parametrize("verify", ["changed", "full"])
def test_files_that_change_between_hashing_and_decoding_are_refused_and_not_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: Verify
) -> None:
    for version, shade in (("one", RED), ("two", BLUE)):
        (tmp_path / version).mkdir()
        for number in range(3):
            Image.new("RGB", (8, 8), shade).save(tmp_path / version / f"{number}.png")
    link, reading = tmp_path / "data", Reading(8, cache=tmp_path / "cache", verify=verify)
    paths = [link / f"{number}.png" for number in range(3)]

    def point(version: str) -> None:
        link.unlink(missing_ok=True)
        link.symlink_to(version)

    def switched(path: Path, *given: Any) -> Pixels:
        point("two")
        return decode(path, *given)

    point("one")
    with monkeypatch.context() as patched:
        patched.setattr(module, "decode", switched)
        given: tuple[dict[int, str] | None, ...] = (None, {})
        for skipped in given:  # what changed is not merely unreadable
            with pytest.raises(DataError, match=r"3 of 3 image files changed after .*/0\.png, "):
                load_images(paths, reading, "images", skipped)
            point("one")
    for version, shade in (("one", RED), ("two", BLUE), ("one", RED)):
        point(version)
        images = load_images(paths, reading, "images")
        assert torch.equal(images, torch.tensor(shade, dtype=torch.uint8).expand(3, 8, 8, 3))


def test_an_error_that_has_passed_leaves_no_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, reading = files(tmp_path, 5), Reading(8, cache=tmp_path / "cache")
    paths[4].write_bytes(b"no image")
    failing = {paths[1], paths[3]}
    decoded: list[Path] = []

    def flaky(path: Path, *given: Any) -> Pixels:
        decoded.append(path)
        if path in failing:
            raise OSError(errno.EMFILE, "Too many open files", str(path))
        return decode(path, *given)

    def loaded() -> tuple[Tensor, set[int], int]:
        decoded.clear()
        skipped: dict[int, str] = {}
        return load_images(paths, reading, "images", skipped), set(skipped), len(decoded)

    monkeypatch.setattr(module, "decode", flaky)
    assert loaded()[1:] == ({1, 3, 4}, 5)
    assert loaded()[1:] == ({1, 3, 4}, 3)  # the gaps again, and no other file
    failing.remove(paths[3])
    images, gaps, count = loaded()
    assert (gaps, count) == ({1, 4}, 3 + 5)
    assert torch.equal(images[3], torch.tensor(decode(paths[3], 8)))
    failing.clear()
    assert loaded()[1] == {4}
    images, gaps, count = loaded()
    assert (gaps, count) == ({4}, 1)
    assert torch.equal(images[1], torch.tensor(decode(paths[1], 8)))


def test_unreadable_files_are_named_up_to_twenty_then_counted(tmp_path: Path) -> None:
    paths = files(tmp_path, 25)
    for path in paths[2:]:
        path.write_bytes(path.read_bytes()[:60])
    for read in (
        lambda: load_images(paths, Reading(8), "images"),
        lambda: check_images(paths, Reading(8), "images"),
    ):
        with pytest.raises(DataError) as error:
            read()
        message = str(error.value)
        assert message.startswith("23 of 25 image files cannot be read")
        named = [path.name for path in paths if path.name in message]
        assert named == [path.name for path in paths[2:22]]
        assert "and 3 more" in message


def test_all_modes_become_rgb(tmp_path: Path) -> None:
    clear = halves().convert("RGBA")
    clear.putalpha(255)  # what is transparent is composed: see test_decoding.py
    palette = halves().convert("P", palette=Image.Palette.ADAPTIVE)
    seen_through = tmp_path / "pt.png"
    palette.save(seen_through, transparency=255)  # a colour that no pixel has
    saved = {
        "rgba.png": clear,
        "p.png": palette,
        "p.gif": palette,
        "cmyk.jpg": halves().convert("CMYK"),
        "cmyk.tif": halves().convert("CMYK"),
        "rgb.webp": halves(),
    }
    for name, image in saved.items():
        image.save(tmp_path / name, quality=100)
    for path in (*(tmp_path / name for name in saved), seen_through):
        pixels = decode(path, 20)
        assert pixels.shape == (20, 20, 3)
        assert pixels.dtype == np.uint8
        assert np.abs(pixels[10, 4].astype(int) - RED).max() < 8, path.name
        assert np.abs(pixels[10, 15].astype(int) - BLUE).max() < 8, path.name


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16", "F"])
def test_grey_files_become_three_equal_channels(tmp_path: Path, mode: str) -> None:
    ramp = np.linspace(0, 255, 16).astype(np.uint8)[None].repeat(16, 0)
    path = tmp_path / ("a.tif" if mode == "F" else "a.png")
    if mode == "I;16":
        Image.fromarray(ramp.astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(ramp).convert(mode).save(path)
    pixels = decode(path, 16)
    assert (pixels == pixels[..., :1]).all()
    assert pixels[:, 0].max() <= 1
    assert pixels[:, 15].min() >= 254
    if mode != "1":
        assert np.abs(pixels[0, :, 0].astype(int) - ramp[0]).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    # what a camera in that position would have stored of the upright picture
    stored_as = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    upright = halves()
    upright.paste((0, 255, 0), (0, 10, 10, 20))  # green lower left: no symmetry is left
    image = upright
    for step in stored_as.get(orientation, []):
        image = image.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "a.png", 20), np.asarray(upright))


def test_resizing_covers_the_square_and_crops_the_centre(tmp_path: Path) -> None:
    wide = Image.new("RGB", (60, 20), BLUE)
    wide.paste(RED, (20, 0, 40, 20))  # the middle third
    wide.save(tmp_path / "a.png")
    assert (decode(tmp_path / "a.png", 20) == RED).all()
    assert (decode(tmp_path / "a.png", 10)[:, 2:-2] == RED).all()


def test_listing_is_sorted_and_skips_what_is_no_image(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", ".hidden.png", "notes.txt", "deeper/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [p.relative_to(tmp_path).as_posix() for p in list_images(tmp_path)] == [
        "a.png",
        "b.JPG",
        "deeper/c.webp",
    ]


def test_hidden_folders_and_circular_links_give_no_image_twice(tmp_path: Path) -> None:
    (copies := tmp_path / "class" / ".ipynb_checkpoints").mkdir(parents=True)
    files(copies, 2)
    files(tmp_path / "class", 1)
    (tmp_path / "class" / "circle").symlink_to(tmp_path / "class")
    (tmp_path / "link").symlink_to(tmp_path / "class")
    assert list_images(tmp_path / "class") == [tmp_path / "class" / "00.png"]
    assert list_images(tmp_path / "link") == [tmp_path / "link" / "00.png"]


def test_a_folder_that_cannot_be_read_is_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (closed := tmp_path / "closed").mkdir()
    files(tmp_path, 2)
    scan = os.scandir

    def guarded(path: Any) -> Any:  # root may read everything, so that `chmod` would show nothing
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(DataError, match=r"Cannot read .*closed: Permission denied"):
        list_images(tmp_path)


def test_streamed_pixels_equal_those_in_memory(tmp_path: Path) -> None:
    paths = files(tmp_path, 5)
    targets, names = {"fine": torch.arange(5)}, [p.name for p in paths]
    contents = check_images(paths, Reading(8), "images")
    streamed = StreamedDataset(paths, targets, Reading(8), names, contents)
    rows = torch.tensor([4, 0, 2])
    assert torch.equal(streamed.pixels(rows), load_images(paths, Reading(8), "images")[rows])
    assert streamed.subset(rows).digest() != streamed.subset(rows.flip(0)).digest()


def test_a_streamed_file_that_is_replaced_by_one_of_its_size_is_noticed(tmp_path: Path) -> None:
    paths = files(tmp_path, 3)
    targets = {"fine": torch.arange(3)}

    def digest() -> str:
        return StreamedDataset(
            paths,
            targets,
            Reading(8),
            ["0", "1", "2"],
            check_images(paths, Reading(8), "images"),
        ).digest()

    before = digest()
    for path, shade in ((paths[0], 0), (paths[1], 255)):
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(path, "bmp")
    one, size = digest(), paths[0].stat().st_size
    assert one != before
    Image.new("RGB", (8, 8), (1, 0, 0)).save(paths[0], "bmp")
    assert paths[0].stat().st_size == size
    assert digest() != one


def test_a_streamed_file_that_vanishes_is_named(tmp_path: Path) -> None:
    paths = files(tmp_path, 4)
    streamed = StreamedDataset(
        paths, {"fine": torch.arange(4)}, Reading(8), [p.name for p in paths]
    )
    paths[2].unlink()
    loader = DataLoader(streamed, batch_size=4, num_workers=1, collate_fn=as_batch)
    with pytest.raises(DataError, match=r"02.png can no longer be read \(No such file"):
        list(loader)  # also out of a worker's process


def test_a_streamed_file_that_changes_during_the_run_is_refused(tmp_path: Path) -> None:
    paths = files(tmp_path, 3)
    contents = check_images(paths, Reading(8), "images")
    streamed = StreamedDataset(paths, {}, Reading(8), ["0", "1", "2"], contents)
    digest = streamed.digest()
    Image.new("RGB", (8, 8)).save(paths[1])
    streamed.pixels(torch.tensor([0, 2]))
    with pytest.raises(DataError, match=r"01\.png changed after this run had hashed it"):
        streamed.pixels(torch.tensor([0, 1]))
    assert streamed.digest() == digest  # of what the run has read


def test_whatever_a_decoder_trips_on_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = files(tmp_path, 3)

    def tripping(*_: Any) -> Pixels:
        raise TypeError("'bytes' object cannot be interpreted as an integer")

    monkeypatch.setattr(module, "decode", tripping)  # a TIFF with a damaged tag does it
    with pytest.raises(DataError, match=r"^3 of 3 image files .*00.png \('bytes' object cannot"):
        load_images(paths, Reading(8), "images")
    streamed = StreamedDataset(paths, {"fine": torch.arange(3)}, Reading(8), ["0", "1", "2"])
    with pytest.raises(DataError, match=r"01.png can no longer be read \('bytes' object cannot"):
        streamed.pixels(torch.tensor([1]))


def test_portable_grey_maps_are_images(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 2 2 255\n" + bytes([0, 0, 200, 200]))
    assert list_images(tmp_path) == [tmp_path / "a.pgm"]
    assert decode(tmp_path / "a.pgm", 2)[:, 0].tolist() == [[0] * 3, [200] * 3]
