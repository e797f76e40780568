from __future__ import annotations

from pathlib import Path

from tests.processes import run_two_processes
from tests.small import module, tiny_data, trainer
from tl.callbacks import SameCheckpoint

SCRIPT = """
import torch
from pathlib import Path
from tests.small import module, tiny_data, trainer
from tl.callbacks import SameCheckpoint

for number, second in enumerate(("a.ckpt", None)):
    run = trainer(Path("."), devices=2, strategy="ddp", max_epochs=1)
    run.callbacks.append(SameCheckpoint(["a.ckpt", second][run.global_rank]))
    data = tiny_data()
    try:
        run.fit(module(data), data)
        said = "trained"
    except ValueError as error:
        said = str(error)
    Path(f"{number}-{run.global_rank}.txt").write_text(said)
torch.distributed.destroy_process_group()
"""


def test_alone_there_is_nothing_to_agree_on(tmp_path: Path) -> None:
    data = tiny_data()
    trainer(tmp_path, max_epochs=1, callbacks=[SameCheckpoint("a.ckpt")]).fit(module(data), data)


def test_processes_that_agree_train_and_all_stop_where_one_differs(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(SCRIPT)
    run_two_processes(["run.py"], tmp_path)
    for rank in (0, 1):
        assert (tmp_path / f"0-{rank}.txt").read_text() == "trained"
        said = (tmp_path / f"1-{rank}.txt").read_text()
        assert "found different checkpoints" in said
        assert f"the first one a.ckpt, this one {['a.ckpt', None][rank]}" in said
