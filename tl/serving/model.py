"""A trained network with all that it needs to answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from tl.batch import Inputs, on_each
from tl.modules.base import SharedBackboneModule
from tl.modules.batch_norm import source_statistics
from tl.serving.answers import Answer, Prediction
from tl.serving.evaluating import evaluate
from tl.serving.labelled import labelled_data
from tl.serving.readers import Reader
from tl.serving.reading import batches_of, read_each, warn_of_unread
from tl.serving.scores import Evaluation


class Model:
    """A trained network that answers about files, images, arrays and texts.

    :func:`tl.load` makes one. It is in evaluation mode, and never trains.

    Args:
        module: The module with its weights.
        readers: What reads samples, by source; the key is ``None`` where there is one source.
        class_names: Class names by task.
        path: The checkpoint.
        metrics: What the checkpoint's run measured when it was saved.
        device: Where it computes.
        record: What the checkpoint says of its training data.

    Attributes:
        module: The LightningModule, for everything else.
    """

    def __init__(
        self,
        module: SharedBackboneModule,
        readers: Mapping[str | None, Reader],
        class_names: Mapping[str, Sequence[str]],
        path: Path,
        metrics: Mapping[str, float],
        device: torch.device,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        self.module = module.eval().requires_grad_(requires_grad=False).to(device)
        self.path, self.metrics, self.device = path, dict(metrics), device
        self._readers = dict(readers)
        self._record = record or {}
        self._names = {name: list(names) for name, names in class_names.items()}

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that it answers."""
        return [*self.module.tasks]

    @property
    def class_names(self) -> Any:  # noqa: ANN401 - by the number of tasks
        """Class names: a list for a single task, otherwise a dict of them by task."""
        if len(self.module.tasks) == 1:
            return self._names.get(self.tasks[0], [])
        return {name: self._names.get(name, []) for name in self.module.tasks}

    def transform(self, sample: object, source: str | None = None) -> Inputs:
        """Return a sample, or a list of them, as the inputs that the network takes.

        Args:
            sample: As for :meth:`predict`.
            source: The source it is read as, where several read differently.
        """
        reader = self.reader(source)
        return reader.join([reader.read(each) for each in reader.spread(sample)[0]])

    def predict(self, given: object, *, source: str | None = None, batch_size: int = 256) -> Any:  # noqa: ANN401 - one, or a list
        """Answer about a sample, or about each of several.

        A sample that cannot be read among several is named in a warning and in its own
        ``error``; the others are answered.

        Args:
            given: Images: a path, a folder, a PIL image, an array ``(H, W, 3)``, a tensor
                ``(3, H, W)``, a batch of these, or a list. Texts: a text, a pair as a tuple, a
                list, or a ``pathlib.Path`` of a file. Tensors in the shapes of training.
            source: The source it is read as; then only its tasks answer. By default all answer,
                each reading the sample as its own source was read, if all are of one modality.
            batch_size: Samples in one pass.

        Returns:
            A :class:`~tl.serving.answers.Prediction`, or a list of them for several samples.

        Raises:
            ValueError: If no sample can be read.
        """
        names = [source]
        if source is None and self.each_can_read:
            read = {task.source for task in self.module.tasks.values()}
            names = [name for name in self.sources if name in read] or [None]
        parts = [self._predict(given, name, batch_size) for name in names]
        found: list[Prediction] = []
        for same in zip(*(answers for answers, _ in parts), strict=True):
            error = next((each.error for each in same if each.error is not None), None)
            answers = {k: v for each in same for k, v in each.items()} if error is None else {}
            found.append(Prediction(answers, same[0].sample, error))
        warn_of_unread([each.error for each in found])
        return found[0] if parts[0][1] else found

    def _predict(
        self, given: object, source: str | None, batch_size: int
    ) -> tuple[list[Prediction], bool]:
        """Answer what one source's tasks, or all, ask; return also whether it is one sample."""
        reader = self.reader(source)
        samples, single = reader.spread(given)
        found: list[Prediction] = []
        for part in batches_of(samples, batch_size):
            read, errors = read_each(reader, part, single=single)
            answers = iter(self._answers(reader.join(read), source) if read else ())
            for sample, error in zip(part, errors, strict=True):
                if error is None:
                    found.append(Prediction(next(answers), sample))
                else:
                    found.append(Prediction({}, sample, error))
        return found, single

    def embed(self, given: object, *, source: str | None = None, batch_size: int = 256) -> Tensor:
        """Return features of the backbone, ``(N, num_features)``, or ``(num_features,)`` of one.

        A sample that cannot be read among several is named in a warning, and its row is NaN.

        Args:
            given: As for :meth:`predict`.
            source: The source it is read as, where several read differently.
            batch_size: Samples in one pass.

        Raises:
            ValueError: If no sample can be read.
        """
        reader = self.reader(source)
        samples, single = reader.spread(given)
        size: Any = self.module.backbone.num_features
        found = [torch.empty(0, size)]
        reasons: list[str | None] = []
        for part in batches_of(samples, batch_size):
            read, errors = read_each(reader, part, single=single)
            rows = torch.full((len(part), size), torch.nan)
            if read:
                known = torch.tensor([error is None for error in errors])
                rows[known] = self._features(reader.join(read), source)
            found.append(rows)
            reasons += errors
        warn_of_unread(reasons)
        every = torch.cat(found)
        return every[0] if single else every

    def evaluate(
        self,
        data: LightningDataModule | str | Path,
        *,
        source: str | None = None,
        batch_size: int = 256,
    ) -> Evaluation:
        """Return scores on labelled data, read as in training and matched by class name.

        Args:
            data: A folder of class folders, all of whose images count; a folder with ``test/``, or
                the folder that training split, of which the test images count; a table like that of
                training, likewise; or a data module, of which the test split counts. Images by
                path that cannot be read are named in a warning and left out.
            source: The source that the data stand for, where the model reads several.
            batch_size: Images in one pass, for a folder.

        Returns:
            Scores by task: ``accuracy``, ``f1``, ``scores``, ``per_class``, ``confusion``,
            ``most_confused()``; with a single task these are the evaluation's own.

        Raises:
            ValueError: If the data have other classes, or no sample to evaluate.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        reads = [task.source for task in self.module.tasks.values()]
        sources = list(dict.fromkeys(name for name in reads if name is not None))
        module = labelled_data(data, self._record, sources, source, batch_size)
        return evaluate(self.module, module, self._record, self._names, self.device)

    def _features(self, inputs: Inputs, source: str | None) -> Tensor:
        """Return the features of a batch, with a source's own statistics where there are some."""
        backbone = self.module.backbone
        with torch.inference_mode(), source_statistics(backbone, source or str(self.sources[0])):
            features: Tensor = backbone(on_each(lambda x: x.to(self.device), inputs))
        return features.float().cpu()

    def _answers(self, inputs: Inputs, source: str | None) -> Iterator[dict[str, Answer]]:
        """Answer a batch, sample by sample."""
        if len(self.sources) == 1:  # all tasks are its own, also where they do not name it
            source = self.sources[0] if self._own_statistics else None
        with torch.inference_mode():
            inputs = on_each(lambda x: x.to(self.device), inputs)
            outputs = self.module(inputs) if source is None else self.module(inputs, source)
            if isinstance(outputs, Tensor):
                outputs = {self.tasks[0]: outputs}
            if not outputs:
                raise ValueError(f"No task of the model reads the source {source!r}.")
            values = {
                name: self.module.tasks[name].answer(output.float()).cpu()
                for name, output in outputs.items()
            }
        for row in range(len(next(iter(values.values())))):
            yield {
                name: Answer(self.module.tasks[name], value[row], self._names.get(name))
                for name, value in values.items()
            }

    @property
    def sources(self) -> list[str | None]:
        """Names of the sources that it reads; ``None`` for one without a name."""
        return [*self._readers]

    def reader(self, source: str | None = None) -> Reader:
        """Return what reads the samples of a source.

        Args:
            source: The source, where several read differently.

        Raises:
            ValueError: If there is no such source, or several to choose from.
        """
        if source in self._readers:
            return self._readers[source]
        if source is None and self._alike:
            return next(iter(self._readers.values()))
        raise ValueError(
            f"The model reads the sources {', '.join(map(str, self._readers))}, each in its own "
            f"way; choose one by `source`{'' if source is None else f', not {source!r}'}."
        )

    @property
    def each_can_read(self) -> bool:
        """Whether sources that take the same samples read them differently: each answers then."""
        return not self._alike and len({r.form for r in self._readers.values()}) == 1

    @property
    def _alike(self) -> bool:
        """Whether one pass answers for all sources: they read alike, with the same statistics."""
        return len({r.way for r in self._readers.values()}) == 1 and (
            not self._own_statistics or len(self.sources) == 1
        )

    @property
    def _own_statistics(self) -> bool:
        """Whether batch norm normalises each source by its own statistics."""
        return getattr(self.module, "batch_norm", None) == "per_source_statistics"

    def __repr__(self) -> str:
        """Describe it in a few lines."""
        lines = [f"{type(self.module.backbone).__name__} of {self.path}"]
        for name, task in self.module.tasks.items():
            names = self._names.get(name) or []
            shown = f": {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}" if names else ""  # noqa: PLR2004
            lines.append(f"  {name}: {task.answers}{shown}")
        count = sum(p.numel() for p in self.module.parameters())
        lines.append(f"  {count:,} parameters on {self.device}")
        scores = [f"{name} {value:.4g}" for name, value in self.metrics.items() if "val/" in name]
        return "\n".join([*lines, *([f"  {', '.join(scores)}"] if scores else [])])
