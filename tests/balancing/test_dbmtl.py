from __future__ import annotations

import pytest
import torch

from tl.balancing import DBMTL


def test_every_task_contributes_at_the_largest_norm() -> None:
    rows = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.1]])
    update = DBMTL(beta=0.0)(rows)
    torch.testing.assert_close(update, torch.tensor([3.0, 4.0, 5.0]))


def test_the_scale_of_a_loss_does_not_matter() -> None:
    method = DBMTL()
    losses = torch.tensor([1.0, 4.0])
    rows = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    for factor in (1.0, 1000.0):
        scaled = torch.tensor([1.0, factor])
        logs = method.loss_weights(losses * scaled)[:, None] * rows * scaled[:, None]
        torch.testing.assert_close(logs, rows / losses[:, None])


def test_running_mean_by_hand() -> None:
    method = DBMTL(beta=0.8, decay=1.0)
    rows = [torch.tensor([[1.0], [2.0]]), torch.tensor([[5.0], [0.5]])]
    method(rows[0])
    first = rows[0] * (1 - 0.8)
    found = method(rows[1])
    second = 0.4 * first + 0.6 * rows[1]
    torch.testing.assert_close(found, second.abs().max() * torch.sign(second).sum(0))


def test_a_gradient_of_zero_adds_nothing() -> None:
    assert DBMTL()(torch.tensor([[0.0, 0.0], [0.0, 10.0]]))[0] == 0
    assert DBMTL()(torch.zeros(2, 3)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("setting", [{"beta": 1.0}, {"decay": -1.0}, {"eps": 0.0}])
def test_refuses_settings_out_of_range(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        DBMTL(**setting)
