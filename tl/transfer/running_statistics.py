"""How far batch norm's running statistics have drifted from their start."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_MEAN, _VARIANCE = "running_mean", "running_var"


def running_statistics(backbone: nn.Module) -> dict[str, Tensor]:
    """Copy the running means and variances of a network, by name.

    If a layer keeps several (``running_mean_<source>``), the plain ones are left out: they are
    computed from those only when the layer is saved.
    """
    names = {name for name, _ in backbone.named_buffers()}
    return {
        name: buffer.detach().clone()
        for name, buffer in backbone.named_buffers()
        if name.rpartition(".")[2].startswith((_MEAN, _VARIANCE))
        and not any(other.startswith(f"{name}_") for other in names)
    }


def statistics_drift(backbone: nn.Module, start: dict[str, Tensor]) -> float:
    """Measure how far running statistics have moved.

    The Kullback-Leibler divergence of the current normal distributions from the initial ones,
    averaged over channels, ``(v / v0 + (m - m0)^2 / v0 - 1 - log(v / v0)) / 2`` in nats: 0 if and
    only if nothing moved.

    Returns:
        The divergence, 0 or more; 0 without statistics.
    """
    now = running_statistics(backbone)
    terms: list[Tensor] = []
    for name in now:
        if _MEAN not in name.rpartition(".")[2] or name not in start:
            continue
        other = _VARIANCE.join(name.rsplit(_MEAN, 1))
        m, m0 = (one[name].cpu().double() for one in (now, start))
        v, v0 = (one[other].cpu().double().clamp(min=1e-12) for one in (now, start))
        # log1p of the difference: exactly 0 where nothing moved
        ratio = (v - v0) / v0
        terms.append((ratio - torch.log1p(ratio) + (m - m0).square() / v0) / 2)
    return float(torch.cat(terms).mean()) if terms else 0.0
