from __future__ import annotations

from tests.small import module, multitask_module, tiny_data, two_sources
from tl import MultiTaskModule, TransferModule
from tl.modules.owner import Owner


def test_both_modules_are_owners_of_their_parts() -> None:
    owners: list[Owner] = [module(tiny_data()), multitask_module(two_sources())]
    assert [owner.run for owner in owners] == [None, None]
    assert [owner.datamodule for owner in owners] == [None, None]


def test_at_most_three_classes_of_ours_stand_in_a_module() -> None:
    for kind in (TransferModule, MultiTaskModule):
        ours = [each for each in kind.__mro__ if each.__module__.startswith("tl.")]
        assert len(ours) == 2
