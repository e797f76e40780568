"""How far away each pixel is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from tl.tasks.pixels import DECODER, PixelMean, PixelTask

_LOSSES = ("l1", "berhu", "silog")
_CLOSE = 1.25
_SMALLEST = 1e-6  # a depth below it is not divided by


@dataclass(frozen=True, init=False)
class Depth(PixelTask):
    """A depth for each pixel, with absolute, relative and squared errors and close shares.

    Targets are ``(N, 1, H, W)`` or ``(N, H, W)``, above 0, NaN where there is none. Scores are
    over all known pixels of the split: ``abs`` is the mean of ``|p - t|``, ``rel`` of
    ``|p - t| / t``, ``rmse`` the root of the mean of ``(p - t)^2``, and ``delta1`` the share where
    ``max(p / t, t / p) < 1.25`` (Eigen et al., 2014, arXiv:1406.2283).

    Args:
        name: Name in metrics (``val/<name>/abs``) and heads; letters, digits, ``_`` and ``-``.
        loss: ``l1``; ``berhu``, squared beyond a fifth of the batch's largest error (Laina et al.,
            2016, arXiv:1606.00373); or ``silog``, scale-invariant in the logarithm (Eigen et al.,
            2014, with their factor of 1/2), for which the head gives the logarithm of the depth.
        decoder: Class path of the head, such as ``tl.tasks.decoders.DeepLab``.
        width: Channels within the head; ``None`` takes the default of its class.
        source: Name of the data source that the task reads in a batch of several.
        target: Key of the targets in a source that carries several.
        inverse: Whether targets are inverse depths, such as disparities: they are multiplied where
            an enlarged image divides depths.

    Raises:
        ValueError: If there is no such loss.
    """

    name: str
    loss_name: str
    decoder: str
    width: int | None
    source: str | None
    target: str | None
    inverse: bool
    kind: ClassVar[str] = "depth"
    score: ClassVar[str] = "abs"
    tallied: ClassVar[tuple[str, ...]] = ("abs",)
    columns: ClassVar[tuple[str, ...]] = ("mean_depth",)

    def __init__(
        self,
        name: str,
        loss: Literal["l1", "berhu", "silog"] = "l1",
        decoder: str = DECODER,
        width: int | None = None,
        source: str | None = None,
        target: str | None = None,
        inverse: bool = False,
    ) -> None:
        given = {"name": name, "loss_name": loss, "decoder": decoder, "width": width}
        object.__setattr__(self, "inverse", inverse)
        for field, value in {**given, "source": source, "target": target}.items():
            object.__setattr__(self, field, value)
        super().__post_init__()
        if loss not in _LOSSES:
            raise ValueError(
                f"The `loss` of task {name!r} must be one of {', '.join(_LOSSES)}, got {loss!r}."
            )

    def record(self) -> dict[str, Any]:
        """Return the task in plain types, by the arguments of the constructor."""
        found = super().record()
        loss = found.pop("loss_name")
        if not self.inverse:
            del found["inverse"]  # as for most
        return {**found, "loss": loss}

    @property
    def answers(self) -> str:
        """A depth, or its logarithm."""
        kind = "inverse depths" if self.inverse else "depths"
        return f"logarithms of {kind}" if self.loss_name == "silog" else kind

    @property
    def channels(self) -> int:
        """One."""
        return 1

    @property
    def expected(self) -> str:
        """Depths."""
        return "depths above 0, NaN where there is none, of shape (N, 1, H, W) or (N, H, W)"

    def settle(self, target: object, *, checked: bool = False) -> Tensor:
        """Return floats ``(N, 1, H, W)``, NaN where there is none."""
        found = self._maps(target, 1).float()
        if not checked:
            plain = found[:, 0]
            self.refuse(plain.isinf(), "infinite")
            self.refuse(plain < 0, "below 0")
            self.refuse(plain == 0, "0, which is no distance")
        return found

    def enlarged(self, target: Tensor, factor: Tensor) -> Tensor:
        """Return depths as things look when they are nearer: divided by the factor."""
        return target * factor if self.inverse else target / factor

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean over all known pixels.

        Args:
            output: ``(N, 1, H, W)``.
            target: ``(N, 1, H, W)``.
        """
        known = ~target.isnan()
        count = known.sum()
        if self.loss_name == "silog":
            error = torch.where(known, output - target.log(), 0.0)
            size = known.sum((1, 2, 3)).clamp(min=1)
            # each image weighs as many pixels as it has, so that batches add up to their split
            means = (error**2).sum((1, 2, 3)) - error.sum((1, 2, 3)) ** 2 / (2 * size)
            return means.sum() / count.clamp(min=1)
        error = torch.where(known, output - target, 0.0).abs()
        if self.loss_name == "berhu":
            edge = (error.detach().max() / 5).clamp(min=_SMALLEST)
            error = torch.where(error <= edge, error, (error**2 + edge**2) / (2 * edge))
        return error.sum() / count.clamp(min=1)

    def present(self, target: Tensor) -> Tensor:
        """Return how many depths are known."""
        return (~target.isnan()).sum()

    def tally(self, output: Tensor, target: Tensor) -> list[Tensor]:
        """Return the sum of the absolute errors."""
        return [(self.answer(output) - target).abs().nansum()]

    def scores(self) -> dict[str, Metric]:
        """Return absolute and relative error, root mean squared error and the close share."""
        return {
            "abs": AbsoluteError(),
            "rel": RelativeError(),
            "rmse": RootMeanSquare(),
            "delta1": CloseShare(),
        }

    def observe(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        """Let a metric see the known pixels of a batch."""
        known = ~target.isnan()
        metric.update(self.answer(output)[known], target[known])

    def answer(self, output: Tensor) -> Tensor:
        """Return depths ``(N, 1, H, W)``."""
        return output.float().exp() if self.loss_name == "silog" else output.float()

    def cells(self, answer: Tensor, names: Sequence[str] | None) -> list[dict[str, str]]:
        """Return the mean depth of each image."""
        del names
        return [{"mean_depth": f"{mean:.6g}"} for mean in answer.mean((1, 2, 3)).cpu().tolist()]


class AbsoluteError(PixelMean):
    """Mean of ``|p - t|``."""

    def update(self, output: Tensor, target: Tensor) -> None:  # type: ignore[override]
        """Count known pixels ``(M,)``."""
        super().update((output.double() - target.double()).abs())


class RelativeError(PixelMean):
    """Mean of ``|p - t| / t``."""

    def update(self, output: Tensor, target: Tensor) -> None:  # type: ignore[override]
        """Count known pixels ``(M,)``."""
        super().update((output.double() - target.double()).abs() / target.double())


class RootMeanSquare(PixelMean):
    """Root of the mean of ``(p - t)^2`` over all pixels, not of each image by itself."""

    def __init__(self) -> None:
        super().__init__(root=True)

    def update(self, output: Tensor, target: Tensor) -> None:  # type: ignore[override]
        """Count known pixels ``(M,)``."""
        super().update((output.double() - target.double()) ** 2)


class CloseShare(PixelMean):
    """Share of the pixels whose depth is off by a factor below 1.25."""

    higher_is_better = True

    def update(self, output: Tensor, target: Tensor) -> None:  # type: ignore[override]
        """Count known pixels ``(M,)``; a depth of 0 or less is never close."""
        ratio = output.clamp(min=_SMALLEST) / target
        super().update((torch.maximum(ratio, 1 / ratio) < _CLOSE).double())
