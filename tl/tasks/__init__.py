"""What is learned from the inputs: head, loss, scores and answers of each kind of task."""

from tl.tasks.base import Direction, Task
from tl.tasks.binary_map import BinaryMap
from tl.tasks.classification import Classification
from tl.tasks.depth import Depth
from tl.tasks.kinds import as_task, deciding_score, score_directions
from tl.tasks.masked_tokens import MaskedTokens
from tl.tasks.normals import Normals
from tl.tasks.prototypes import Prototypes
from tl.tasks.regression import Regression
from tl.tasks.segmentation import Segmentation
from tl.tasks.sharing import by_name, owners, trained_tasks, with_relations
from tl.tasks.two_views import BYOL, BarlowTwins, NTXent, TwoViews, VICReg

__all__ = [
    "BYOL",
    "BarlowTwins",
    "BinaryMap",
    "Classification",
    "Depth",
    "Direction",
    "MaskedTokens",
    "NTXent",
    "Normals",
    "Prototypes",
    "Regression",
    "Segmentation",
    "Task",
    "TwoViews",
    "VICReg",
    "as_task",
    "by_name",
    "deciding_score",
    "owners",
    "score_directions",
    "trained_tasks",
    "with_relations",
]
