"""Adaptation at test time: AdaBN and Tent, on a copy of the network for each source."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from itertools import islice
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import CombinedLoader, rank_zero_info
from torch import Tensor, nn

from tl.batch import Inputs, on_each
from tl.callbacks.surroundings import data_by_source
from tl.data.progress import progress
from tl.data.run_loaders import RunLoaders
from tl.modules.base import SharedBackboneModule
from tl.modules.batch import by_source
from tl.modules.batch_norm import source_statistics
from tl.modules.features import FeatureReader, Features
from tl.tasks import Classification, Task
from tl.transfer.adaptation.ada_bn import adapt_statistics, need_batch_norm
from tl.transfer.adaptation.tent import TentNetwork, mean_entropy

Found = dict[str | None, Features]
_LONG = 10  # batches whose reading shows a bar


class TestTimeAdaptation(Callback):
    """Answer ``test`` with networks that adapt to its inputs; labels are only compared.

    Each source of the test has a copy of the backbone of its own, which is made when the test
    starts and dropped when it ends: the model keeps its weights, and every test, so every shift of
    ``--shifts``, starts from them. The data modules of :mod:`tl.data` give test samples in a random
    order that is always the same: in the order of folders a batch would hold a single class. Batch
    norm within heads, such as decoders, does not adapt.
    """

    __test__ = False  # for pytest
    reads_in_random_order = True

    def __init__(self) -> None:
        self._reader: FeatureReader | None = None

    @property
    def adaptation(self) -> dict[str, Any]:
        """Name and settings, as results record them."""
        return {"name": type(self).__name__}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put adapting copies in the place of the backbone.

        Raises:
            ValueError: If there are several processes, or the module is not one of tl.modules.
        """
        name = type(self).__name__
        if trainer.world_size > 1:
            raise ValueError(
                f"{name} adapts in one process, and the Trainer has {trainer.world_size}; set "
                "--trainer.devices=1."
            )
        if not isinstance(pl_module, SharedBackboneModule):
            raise ValueError(  # noqa: TRY004 - a setting of the run
                f"{name} adapts modules of tl.modules, got a {type(pl_module).__name__}."
            )
        if "features" in vars(pl_module):
            raise ValueError("Give one of AdaBN and Tent, not several: both replace the network.")
        sources = data_by_source(pl_module.datamodule).values()
        others = (each for each in sources if not isinstance(each, RunLoaders))
        if foreign := ["the loader" if each is None else type(each).__name__ for each in others]:
            rank_zero_info(
                f"tl: {name}: test samples come in the order of {foreign[0]}, not in a random one; "
                "batches of few classes would mislead it."
            )
        self._reader = FeatureReader(pl_module.tasks.values())  # not compiled for the original
        self.begin(trainer, pl_module)

        def features(images: Mapping[str | None, Inputs]) -> Found:
            return {s: self.features_of(pl_module, s, inputs) for s, inputs in images.items()}

        # on the instance: the class's own method comes back when this is removed
        vars(pl_module)["features"] = features

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse ``validate``, which would not adapt; validation within ``fit`` passes.

        Raises:
            ValueError: If it is not within ``fit``.
        """
        del pl_module
        self._only_test(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse ``predict``, which would not adapt.

        Raises:
            ValueError: Always.
        """
        del pl_module
        self._only_test(trainer)

    def _only_test(self, trainer: Trainer) -> None:
        if (verb := trainer.state.fn) in (TrainerFn.VALIDATING, TrainerFn.PREDICTING):
            raise ValueError(
                f"{type(self).__name__} adapts in `test` only, and this is `{verb.value}`; leave "
                "it out of the callbacks."
            )

    def on_test_end(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException | None = None
    ) -> None:
        """Take the copies away, also after an error."""
        if self._reader is not None:
            vars(pl_module).pop("features", None)
            self._reader = None
            self.forget()

    on_exception = on_test_end

    @abstractmethod
    def begin(self, trainer: Trainer, module: SharedBackboneModule) -> None:
        """Prepare a test."""

    @abstractmethod
    def features_of(
        self, module: SharedBackboneModule, source: str | None, inputs: Inputs
    ) -> Features:
        """Return the adapted features of a batch of a source."""

    @abstractmethod
    def forget(self) -> None:
        """Drop what adapted to the test."""

    def read(self, network: nn.Module, source: str | None, inputs: Inputs) -> Features:
        """Return the features that a copy of the backbone gives."""
        if self._reader is None:
            raise RuntimeError("Features are adapted during `test` only.")
        with nullcontext() if source is None else source_statistics(network, source):
            return self._reader(network, inputs, source)


class AdaBN(TestTimeAdaptation):
    """Test with batch-norm statistics of the test inputs (Li et al., 2017, arXiv:1603.04779).

    Before a test, the statistics of each source are collected from all its inputs; see
    :func:`tl.transfer.adaptation.ada_bn.adapt_statistics`. It reads the test set twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self._networks: dict[str | None, nn.Module] = {}

    def begin(self, trainer: Trainer, module: SharedBackboneModule) -> None:
        """Collect the statistics of each source.

        Raises:
            ValueError: If the data are not a data module, or there is no batch norm.
        """
        data = module.datamodule
        if data is None:
            raise ValueError(
                "AdaBN reads the inputs before the test; give them as a data module, not as a "
                "loader."
            )
        rank_zero_info("tl: AdaBN reads the test inputs for their statistics, then to answer.")
        count = max(int(batches) for batches in trainer.num_test_batches)
        shown = trainer.progress_bar_callback is not None

        def inputs_of(source: str | None) -> Iterator[Inputs]:
            loader = data.test_dataloader()
            said = "Statistics" if source is None else f"Statistics of {source}"
            least = _LONG if shown else count + 1
            for item in progress(islice(loader, count), count, said, least):
                batch = item[0] if isinstance(loader, CombinedLoader) else item
                batch = data.transfer_batch_to_device(batch, module.device, 0)
                parts = by_source(data.on_after_batch_transfer(batch, 0))
                if source in parts:
                    yield parts[source][0]

        with torch.inference_mode(mode=False), torch.no_grad():
            for source in data_by_source(data):
                network = copy.deepcopy(module.backbone)
                forward = partial(self.read, network, source)
                with trainer.precision_plugin.forward_context():
                    adapt_statistics(network, inputs_of(source), forward)
                self._networks[source] = network.eval()

    def features_of(
        self, module: SharedBackboneModule, source: str | None, inputs: Inputs
    ) -> Features:
        """Return the features under the source's own statistics."""
        return self.read(self._networks[source], source, inputs)

    def forget(self) -> None:
        """Drop the copies."""
        self._networks = {}


class Tent(TestTimeAdaptation):
    """Lower the entropy of predictions on the test inputs (Wang et al., 2021, arXiv:2006.10726).

    One step of Adam on batch norm's scales and shifts after each batch; answers are those from
    before the step. See :class:`tl.transfer.adaptation.tent.TentNetwork`. A batch needs enough
    images for statistics: set `eval_batch_size` to the paper's 200.

    Args:
        lr: Learning rate, above 0; the paper's for CIFAR-10-C.

    Raises:
        ValueError: If it is not; at the start of a test, without batch norm or classification.
    """

    def __init__(self, lr: float = 1e-3) -> None:
        super().__init__()
        if not 0 < lr < math.inf:
            raise ValueError(f"`lr` must be above 0 and finite, got {lr}.")
        self.lr = lr
        self._networks: dict[str | None, TentNetwork] = {}

    @property
    def adaptation(self) -> dict[str, Any]:
        """Name and settings, as results record them."""
        return {**super().adaptation, "lr": self.lr}

    def begin(self, trainer: Trainer, module: SharedBackboneModule) -> None:
        """Refuse tasks without classes, and networks without batch norm."""
        if not any(map(_has_entropy, module.tasks.values())):
            raise ValueError(
                "Tent lowers the entropy of a classification with one class per sample; none of "
                f"{', '.join(module.tasks)} is one."
            )
        need_batch_norm("Tent", module.backbone)

    def features_of(
        self, module: SharedBackboneModule, source: str | None, inputs: Inputs
    ) -> Features:
        """Return the features of a batch, and take a step on it."""
        with torch.inference_mode(mode=False):
            if source not in self._networks:
                self._networks[source] = TentNetwork(copy.deepcopy(module.backbone), self.lr)
            inputs = on_each(lambda part: part.clone(), inputs)  # not made for inference alone
        tasks = [
            name
            for name, task in module.tasks.items()
            if _has_entropy(task) and (source is None or task.source in (None, source))
        ]

        def entropy(features: Features) -> Tensor:
            answers = (module.output(name, features).float() for name in tasks)
            return torch.stack([mean_entropy(each) for each in answers]).sum()

        adapting = self._networks[source]
        if not tasks:
            return self.read(adapting.network, source, inputs)
        return adapting.answer(lambda net: self.read(net, source, inputs), entropy)

    def forget(self) -> None:
        """Drop the copies and their optimizers."""
        self._networks = {}


def _has_entropy(task: Task) -> bool:
    return isinstance(task, Classification) and not task.multi_label
