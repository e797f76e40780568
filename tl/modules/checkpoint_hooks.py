"""What checkpoints hold of a module, and how one is built from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tl.checkpoints.files import local_file, read_checkpoint
from tl.modules.base import SharedBackboneModule
from tl.modules.hyperparameters import plain_hyperparameters, tell_left_out
from tl.modules.source_start import weights_follow
from tl.private.torch import drop_functions


class CheckpointHooks(SharedBackboneModule):
    """Write what the weights are into each checkpoint, and restore it."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record under ``tl``, in plain types, what the weights are; refuse non-finite ones."""
        self.guard.check_weights(self, checkpoint.get("state_dict", {}))
        drop_functions(checkpoint)
        if (hparams := checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY)) is not None:
            plain = plain_hyperparameters(hparams)
            tell_left_out(type(self), [key for key in hparams if key not in plain])
            checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = plain
        checkpoint["tl"] = self.run_record.write(
            self,
            window=self.training_log.state(self),
            begun=self.source.begun,
            provenance=self.source.provenance,
            skipped_steps=self.guard.skipped,
            skipped_in_a_row=self.guard.in_a_row,
            seed=self.run_seed,
            **self.fine_tuning.record(self),
        )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the provenance and, if the run resumes, its progress.

        Raises:
            ValueError: If the checkpoint has other tasks.
        """
        record = self.run_record.read(self, checkpoint)
        if self._trainer is not None and self.trainer.state.fn != "fit":
            self.source.keep(self, record.get("provenance"))
            return
        self.run_record.resume(self, checkpoint)
        self.source.resume(record)
        if self._trainer is not None:
            self.run_seed = record.get("seed", 0)
        self.guard.resume(record.get("skipped_steps", 0), record.get("skipped_in_a_row", 0))
        self.training_log.load(self, record["window"])
        self.fine_tuning.resume(self, record)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as torch's own
        """Load weights, which replace the source's."""
        found = super().load_state_dict(state_dict, *args, **kwargs)
        self.source.replaced()
        return found

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's is a descriptor of its own
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,  # noqa: ANN401 - Lightning's signature
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,  # noqa: ANN401 - arguments of the constructor, as there
    ) -> Self:
        """Build a module from a checkpoint that is verified first; no code from it is executed.

        Lightning's own executes code from a URL, and from any file if
        ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD`` is set.

        Args:
            checkpoint_path: The checkpoint, or its URL.
            map_location: As in Lightning.
            hparams_file: As in Lightning.
            strict: As in Lightning.
            weights_only: Ignored: always true.
            **kwargs: As in Lightning.

        Raises:
            CheckpointError: If it is missing, damaged or unsafe.
        """
        del weights_only
        path = local_file(checkpoint_path)
        read_checkpoint(path)
        with weights_follow():
            loaded: Self = super().load_from_checkpoint(
                path, map_location, hparams_file, strict, weights_only=True, **kwargs
            )
        return loaded
