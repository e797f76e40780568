"""Names in a checkpoint are matched to names in a backbone."""

import pytest
import torch

from tl.transfer.names import find_state, find_target, is_below, top_level_part

TARGETS = {"conv1.weight", "layer1.0.conv1.weight"}


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "_orig_mod.",
        "backbone.",
        "model.net.encoder.",
        "_orig_mod.module.backbone.",
        "backbone._orig_mod.",
        "module.module.model._orig_mod.backbone.",
    ],
)
def test_wrappers_prefixes_come_off_in_any_order(prefix: str) -> None:
    assert find_target(f"{prefix}conv1.weight", TARGETS, {}) == ("conv1.weight", None)


def test_a_part_compiled_alone_is_found() -> None:
    name = "backbone.layer1._orig_mod.0.conv1.weight"
    assert find_target(name, TARGETS, {})[0] == "layer1.0.conv1.weight"


@pytest.mark.parametrize(
    "name", ["layer1.conv1.weight", "teacher.conv1.weight", "heads.conv1.weight"]
)
def test_other_prefixes_stay_on(name: str) -> None:
    assert find_target(name, TARGETS, {})[0] is None


def test_a_name_that_fits_as_it_is_keeps_its_prefix() -> None:
    targets = {"model.conv1.weight", "conv1.weight"}
    assert find_target("model.conv1.weight", targets, {})[0] == "model.conv1.weight"


@pytest.mark.parametrize("name", ["fc.weight", "model.fc.weight", "module.fc.weight"])
def test_a_classifier_is_not_a_layer_of_the_same_name(name: str) -> None:
    assert find_target(name, {"fc.weight"}, {})[0] is None
    assert find_target("backbone.fc.weight", {"fc.weight"}, {})[0] == "fc.weight"
    assert find_target("module.backbone._orig_mod.fc.weight", {"fc.weight"}, {})[0] == "fc.weight"
    assert find_target(name, {"fc.weight"}, {"fc": "fc"}) == ("fc.weight", "fc")


@pytest.mark.parametrize("old", ["encoder_q", "encoder_q.", "module.encoder_q"])
def test_rename_applies_with_and_without_wrappers_prefixes(old: str) -> None:
    found = find_target("module.encoder_q.conv1.weight", TARGETS, {old: ""})
    assert found == ("conv1.weight", old)


def test_rename_puts_a_prefix_in_front() -> None:
    found = find_target("module.conv1.weight", {"body.conv1.weight"}, {"": "body"})
    assert found == ("body.conv1.weight", "")


def test_the_longest_entry_of_rename_counts() -> None:
    rename = {"block": "layer1", "block.stem": "conv1"}
    assert find_target("block.stem.weight", TARGETS, rename)[0] == "conv1.weight"
    assert find_target("block.0.conv1.weight", TARGETS, rename)[0] == "layer1.0.conv1.weight"


def test_what_rename_maps_elsewhere_is_not_found_under_its_old_name() -> None:
    assert find_target("conv1.weight", TARGETS, {"conv1": "stem"}) == (None, "conv1")


def test_prefixes_count_in_whole_parts() -> None:
    assert is_below("layer1.0.weight", "layer1")
    assert is_below("layer1", "layer1.")
    assert not is_below("layer10.weight", "layer1")


def test_top_level_part_looks_through_wrappers() -> None:
    assert top_level_part("_orig_mod.model.backbone.layer1.0.weight") == "layer1"


def test_state_is_found_by_the_documented_order() -> None:
    first, second = {"a": torch.zeros(1)}, {"a": torch.ones(1)}
    assert find_state({"ema": second, "state_dict": first}) is first
    assert find_state({"ema": second, "model": {"state_dict": first}, "epoch": 1}) is first
    assert find_state({"model": {"lr": 0.1}, "ema": second}) is second
    assert find_state(first) is first
    assert find_state({"epoch": 1, "state_dict": {}}) is None


def test_a_container_that_holds_itself_ends() -> None:
    content: dict[str, object] = {}
    content["model"] = content
    assert find_state(content) is None
