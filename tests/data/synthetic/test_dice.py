"""Random numbers per image do not depend on the other images."""

from __future__ import annotations

import torch

from tl.data.synthetic.dice import Dice, keys_of, mix, uniform


def test_splitmix64_gives_its_published_numbers() -> None:
    # the first outputs for the seed 1234567, of the reference code (Vigna, 2015)
    states = 1234567 + torch.arange(1, 4) * -0x61C8864680B583EB
    found = [number % 2**64 for number in mix(states).tolist()]
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_numbers_are_uniform_and_those_of_an_image_alone() -> None:
    keys = keys_of(torch.arange(500), 0, 10)
    numbers = uniform(keys, 40)
    assert torch.equal(uniform(keys[7:9], 40), numbers[7:9])
    assert 0 <= numbers.min() < 0.01
    assert 0.99 < numbers.max() < 1
    torch.testing.assert_close(numbers.mean(), torch.tensor(0.5), atol=0.01, rtol=0)
    torch.testing.assert_close(numbers.std(), torch.tensor(12**-0.5), atol=0.01, rtol=0)


def test_each_throw_is_a_new_number_in_its_range() -> None:
    dice = Dice(keys_of(torch.arange(300), 0, 10))
    first, second = dice.between(2, 3), dice.between(2, 3)
    assert first.shape == (300, 1, 1)
    assert 2 <= first.min() < first.max() < 3
    assert not torch.equal(first, second)
    assert 0.2 < dice.chance(0.3).mean() < 0.4
    assert set(dice.choice(("b", "c"), ("a", "b", "c")).tolist()) == {1, 2}
