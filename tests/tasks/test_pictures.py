"""What pictures of all kinds of tasks share."""

from __future__ import annotations

import torch

from tl.tasks.pictures import View, Worst


def test_samples_of_other_shapes_than_the_worst_one_are_left_out() -> None:
    worst = Worst(4)
    for size, badness in ((2, 1.0), (3, 2.0)):
        worst.add(torch.zeros(1, 3, size, size), torch.tensor([badness]), *[torch.zeros(1)] * 2)
    worst.add(None, torch.ones(1), *[torch.zeros(1)] * 2)
    worst.add(torch.zeros(1, 7), torch.ones(1), *[torch.zeros(1)] * 2)
    assert len(worst.kept) == 2
    figure = worst.figures(View("title"), lambda *_: "caption")["mistakes"]
    assert len(figure.axes) == 1
