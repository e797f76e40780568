from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from tl.data.shifts import FAMILIES, SHIFTS, Shift
from tl.data.shifts.shift import FIXED, RANDOM

ROOT = Path(__file__).resolve().parents[3]
IMAGES = torch.randint(0, 256, (6, 32, 32, 3), generator=torch.Generator().manual_seed(0)).byte()


def test_every_shift_belongs_to_a_family_and_has_a_config() -> None:
    assert sorted(SHIFTS) == sorted({**FIXED, **RANDOM})
    assert sum(map(len, FAMILIES.values())) == len(SHIFTS)
    found = {path.stem for path in (ROOT / "configs/shifts").glob("*.yaml")}
    assert found == set(SHIFTS)
    for name in SHIFTS:
        config = yaml.safe_load((ROOT / f"configs/shifts/{name}.yaml").read_text())
        assert config["data"]["init_args"]["shift"]["name"] == name


@pytest.mark.parametrize("name", SHIFTS)
def test_an_image_looks_the_same_in_every_batch(name: str) -> None:
    shift = Shift(name, 4)
    whole = shift(IMAGES, range(6))
    assert whole.dtype == torch.uint8
    assert whole.shape == IMAGES.shape
    assert not torch.equal(whole, IMAGES)
    part = torch.tensor([4, 1])
    assert torch.equal(shift(IMAGES[part], part.tolist()), whole[part])


@pytest.mark.parametrize("name", RANDOM)
def test_random_numbers_depend_on_seed_split_and_image(name: str) -> None:
    first = Shift(name, 4)(IMAGES, range(6), "test")
    assert not torch.equal(Shift(name, 4, seed=1)(IMAGES, range(6), "test"), first)
    assert not torch.equal(Shift(name, 4)(IMAGES, range(6), "train"), first)
    assert not torch.equal(Shift(name, 4)(IMAGES, range(1, 7), "test"), first)


@pytest.mark.parametrize("severity", [0, 6, -1])
def test_a_severity_outside_1_to_5_is_refused(severity: int) -> None:
    with pytest.raises(ValueError, match=f"must be 1, 2, 3, 4 or 5, got {severity}"):
        Shift("fog", severity)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no shift 'foggy'; choose .*Did you mean 'fog'"):
        Shift("foggy")
    with pytest.raises(TypeError, match="`severity` must be a whole number"):
        Shift("fog", 2.5)  # type: ignore[arg-type]
