"""Checkpoints in, one checkpoint out: usable, and honest about its past."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.cli.averages import average, read, weights
from tests.small import module as tiny_module
from tests.small import tiny_data, trainer
from tl.checkpoints.files import CheckpointError, file_sha256
from tl.transfer.lineage import lineage
from tl.transfer.weights import load_weights

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


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
