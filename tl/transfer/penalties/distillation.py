"""Knowledge distillation: learn from a teacher's soft predictions."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from tl.batch import at_least_float32
from tl.checkpoints.files import listed
from tl.counting import counted
from tl.data.naming import composed_names
from tl.data.trained_on import regrouped
from tl.transfer.network import SourceNetwork
from tl.transfer.penalties.base import (
    Penalty,
    Start,
    Step,
    nothing,
    only_classification,
    only_task,
)
from tl.transfer.source import read_head


def soft_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return ``KL(softmax(teacher / T) || softmax(student / T))``, averaged over the batch.

    Its gradient is that of the cross-entropy with soft targets, and it is 0 if both agree.

    Args:
        student: Logits ``(N, C)``.
        teacher: Logits ``(N, C)``; no gradient flows to them.
        temperature: ``T``, above 0; the higher, the softer.
    """
    target = functional.log_softmax(teacher.detach() / temperature, dim=1)
    answer = functional.log_softmax(student / temperature, dim=1)
    return functional.kl_div(answer, target, reduction="batchmean", log_target=True)


class Distillation(Penalty):
    """Pull predictions toward those of a trained network with the same classes.

    ``weight * T^2 * KL(softmax(teacher / T) || softmax(student / T))`` (Hinton et al., 2015,
    arXiv:1503.02531, section 2): the gradients of soft targets shrink as ``1 / T^2``, and ``T^2``
    keeps their weight relative to the ordinary loss when ``T`` changes.

    Args:
        teacher: Checkpoint of the teacher, from this framework; by default the run's `init_from`.
        backbone: Architecture of the teacher, such as a larger one; by default the run's.
        temperature: ``T``, above 0. The paper gives no universal value: 20 on MNIST, or 2.5 to 4
            for a very small student (section 3). The default is that of Tian et al., 2020
            (HobbitLong/RepDistiller, ``kd_T``), on CIFAR-100.
        weight: Weight relative to the ordinary loss, 0 or more. The default is ours: the paper
            states no number for images, only that the ordinary loss should weigh much less (section
            2), which a larger value achieves.
        task: Task to distil, if there are several; also the teacher's head, if it has several.

    Raises:
        ValueError: If a number is out of range; at the run's start, if there is no teacher, or its
            classes differ in number or, where known, in name.
    """

    def __init__(
        self,
        teacher: str | None = None,
        backbone: nn.Module | None = None,
        temperature: float = 4.0,
        weight: float = 1.0,
        task: str | None = None,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"`temperature` must be positive, got {temperature}.")
        if weight < 0:
            raise ValueError(f"`weight` must be 0 or more, got {weight}.")
        self.teacher = teacher
        self.temperature = temperature
        self.weight = weight
        self.task = task
        self.network = SourceNetwork(backbone) if backbone is not None else None

    def attach(self, backbone: nn.Module, heads: nn.Module) -> None:
        """Allocate the teacher."""
        if self.network is None:
            self.network = SourceNetwork(backbone)

    def prepare(self, start: Start) -> None:
        """Load the teacher."""
        task = only_classification(self, self.task, start)
        path = self.teacher or start.init_from
        if path is None:
            raise ValueError(
                "Distillation needs a teacher, but this run has none; give its checkpoint with "
                "`teacher`."
            )
        head = read_head(path, task, only=True)
        names, wanted = head.class_names, composed_names(start.class_names.get(task, ()))
        differs = ""
        if len(head.weight) != start.classes[task]:
            differs = f"has {len(head.weight)} classes, the task {task!r} {start.classes[task]}"
        elif names and wanted and names != wanted:
            differs = f"knows {listed(names, 3)}, the task {task!r} is {listed(wanted, 3)}"
        elif moved := regrouped(head.groups, start.groups.get(task, {}), "in the data"):
            differs = (
                f"groups {counted(len(moved), 'class', 'classes')} differently ({listed(moved, 3)})"
            )
        if differs:
            raise ValueError(
                f"The teacher {path} {differs}; a teacher must have the same classes. To preserve "
                "a source with other classes, use LwF."
            )
        if self.network is not None:
            self.network.load(path, head.task, start.rename if self.teacher is None else None)

    def forward(self, step: Step) -> Tensor:
        """Return the term; 0 for a batch without images of the task."""
        task = only_task(self, self.task, step.heads.keys())
        if task not in step.logits or self.network is None:
            return nothing(step)
        teacher = self.network(step.images[step.sources[task]])
        student = at_least_float32(step.logits[task])
        divergence = soft_divergence(student, teacher, self.temperature)
        return self.weight * self.temperature**2 * divergence
