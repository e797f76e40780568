from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional

from tests.small import Staged, tiny_data, trainer
from tl import TransferModule
from tl.transfer import StochNorm
from tl.transfer.stoch_norm import stoch_norm


def test_each_channel_is_one_or_the_other() -> None:
    torch.manual_seed(0)
    batch, moving = torch.zeros(3, 400, 2, 2), torch.ones(3, 400, 2, 2)
    found = stoch_norm(batch, moving, 0.25)
    per_channel = found.transpose(0, 1).flatten(1)
    assert torch.equal(per_channel.amin(1), per_channel.amax(1))
    assert float(per_channel[:, 0].mean()) == pytest.approx(0.25, abs=0.08)
    assert torch.equal(stoch_norm(batch, moving, 0), batch)
    assert torch.equal(stoch_norm(batch, moving, 1), moving)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), nn.BatchNorm2d(3)])
def test_certain_choice_is_normalised_by_the_moving_statistics(layer: nn.Module) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(5, 3) if isinstance(layer, nn.BatchNorm1d) else torch.randn(5, 3, 2, 2)
    hooks = StochNorm(1.0).hooks(nn.Sequential(layer))
    layer(torch.randn_like(inputs) + 1)
    mean, var = layer.get_buffer("running_mean").clone(), layer.get_buffer("running_var").clone()
    found = layer(inputs)
    assert torch.allclose(found, functional.batch_norm(inputs, mean, var))  # from before the batch
    assert not torch.allclose(layer.get_buffer("running_mean"), mean)  # which is counted
    found.sum().backward()  # and its gradient flows
    for hook in hooks:
        hook.remove()
    assert torch.allclose(layer(inputs), functional.batch_norm(inputs, None, None, training=True))


def test_a_resumed_run_draws_the_same_and_hooks_end_with_the_run(tmp_path: Path) -> None:
    def built() -> TransferModule:
        torch.manual_seed(0)
        return TransferModule(Staged(), tiny_data().task, strategy=StochNorm())

    saved = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1)
    whole, again = built(), built()
    trainer(tmp_path, callbacks=[saved], enable_checkpointing=True).fit(whole, tiny_data())
    torch.manual_seed(99)
    trainer(tmp_path).fit(again, tiny_data(), ckpt_path=tmp_path / "step=7.ckpt")
    expected = dict(whole.named_parameters())
    assert all(torch.equal(p, expected[n]) for n, p in again.named_parameters())
    assert not any(layer._forward_hooks for layer in whole.backbone.modules())


def test_an_activation_within_the_layer_is_run_on_both_halves() -> None:
    act = pytest.importorskip("timm.layers").BatchNormAct2d
    torch.manual_seed(0)
    layer = act(64)  # followed by ReLU
    inputs = torch.randn(8, 64, 4, 4) * 3 + 1
    StochNorm(0.5).hooks(nn.Sequential(layer))
    found = layer(inputs)
    assert float(found.detach().min()) == 0
    by_batch = functional.batch_norm(inputs, None, None, training=True).relu()
    by_start = functional.batch_norm(inputs, torch.zeros(64), torch.ones(64)).relu()
    same = [torch.isclose(found, each).all((0, 2, 3)) for each in (by_batch, by_start)]
    assert all(same[0] | same[1])
    assert 16 < int(same[0].sum()) < 48


class _Doubled(nn.BatchNorm2d):
    def forward(self, images: Tensor) -> Tensor:
        return 2 * super().forward(images)


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(ValueError, match="mixes the outputs of torch's batch norm, and _Doubled"):
        StochNorm().hooks(nn.Sequential(_Doubled(2)))
    with pytest.raises(ValueError, match="needs a backbone with batch norm"):
        StochNorm().hooks(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="`probability` must be from 0 to 1, got 2"):
        StochNorm(2)
