"""What is learned from the inputs: head, loss, scores and answers of each kind of task."""

from tl.tasks.base import Task, as_task, deciding_score
from tl.tasks.binary_map import BinaryMap
from tl.tasks.classification import Classification
from tl.tasks.depth import Depth
from tl.tasks.normals import Normals
from tl.tasks.regression import Regression
from tl.tasks.segmentation import Segmentation

__all__ = [
    "BinaryMap",
    "Classification",
    "Depth",
    "Normals",
    "Regression",
    "Segmentation",
    "Task",
    "as_task",
    "deciding_score",
]
