"""Model arithmetic: several networks fine-tuned from one source become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tl.transfer.weight_space import check_alike

State = Mapping[str, Tensor]
_STATISTICS = ("running_mean", "running_var")


def task_arithmetic(source: State, tuned: Sequence[State], coefficient: float) -> dict[str, Tensor]:
    """Add the sum of task vectors to the source: ``theta_0 + lambda sum_i (theta_i - theta_0)``.

    Ilharco et al., 2023, arXiv:2212.04089, sections 2 and 4. One coefficient for all tasks, chosen
    on validation data, as there.

    Args:
        source: Weights that all were fine-tuned from.
        tuned: Fine-tuned weights, one or more networks.
        coefficient: ``lambda``.

    Returns:
        The weights in the types of the source. Running statistics are the mean of the fine-tuned
        networks', which is only a start, see :func:`tl.transfer.weight_space.estimate_statistics`;
        integers come from the source.

    Raises:
        ValueError: If the networks differ in names or shapes, or there is none.
    """
    vectors = task_vectors(source, tuned)
    total = {n: torch.stack([vector[n] for vector in vectors]).sum(0) for n in vectors[0]}
    return _moved(source, tuned, total, coefficient)


def ties(
    source: State, tuned: Sequence[State], coefficient: float = 1.0, keep: float = 0.2
) -> dict[str, Tensor]:
    """Merge task vectors without their small and their conflicting parts.

    Trim each vector to the `keep` of its numbers that are largest; elect for each weight the sign
    of the sum; add the mean of those numbers that have this sign, times ``lambda`` (Yadav et al.,
    2023, arXiv:2306.01708, algorithm 1). The paper's defaults are 20 % and 1.

    Args:
        source: Weights that all were fine-tuned from.
        tuned: Fine-tuned weights, one or more networks.
        coefficient: ``lambda``.
        keep: Fraction of a vector's numbers to keep, above 0 and at most 1.

    Returns:
        As :func:`task_arithmetic`.

    Raises:
        ValueError: If `keep` is out of range, or as there.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"`keep` must be above 0 and at most 1, got {keep}.")
    trimmed = [trim(vector, keep) for vector in task_vectors(source, tuned)]
    merged = {}
    for name in trimmed[0]:
        parts = torch.stack([vector[name] for vector in trimmed])
        agrees = (parts.sign() == parts.sum(0).sign()) & (parts != 0)
        merged[name] = (parts * agrees).sum(0) / agrees.sum(0).clamp_min(1)
    return _moved(source, tuned, merged, coefficient)


def task_vectors(source: State, tuned: Sequence[State]) -> list[dict[str, Tensor]]:
    """Return ``theta_i - theta_0`` in double precision, without running statistics.

    Raises:
        ValueError: If the networks differ in names or shapes, or there is none.
    """
    if not tuned:
        raise ValueError("Nothing to merge; give at least one fine-tuned network.")
    for state in tuned:
        check_alike(state, source)
    names = [n for n, v in source.items() if v.is_floating_point() and not _is_statistic(n)]
    return [{n: state[n].double() - source[n].double() for n in names} for state in tuned]


def trim(vector: State, keep: float) -> dict[str, Tensor]:
    """Set all but the largest numbers of a whole task vector to zero.

    Args:
        vector: The vector, by parameter name.
        keep: Fraction of its numbers to keep; ties with the smallest kept one are kept too.
    """
    sizes = torch.cat([part.flatten() for part in vector.values()]).abs()
    count = max(1, round(keep * len(sizes)))
    least = sizes.kthvalue(len(sizes) - count + 1).values
    return {name: part * (part.abs() >= least) for name, part in vector.items()}


def _moved(
    source: State, tuned: Sequence[State], step: State, coefficient: float
) -> dict[str, Tensor]:
    found = {}
    for name, value in source.items():
        if name in step:
            found[name] = (value.double() + coefficient * step[name]).to(value.dtype)
        elif value.is_floating_point():
            mean = torch.stack([state[name].double() for state in tuned]).mean(0)
            found[name] = mean.to(value.dtype)
        else:
            found[name] = value.clone()
    return found


def _is_statistic(name: str) -> bool:
    # also those per source, such as `running_mean_cifar10`
    return name.rpartition(".")[2].startswith(_STATISTICS)
