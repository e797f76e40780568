"""Pictures of what the tasks of an MTAN attend to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn import functional

from tl.backbones.mtan import MTAN
from tl.callbacks.board import image_grid, statistics_of
from tl.modules.base import SharedBackboneModule
from tl.modules.batch import by_source
from tl.modules.batch_norm import source_statistics
from tl.modules.picture_log import log_image, takers
from tl.tasks.figures import display_images, drawable_part

_IMAGES = 4  # dimensions of a batch of them
_SHOWN = 4  # images whose attention is shown


def attention_grid(shown: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """Lay out a row for each image: the image, then each stage's mask.

    A mask is shown as its mean over channels, black for 0 and white for 1.

    Args:
        shown: Images ``(N, 3, H, W)`` in [0, 1].
        masks: ``(N, C_s, H_s, W_s)`` in [0, 1] of each stage.

    Returns:
        One picture ``(3, H', W')``.
    """
    columns = [shown]
    for mask in masks:
        grey = mask.detach().float().cpu().mean(1, keepdim=True)
        columns.append(functional.interpolate(grey, shown.shape[2:]).expand_as(shown))
    return image_grid(torch.stack(columns, 1).flatten(0, 1), len(columns))


@torch.no_grad()
def attention_masks(
    module: SharedBackboneModule, images: Tensor, source: str | None
) -> dict[str, list[Tensor]]:
    """Return the masks of each stage by task, for the tasks that read some images.

    Args:
        module: A module around an MTAN, in evaluation mode; any other has no masks.
        images: ``(N, C, H, W)``, as the network reads them.
        source: Where they come from.
    """
    backbone = module.backbone
    if not isinstance(backbone, MTAN):
        return {}
    tasks = [t for t in backbone.tasks if source is None or module.tasks[t].source == source]
    with source_statistics(backbone, source or ""):
        return backbone.masks(images, tasks)


def show_attention(trainer: Trainer, module: SharedBackboneModule, batch: Any) -> None:  # noqa: ANN401
    """Show what tasks attend to in the first images of a batch, where the backbone has that."""
    if not takers(trainer) or not isinstance(module.backbone, MTAN):
        return
    split = "test" if trainer.testing else "val"
    for source, (inputs, _) in by_source(batch).items():
        images = drawable_part(inputs)
        if images is None or images.ndim != _IMAGES:
            continue
        with trainer.precision_plugin.forward_context():
            masks = attention_masks(module, images[:_SHOWN], source)
        shown = display_images(images[:_SHOWN], statistics_of(trainer, source))
        for task, each in masks.items():
            picture = attention_grid(shown, each)
            log_image(trainer, f"{split}/attention/{task}", picture, trainer.global_step)
