from __future__ import annotations

from pathlib import Path

import torch

from tests.small import module, tiny_data, trainer


def test_the_sums_are_those_of_the_batches_since_the_last_log(tmp_path: Path) -> None:
    data = tiny_data()
    built, run = module(data), trainer(tmp_path, max_epochs=1, limit_train_batches=1)
    run.fit(built, data)
    [name] = built.tasks
    log = built.training_log
    assert not log.state(built)[name].any()  # the end of the epoch was logged
    output, target = torch.eye(10)[:4], torch.tensor([0, 1, 2, 4])
    log.add({name: torch.tensor(2.0)}, {name: (output, target)})
    assert log.state(built)[name].tolist() == [8.0, 3.0, 4.0]  # loss, right answers, samples
    assert log.not_finite(built) == []
    log.add({name: torch.tensor(torch.nan)}, {name: (output, target)})
    assert log.not_finite(built) == [name]
    log.drop([name])
    assert not log.state(built)[name].any()
