"""What checkpoints hold of a module beside its weights, and how a run continues from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl.modules.hyperparameters import plain_hyperparameters, tell_left_out
from tl.private.torch import drop_functions

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule


def complete(checkpoint: dict[str, Any], module: SharedBackboneModule) -> None:
    """Record under ``tl``, in plain types, what the weights are.

    Args:
        checkpoint: What Lightning has collected; changed in place.
        module: The module, with a Trainer.

    Raises:
        ValueError: If a weight or running statistic is not finite.
    """
    module.guard.check_weights(module, checkpoint.get("state_dict", {}))
    drop_functions(checkpoint)
    if (hparams := checkpoint.get(module.CHECKPOINT_HYPER_PARAMS_KEY)) is not None:
        plain = plain_hyperparameters(hparams)
        tell_left_out(type(module), {k: v for k, v in hparams.items() if k not in plain})
        checkpoint[module.CHECKPOINT_HYPER_PARAMS_KEY] = plain
    checkpoint["tl"] = module.run_record.write(
        module,
        window=module.training_log.state(module),
        begun=module.source.begun,
        provenance=module.source.provenance,
        skipped_steps=module.guard.skipped,
        skipped_in_a_row=module.guard.in_a_row,
        seed=module.run_seed,
        **module.fine_tuning.record(module),
    )


def restore(module: SharedBackboneModule, checkpoint: dict[str, Any]) -> None:
    """Restore the provenance and, if the run resumes, its progress.

    Args:
        module: The module; changed in place.
        checkpoint: The checkpoint.

    Raises:
        ValueError: If the checkpoint has other tasks.
    """
    record = module.run_record.read(module, checkpoint)
    if module.run is not None and module.run.state.fn != "fit":
        module.source.keep(module, record.get("provenance"))
        return
    module.run_record.resume(module, checkpoint)
    module.source.resume(record)
    if module.run is not None:
        module.run_seed = record.get("seed", 0)
    module.guard.resume(record.get("skipped_steps", 0), record.get("skipped_in_a_row", 0))
    module.training_log.load(module, record["window"])
    module.fine_tuning.resume(module, record)
