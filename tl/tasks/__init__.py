"""What is learned from the inputs: head, loss, scores and answers of each kind of task."""

from tl.tasks.base import Task, as_task, deciding_score
from tl.tasks.classification import Classification
from tl.tasks.masked_tokens import MaskedTokens
from tl.tasks.regression import Regression

__all__ = ["Classification", "MaskedTokens", "Regression", "Task", "as_task", "deciding_score"]
