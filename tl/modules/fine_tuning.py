"""Apply a strategy: which parts of a network train, and in which mode the others are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tl.backbones.streams import StreamsBackbone
from tl.counting import counted
from tl.transfer.freezing import HEAD, Strategy
from tl.transfer.running_statistics import running_statistics, statistics_drift
from tl.transfer.stage_modes import set_modes, set_requires_grad
from tl.transfer.table import strategy_table

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule


class FineTuning:
    """Freezes and unfreezes the stages of a network according to its strategy.

    The strategy is asked at the start of each epoch and after a resume; before each step, modules
    are put back into its modes. Parameters of the backbone that require no gradient when the module
    is built never train, such as weights beside LoRA adapters. On one process, frozen parameters
    require no gradient. DDP only handles parameters that required gradients when it was set up:
    those that are unfrozen later require gradients from the start, which are dropped before each
    step until then. Either way, frozen parameters are never updated.

    Args:
        backbone: The network as it was built.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self._untrained = [p for p in backbone.parameters() if not p.requires_grad]
        self._modes: list[tuple[nn.Module, bool]] = []
        self._frozen: dict[int, nn.Parameter] = {}
        self._fixed: list[nn.Parameter] = []
        self._left: list[nn.Parameter] = []  # that the strategy never trains
        self._hooks: list[RemovableHandle] = []
        self._statistics: dict[str, Tensor] = {}
        self._thawed: Sequence[int] = ()  # epochs at which a run that resumes unfreezes stages

    def thaw(self) -> None:
        """Unfreeze everything that a strategy had frozen."""
        untrained = {id(parameter) for parameter in self._untrained}
        for number, parameter in self._frozen.items():
            parameter.requires_grad_(number not in untrained)
        self._frozen, self._modes = {}, []

    def trains(self, parameter: nn.Parameter) -> bool:
        """Return whether the optimizer updates a parameter in this epoch."""
        return parameter.requires_grad and id(parameter) not in self._frozen

    # Before the run

    def setup(self, module: SharedBackboneModule) -> None:
        """Fix, before DDP is set up, which parameters require gradients throughout the run."""
        self._statistics = {}  # of the start of this run, or of the checkpoint to be loaded
        self._fixed, self._left = [], []
        if module.strategy is not None:
            self._left = module.strategy.left_out(module.stages())
        if module.strategy is None or module.trainer.world_size == 1:
            return
        stages = module.stages()
        firsts = module.strategy.first_epochs(list(stages))
        set_requires_grad(stages, [s for s, e in firsts.items() if e is not None], self._untrained)
        for parameter in self._left:
            parameter.requires_grad_(False)
        self._fixed = [p for modules in stages.values() for m in modules for p in m.parameters()]

    def begin_strategy(
        self, module: SharedBackboneModule, count_epochs: Callable[[], int | None]
    ) -> None:
        """Pass the number of epochs of the run to the strategy.

        Args:
            module: The module.
            count_epochs: Counts them, which may load data; returns ``None`` without a limit.
        """
        strategy, trainer = module.strategy, module.run
        if strategy is None or trainer is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        before, self._thawed = self._thawed, ()
        if strategy.changes(list(module.stages())):
            strategy.begin(count_epochs(), before)

    # While it trains

    def begin(self, module: SharedBackboneModule, *, new_heads: bool) -> None:
        """Freeze what does not train yet, and log what trains when.

        Args:
            module: The module.
            new_heads: Whether the heads are random.
        """
        if not self._statistics:
            self._statistics = running_statistics(module.backbone)
        self.end()
        if module.strategy is None:
            return
        self._hooks = module.strategy.hooks(module.backbone)
        self.begin_epoch(module)
        if module.trainer.ckpt_path is None:
            _warn_of_never(module, module.strategy, new_heads=new_heads)
        rank_zero_info(f"tl: {self.table(module)}")

    def end(self) -> None:
        """Leave the backbone's forward pass as it was before the run."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def begin_epoch(self, module: SharedBackboneModule) -> None:
        """Freeze and unfreeze stages for this epoch."""
        if module.strategy is None:
            return
        stages = module.stages()
        trainable = module.strategy.trainable(module.current_epoch, list(stages))
        frozen = set_requires_grad(stages, trainable, [*self._fixed, *self._untrained])
        for parameter in self._left:
            parameter.requires_grad_(False)
            parameter.grad = None
        frozen += self._left
        self._frozen = {id(parameter): parameter for parameter in [*frozen, *self._untrained]}
        set_modes(module.backbone, stages, trainable, module.strategy.bn)
        both = (*module.backbone.modules(), *module.heads.modules())
        self._modes = [(part, part.training) for part in both]

    def begin_step(self) -> None:
        """Put modules back into their modes, which an evaluation may have changed."""
        for module, training in self._modes:
            if module.training is not training:
                module.training = training

    def drop_gradients(self) -> None:
        """Drop the gradients of frozen parameters, before gradients are clipped."""
        for parameter in self._frozen.values():
            parameter.grad = None

    def values(self, module: SharedBackboneModule) -> dict[str, float | Tensor]:
        """Return the number of trainable parameters, and the drift of running statistics."""
        if module.strategy is None:
            return {}
        frozen = sum(p.numel() for p in self._frozen.values())
        both = (*module.backbone.parameters(), *module.heads.parameters())
        values: dict[str, float | Tensor] = {
            "transfer/trainable_parameters": float(sum(p.numel() for p in both) - frozen)
        }
        if self._statistics:
            values["transfer/bn_drift"] = statistics_drift(module.backbone, self._statistics)
        return values

    def table(self, module: SharedBackboneModule) -> str:
        """Return what trains when, a row per optimizer group; empty without a strategy."""
        if module.strategy is None:
            return ""
        groups = module.trainer.optimizers[0].param_groups
        return strategy_table(
            module.strategy, groups, module.stages(), [*self._untrained, *self._left]
        )

    # Checkpoints

    def record(self, module: SharedBackboneModule) -> dict[str, Any]:
        """Return what a checkpoint stores: initial statistics, and epochs of unfreezing."""
        strategy = module.strategy
        thaws: dict[str, list[int]] = {}
        if strategy is not None:
            thaws[type(strategy).__name__] = strategy.changes(list(module.stages()))
        return {
            "statistics": self._statistics if strategy is not None else {},
            "thaws": thaws,
        }

    def resume(self, module: SharedBackboneModule, record: Mapping[str, Any]) -> None:
        """Restore what :meth:`record` returned; the epochs only for the same strategy."""
        self._statistics = dict(record.get("statistics", {}))
        if module.run is not None:
            self._thawed = record.get("thaws", {}).get(type(module.strategy).__name__, ())


def lr_scales(module: SharedBackboneModule) -> dict[str, float]:
    """Return the strategy's fractions of the learning rate by stage, times the backbone's own."""
    stages = list(module.stages())
    own = module.backbone.lr_scales() if isinstance(module.backbone, StreamsBackbone) else {}
    if module.strategy is None:
        return {**dict.fromkeys(stages, 1.0), **own} if own else {}
    scales = module.strategy.lr_scales(stages)
    return {stage: scale * own.get(stage, 1.0) for stage, scale in scales.items()}


def _warn_of_never(module: SharedBackboneModule, strategy: Strategy, *, new_heads: bool) -> None:
    epochs = module.trainer.max_epochs
    firsts = strategy.first_epochs(list(module.stages()))
    late = [s for s, e in firsts.items() if e is not None and epochs and 0 < epochs <= e]
    if late:
        rank_zero_warn(
            f"{type(strategy).__name__} unfreezes {', '.join(late)} after the end of this run of "
            f"{counted(epochs or 0, 'epoch')}: they never train. Increase `max_epochs`, or "
            "unfreeze earlier."
        )
    if new_heads and firsts[HEAD] is None:
        rank_zero_warn(
            f"{type(strategy).__name__} never trains the heads, which are new: they stay random. "
            "Add `head` to its stages, or load the source's with `init_heads`."
        )
