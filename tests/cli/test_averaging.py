"""Checkpoints in, one checkpoint out: usable, honest about its past, refused where it must be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from tests.small import module as tiny_module
from tests.small import multitask_module, tiny_data, trainer, two_sources
from tl.checkpoints.files import CheckpointError, file_sha256
from tl.cli.averaging import average_checkpoints
from tl.transfer.lineage import lineage
from tl.transfer.weights import load_weights

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def configuration(**data: Any) -> dict[str, Any]:
    """What the command line would have written for a run of `tests.small`."""
    given = {"train_size": 120, "test_size": 30, "batch_size": 20, **data}
    backbone = {"class_path": "tests.small.Tiny"}
    return {
        "name": "a",
        "model": {"class_path": "tl.modules.TransferModule", "init_args": {"backbone": backbone}},
        "data": {"class_path": "tl.data.GeneratedDataModule", "init_args": given},
    }


def make_run(folder: Path, seed: int, **data: Any) -> Path:
    """A run's folder as the command line leaves it; returns the checkpoint."""
    source = tiny_data(**data)
    net = tiny_module(source)
    torch.manual_seed(seed)
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    run = trainer(folder, max_epochs=1, limit_train_batches=2)
    run.fit(net, source)
    path = folder / "checkpoints" / "best.ckpt"
    run.save_checkpoint(path)
    (folder / "config.yaml").write_text(yaml.safe_dump(configuration(**data)))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [make_run(folder / str(seed), seed) for seed in range(3)]


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def weights(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = read(path)["state_dict"]
    return state


def average(paths: list[Path], out: Path, **options: Any) -> str:
    return average_checkpoints(paths, out, **{"accelerator": "cpu", **options})


def test_weights_are_interpolated_and_statistics_estimated(
    made: list[Path], tmp_path: Path
) -> None:
    said = average(made[:2], tmp_path / "c.ckpt", alpha=0.25)
    a, b, c = (weights(path) for path in (*made[:2], tmp_path / "c.ckpt"))
    for name, tensor in c.items():
        if not name.endswith(STATISTICS):
            torch.testing.assert_close(tensor, 0.75 * a[name] + 0.25 * b[name])
    data = tiny_data()
    data.setup("fit")
    net = tiny_module(data)
    net.load_state_dict(c)
    # one epoch in batches of 20 leaves some images out: those of the run's own first epoch
    batches = [data.transform(batch, None)[0] for batch in data.train_dataloader()]
    with torch.no_grad():
        inputs = [net.backbone.conv(images) for images in batches]  # type: ignore[operator]
    mean = torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0)
    variance = torch.stack([x.var((0, 2, 3), unbiased=True) for x in inputs]).mean(0)
    torch.testing.assert_close(c["backbone.norm.running_mean"], mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(c["backbone.norm.running_var"], variance, rtol=1e-4, atol=1e-5)
    assert "re-estimated" in said


@pytest.mark.parametrize("alpha", [0, 1])
def test_the_ends_are_the_ingredients_bit_for_bit(
    made: list[Path], tmp_path: Path, alpha: int
) -> None:
    average(made[:2], tmp_path / "c.ckpt", alpha=alpha)
    found, expected = weights(tmp_path / "c.ckpt"), weights(made[alpha])
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, expected[name]), name


def test_the_result_is_tested_and_started_from(made: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "c.ckpt"
    average(made, path)
    assert torch.serialization.get_unsafe_globals_in_checkpoint(path) == []
    assert not list(tmp_path.glob(".*.tmp"))
    data = tiny_data()
    [metrics] = trainer(tmp_path).test(tiny_module(data), data, ckpt_path=str(path), verbose=False)
    assert 0 <= metrics["test/acc"] <= 1
    net = tiny_module(data)
    assert load_weights(net.backbone, path).fraction == 1
    assert "optimizer_states" not in read(path)


def test_the_result_tells_its_ingredients(made: list[Path], tmp_path: Path) -> None:
    average(made[:2], tmp_path / "c.ckpt", alpha=0.25)
    found = lineage(tmp_path / "c.ckpt")
    assert found.note == "WiSE-FT, alpha 0.25"
    assert [s.sha256 for s in found.sources] == [file_sha256(path) for path in made[:2]]
    assert [s.weight for s in found.sources] == [0.75, 0.25]
    data = tiny_data()
    next_run = trainer(tmp_path, max_epochs=1, limit_train_batches=1)
    next_run.fit(tiny_module(data, init_from=str(tmp_path / "c.ckpt")), data)
    next_run.save_checkpoint(tmp_path / "d.ckpt")
    [source] = lineage(tmp_path / "d.ckpt").sources
    assert source.path == "c.ckpt"
    assert len(source.sources) == 2
    assert source.note == "WiSE-FT, alpha 0.25"


def test_a_greedy_soup_is_not_worse_on_validation_images(made: list[Path], tmp_path: Path) -> None:
    # an ingredient that has lost its head is left out
    spoilt = read(made[0])
    spoilt["state_dict"]["heads.generated10.weight"].fill_(0)
    spoilt["state_dict"]["heads.generated10.bias"].copy_(torch.arange(10) * 100)
    bad = tmp_path / "bad.ckpt"
    torch.save(spoilt, bad)
    average([bad, *made], tmp_path / "c.ckpt", greedy=True)
    record = read(tmp_path / "c.ckpt")["tl"]["provenance"]
    assert record["method"] == "greedy soup"
    alone = [part["val/acc"] for part in record["ingredients"]]
    assert record["val/acc"] >= max(alone)
    data = tiny_data()
    net = tiny_module(data)
    path = str(tmp_path / "c.ckpt")
    [metrics] = trainer(tmp_path).validate(net, data, ckpt_path=path, verbose=False)
    assert metrics["val/acc"] == pytest.approx(record["val/acc"])
    # each alone is measured as the soups are: with statistics estimated anew
    assert record["statistics"] is not None
    for part, checkpoint in zip(record["ingredients"], [bad, *made], strict=True):
        twice = tmp_path / f"twice-{part['sha256']}.ckpt"
        own = [made[0].parent.parent / "config.yaml"]
        average([checkpoint, checkpoint], twice, configurations=own)
        [metrics] = trainer(tmp_path).validate(
            tiny_module(data), data, ckpt_path=str(twice), verbose=False
        )
        assert metrics["val/acc"] == pytest.approx(part["val/acc"])


def test_other_heads_are_refused_or_left_alone(made: list[Path], tmp_path: Path) -> None:
    data = two_sources()
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=1)
    run.fit(multitask_module(data), data)
    run.save_checkpoint(tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="has the heads ten ") as caught:
        average([tmp_path / "other.ckpt", made[0]], tmp_path / "c.ckpt")
    assert "generated10 (10, 8)" in str(caught.value)
    assert "--backbone-only" in str(caught.value)
    average([tmp_path / "other.ckpt", made[0]], tmp_path / "c.ckpt", backbone_only=True)
    a, b, c = (weights(p) for p in (tmp_path / "other.ckpt", made[0], tmp_path / "c.ckpt"))
    torch.testing.assert_close(
        c["backbone.conv.weight"], (a["backbone.conv.weight"] + b["backbone.conv.weight"]) / 2
    )
    assert torch.equal(c["heads.generated10.weight"], b["heads.generated10.weight"])


def test_several_sources_are_averaged_too(tmp_path: Path) -> None:
    paths = []
    for seed in (0, 1):
        data = two_sources()
        net = multitask_module(data, batch_norm="per_source_statistics")
        nn.init.normal_(net.backbone.conv.weight)  # type: ignore[union-attr, arg-type]
        run = trainer(tmp_path, max_epochs=1, limit_train_batches=1)
        run.fit(net, data)
        paths.append(tmp_path / f"{seed}.ckpt")
        run.save_checkpoint(paths[-1])
    sources = {
        "ten": {
            "class_path": "tl.data.GeneratedDataModule",
            "init_args": {"train_size": 100, "test_size": 20},
        },
        "hundred": {
            "class_path": "tl.data.GeneratedDataModule",
            "init_args": {"classes": 100, "train_size": 200, "test_size": 100, "targets": "both"},
        },
    }
    model = {"backbone": {"class_path": "tests.small.Tiny"}, "batch_norm": "per_source_statistics"}
    content = {
        "model": {"class_path": "tl.modules.MultiTaskModule", "init_args": model},
        "data": {
            "class_path": "tl.data.MultiTaskDataModule",
            "init_args": {"sources": sources, "batch_size": 30},
        },
    }
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(content))
    average(paths, tmp_path / "c.ckpt", greedy=True, configurations=[config])
    average(paths, tmp_path / "u.ckpt", configurations=[config])
    state = weights(tmp_path / "u.ckpt")
    assert not torch.equal(
        state["backbone.norm.running_mean_ten"], state["backbone.norm.running_mean_hundred"]
    )


def test_statistics_can_be_averaged_without_data(made: list[Path], tmp_path: Path) -> None:
    alone = [tmp_path / f"{n}.ckpt" for n in range(2)]  # no configuration near them
    for path, target in zip(made[:2], alone, strict=True):
        shutil.copy(path, target)
    with pytest.raises(ValueError, match=r"its run's configuration, .* is not at"):
        average(alone, tmp_path / "c.ckpt")
    average(alone, tmp_path / "c.ckpt", average_statistics=True)
    a, b, c = (weights(path) for path in (*alone, tmp_path / "c.ckpt"))
    name = "backbone.norm.running_var"
    torch.testing.assert_close(c[name], (a[name] + b[name]) / 2)
    assert read(tmp_path / "c.ckpt")["tl"]["provenance"]["statistics"] is None


def test_selection_on_images_that_were_trained_on_is_refused(
    made: list[Path], tmp_path: Path
) -> None:
    other = make_run(tmp_path / "run", 0, val_size=0.2)
    with pytest.raises(ValueError, match="would bias the selection"):
        average([other, made[0]], tmp_path / "c.ckpt", greedy=True)
    average([other, made[0]], tmp_path / "c.ckpt")  # nothing is selected


def test_other_data_than_the_runs_are_refused(made: list[Path], tmp_path: Path) -> None:
    config = tmp_path / "other.yaml"
    config.write_text(yaml.safe_dump(configuration(train_size=130)))
    with pytest.raises(ValueError, match="which of them it held out cannot be told"):
        average(made, tmp_path / "c.ckpt", configurations=[config])


def test_mistakes_are_named(made: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "c.ckpt"
    with pytest.raises(ValueError, match="at least two checkpoints, got 1"):
        average(made[:1], out)
    with pytest.raises(ValueError, match=r"needs exactly two checkpoints, got 0\.5 and 3"):
        average(made, out, alpha=0.5)
    with pytest.raises(ValueError, match=r"from 0 to 1 and needs .* got 1\.5"):
        average(made[:2], out, alpha=1.5)
    with pytest.raises(ValueError, match="already exists"):
        average(made, made[0])
    torch.save({"state_dict": weights(made[0])}, tmp_path / "plain.ckpt")
    with pytest.raises(CheckpointError, match="is not a checkpoint of this framework"):
        average([tmp_path / "plain.ckpt", made[0]], out)
    changed = read(made[0])
    changed["state_dict"]["backbone.conv.weight"] = torch.zeros(4, 3, 3, 3)
    torch.save(changed, tmp_path / "narrow.ckpt")
    with pytest.raises(ValueError, match=r"backbone\.conv\.weight is \(4, 3, 3, 3\) in one"):
        average([tmp_path / "narrow.ckpt", made[0]], out)
    adapted = read(made[0])
    adapted["state_dict"]["backbone.conv.lora_A.default.weight"] = torch.zeros(1)
    torch.save(adapted, tmp_path / "lora.ckpt")
    with pytest.raises(ValueError, match="has LoRA adapters: averaging their factors"):
        average([tmp_path / "lora.ckpt", tmp_path / "lora.ckpt"], out, average_statistics=True)
    assert not out.exists()


def rename_classes(path: Path, out: Path, names: list[str], task: str | None = None) -> Path:
    """Write a checkpoint whose only head has classes of these names, and another task's name."""
    content = read(path)
    [old] = content["tl"]["class_names"]
    new = task or old
    content["tl"]["class_names"] = {new: names}
    content["state_dict"] = {
        name.replace(f"heads.{old}.", f"heads.{new}."): value
        for name, value in content["state_dict"].items()
    }
    torch.save(content, out)
    return out


@pytest.mark.parametrize("task", [None, "other"])
def test_heads_of_permuted_classes_are_averaged_by_name(
    made: list[Path], tmp_path: Path, task: str | None
) -> None:
    [(own, names)] = read(made[1])["tl"]["class_names"].items()
    turned = rename_classes(made[0], tmp_path / "turned.ckpt", names[::-1], task)
    out = tmp_path / "out.ckpt"
    average_checkpoints([turned, made[1]], out, average_statistics=True)
    first, last, mean = (read(path)["state_dict"] for path in (made[0], made[1], out))
    key = f"heads.{own}.weight"
    torch.testing.assert_close(mean[key], (first[key].flip(0) + last[key]) / 2)


def test_heads_of_other_classes_are_refused_with_both_lists(
    made: list[Path], tmp_path: Path
) -> None:
    [names] = read(made[1])["tl"]["class_names"].values()
    other = rename_classes(made[0], tmp_path / "other.ckpt", ["zebra", *names[1:]])
    with pytest.raises(ValueError, match=rf"zebra.*{names[0]}"):
        average_checkpoints([other, made[1]], tmp_path / "out.ckpt", average_statistics=True)


def test_heads_of_other_groups_of_the_same_names_are_refused(
    made: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.ckpt"
    for number, groups in enumerate(({"ant": "a", "bee": "a"}, {"ant": "a", "bee": "b"})):
        content = read(made[number])
        content["tl"]["data"] |= {"groups": groups, "class_names": {"coarse": ["a", "b"]}}
        torch.save(content, tmp_path / f"{number}.ckpt")
    paths = [tmp_path / "0.ckpt", tmp_path / "1.ckpt"]
    with pytest.raises(ValueError, match=r"groups 1 classes differently .* bee a there, b in"):
        average_checkpoints(paths, out, average_statistics=True)
    average_checkpoints(paths, out, average_statistics=True, backbone_only=True)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"image_size": 16}, "of 16x16 pixels, the last checkpoint on 32x32"),
        ({"mean": [1.0, 2.0, 3.0]}, r"by the mean 1\.00, 2\.00, 3\.00, the last checkpoint by \d"),
        ({"std": [1.0, 2.0, 3.0]}, r"by the std 1\.00, 2\.00, 3\.00, the last checkpoint by \d"),
    ],
)
def test_weights_of_other_inputs_are_refused(
    made: list[Path], tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    content, other, out = read(made[0]), tmp_path / "other.ckpt", tmp_path / "out.ckpt"
    content["tl"]["data"] |= changed
    torch.save(content, other)
    with pytest.raises(ValueError, match=rf"other\.ckpt was trained on images .*{said}"):
        average_checkpoints([other, made[1]], out, average_statistics=True)


def test_the_rounding_of_statistics_is_not_another_normalisation(
    made: list[Path], tmp_path: Path
) -> None:
    content, other, out = read(made[0]), tmp_path / "other.ckpt", tmp_path / "out.ckpt"
    content["tl"]["data"]["mean"] = [value + 1e-4 for value in content["tl"]["data"]["mean"]]
    torch.save(content, other)
    average_checkpoints([other, made[1]], out, average_statistics=True)
    content["tl"]["data"]["mean"] = [1.0, 2.0, 3.0]  # a source's own, as WiSE-FT has it
    torch.save(content, other)
    average_checkpoints(
        [other, made[1]], tmp_path / "b.ckpt", average_statistics=True, backbone_only=True
    )
