from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.small import trainer
from tl import Classification, SyntheticScenesDataModule, TensorDataModule, TransferModule
from tl.backbones import ResNet20
from tl.data import DataError
from tl.data.shifts import Shift
from tl.runs.shifted_tests import image_sources, scores_under_shifts

KIND = Classification("kind", 3)
FOG = Shift("fog", 3)


def pictures(count: int = 24, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 200, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)


def arrays(shift: Shift | None = None) -> TensorDataModule:
    labels = torch.arange(24) % 3
    given = (pictures(), labels, [KIND])
    return TensorDataModule(
        *given, batch_size=8, test_inputs=pictures(seed=1), test_targets=labels, shift=shift
    )


def test_a_shift_shows_all_images_and_leaves_the_fingerprint_of_the_samples() -> None:
    clean, data = arrays(), arrays(FOG)
    for each in (clean, data):
        each.setup("fit")
        each.setup("test")
    for split, seen in (("train", data.splits["train"]), ("test", data.splits["test"])):
        images = pictures(seed=int(split == "test"))
        wanted = FOG(images.permute(0, 2, 3, 1), range(24), split).permute(0, 3, 1, 2)
        assert torch.equal(seen.inputs, wanted)  # type: ignore[arg-type]  # one array
        assert torch.equal(seen.unshifted().inputs, images)  # type: ignore[arg-type]
    assert data.fingerprint == f"{clean.fingerprint}~fog-3"
    assert data.describe()["shift"] == {"name": "fog", "severity": 3, "seed": 0}
    rows = data.splits["train"].rows
    train = data.splits["train"].inputs[rows].double()  # type: ignore[index]
    found = torch.tensor(data.describe()["statistics"][""][0])
    torch.testing.assert_close(found.double(), train.mean((0, 2, 3)), atol=1e-4, rtol=1e-6)


def test_a_new_shift_counts_from_the_next_setup() -> None:
    data = arrays()
    data.setup("fit")
    before = data.describe()["statistics"]
    data.shift = FOG
    data.setup("fit")
    assert data.fingerprint.endswith("~fog-3")
    assert data.describe()["statistics"] != before
    with pytest.raises(TypeError, match="`shift` must be a Shift or null, got 'fog'"):
        data.shift = "fog"  # type: ignore[assignment]


def test_only_images_have_a_shift_and_targets_on_pixels_stay_below_them() -> None:
    data = TensorDataModule(torch.rand(24, 3, 16, 16), torch.arange(24) % 3, [KIND], shift=FOG)
    with pytest.raises(DataError, match=r"'fog' is for images, uint8 \(N, 3, H, W\); the inputs"):
        data.setup("fit")
    rooms = SyntheticScenesDataModule(
        train_size=8, test_size=4, size=16, shift=Shift("elastic"), val_size=0.25
    )
    with pytest.raises(DataError, match="'elastic' moves pixels, and the targets of task"):
        rooms.setup("fit")
    rooms.shift = FOG
    rooms.setup("fit")
    assert rooms.fingerprint.startswith("generated:")
    assert rooms.fingerprint.endswith("~fog-3")


def test_named_inputs_that_are_no_images_stay() -> None:
    sound = torch.rand(24, 5)
    data = TensorDataModule(
        {"image": pictures(), "sound": sound}, torch.arange(24) % 3, [KIND], shift=FOG
    )
    data.setup("fit")
    inputs = data.splits["train"].inputs
    assert torch.equal(inputs["sound"], sound)  # type: ignore[index]
    assert not torch.equal(inputs["image"], pictures())  # type: ignore[index]


@pytest.mark.parametrize("own", [None, FOG])
def test_one_command_tests_arrays_under_shifts(own: Shift | None, tmp_path: Path) -> None:
    data = arrays(own)
    net = TransferModule(ResNet20(), KIND)
    trainer(tmp_path, max_epochs=1).fit(net, data)
    data.setup("test")
    quiet, seen = trainer(tmp_path), []
    net.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    [found] = scores_under_shifts(net, data, quiet, ["contrast", "grey"], [5])
    assert (found.task, found.count) == ("kind", 24)
    mean, std = (torch.tensor(each) for each in data.describe()["statistics"][""])
    shifts = (None, Shift("contrast", 5), Shift("grey", 5))
    for images, shift in zip(torch.cat(seen).view(3, 24, 3, 16, 16), shifts, strict=True):
        pixels = pictures(seed=1).permute(0, 2, 3, 1)
        wanted = pixels if shift is None else shift(pixels, range(24), "test")
        wanted = ((wanted - mean) / std).permute(0, 3, 1, 2)
        torch.testing.assert_close(images, wanted, atol=1e-5, rtol=1e-5)
    shown = data.splits["test"]
    assert (shown.unshifted() is shown) == (own is None)  # as before


def test_other_arrays_are_not_tested_under_shifts() -> None:
    data = TensorDataModule(torch.rand(24, 7), torch.arange(24) % 3, [KIND])
    assert list(image_sources(data)) == ["tensors"]  # not yet read
    data.setup("fit")
    with pytest.raises(ValueError, match="need a source of images"):
        image_sources(data)


def test_an_evaluation_under_another_shift_says_so(caplog: pytest.LogCaptureFixture) -> None:
    data = arrays()
    data.setup("fit")
    caplog.clear()
    there = arrays(FOG)
    assert there.adopt(data.describe())
    said = "evaluating under another shift than in training: none there, fog-3 here"
    assert said in caplog.text
    there.setup("test")
    assert there.describe()["statistics"] == data.describe()["statistics"]
    assert there.splits["test"].unshifted() is not there.splits["test"]
