from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_verbs import failure
from tests.small import module, tiny_data, trainer
from tl.cli import main


def test_checkpoints_are_averaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = []
    for number in range(2):
        data = tiny_data()
        run = trainer(tmp_path, max_epochs=1, limit_train_batches=1)
        run.fit(module(data), data)
        paths.append(str(tmp_path / f"{number}.ckpt"))
        run.save_checkpoint(paths[-1])
    out = tmp_path / "c.ckpt"
    main(["average", *paths, "--alpha=0.5", "--average-statistics", f"--out={out}"])
    assert "WiSE-FT, alpha 0.5" in capsys.readouterr().out
    assert out.exists()
    main(["lineage", str(out)])
    assert "ingredient, weight 0.5" in capsys.readouterr().out
    again = ("average", *paths, f"--out={out}")
    assert "already exists" in failure(capsys, *again)
    assert "are required: --out" in failure(capsys, "average", *paths)
    assert "not allowed with" in failure(capsys, *again, "--greedy", "--alpha=1")
    assert "invalid float value: 'half'" in failure(capsys, *again, "--alpha=half")
    more = ("fit", "--config=configs/source_cifar10.yaml", f"--ckpt_path={out}")
    assert "no training state" in failure(capsys, *more, f"--log_dir={tmp_path}")


def test_a_run_folder_stands_for_its_best_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders, data = [], tiny_data()
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=1)
    run.fit(module(data), data)
    for number in range(2):
        folders.append(tmp_path / f"run{number}" / "version_0")
        run.save_checkpoint(folders[-1] / "checkpoints" / "best.ckpt")
    out = tmp_path / "c.ckpt"
    given = ("--average-statistics", f"--out={out}")
    assert main(["average", str(folders[0]), str(folders[1].parent), *given]) == 0
    assert capsys.readouterr().out.count(str(Path("checkpoints") / "best.ckpt")) == 2
    (tmp_path / "empty").mkdir()
    empty = str(tmp_path / "empty")
    assert "is a folder without runs" in failure(capsys, "average", empty, empty, *given)


def test_options_that_would_be_ignored_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ("average", "a.ckpt", "b.ckpt", f"--out={tmp_path / 'c.ckpt'}")
    merged = (*plain, "--method=task-arithmetic")
    for option in ("--average-statistics", "--backbone-only"):
        said = failure(capsys, *merged, option)
        assert f"{option} does not go with --method" in said
    for command in (plain, merged):
        said = failure(capsys, *command, "--keep=0.5")
        assert "--keep belongs to --method=ties" in said
    for option in ("--joint=j.ckpt", "--coefficients=1"):
        said = failure(capsys, *plain, option)
        assert "--joint and --coefficients belong to --method" in said
