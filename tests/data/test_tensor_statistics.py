from __future__ import annotations

import torch

from tl.data.tensor_statistics import recorded, standardised, statistics_of


def test_levels_are_standardised_by_channel_and_the_rest_stays() -> None:
    statistics = {"": (torch.tensor([1.0, 10.0]), torch.tensor([2.0, 5.0]))}
    batch = torch.tensor([[[3, 5], [20, 10]]], dtype=torch.uint8)
    assert torch.equal(standardised(batch, statistics), torch.tensor([[[1.0, 2.0], [2.0, 0.0]]]))  # type: ignore[arg-type]
    assert standardised(batch, {}) is batch
    parts = {"levels": batch, "numbers": batch}
    found = standardised(parts, {"levels": statistics[""]})
    assert isinstance(found, dict)
    assert torch.equal(found["levels"], standardised(batch, statistics))  # type: ignore[arg-type]
    assert found["numbers"] is batch


def test_a_record_gives_the_statistics_back() -> None:
    given = {"a": (torch.rand(3), torch.rand(3))}
    [(name, (mean, std))] = statistics_of({"statistics": recorded(given)}).items()
    assert name == "a"
    assert torch.equal(mean, given["a"][0])
    assert torch.equal(std, given["a"][1])
    assert statistics_of({}) == {}
