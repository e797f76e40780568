"""``tl rank --measured`` on what a study's own worker leaves of a real run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.cli.test_rank import generated
from tests.cli.test_verbs import failure
from tests.small import tiny_data
from tests.sources import saved_source
from tl.checkpoints.hashes import file_sha256
from tl.cli import main
from tl.study.points import Point
from tl.study.task import Task
from tl.study.worker import Worker

DATA = tiny_data()


class Here(Worker):
    """A worker whose commands run in this process."""

    def _command(self, point: Point, verb: str, given: list[str], lock: int) -> str | None:
        del point, lock
        return None if main([verb, *given]) == 0 else f"{verb} failed"


def base(folder: Path) -> None:
    """A run of two steps from a source."""
    data = {"train_size": 60, "test_size": 40, "batch_size": 20, "draw_seed": 5}
    content = {
        "data": {"class_path": "tl.data.GeneratedDataModule", "init_args": data},
        "model": {
            "class_path": "tl.modules.TransferModule",
            "init_args": {"backbone": {"class_path": "tl.backbones.ResNet20"}},
        },
        "trainer": {"max_steps": 2, "accelerator": "cpu", "logger": False},
        "dashboard": {"graph": False},
    }
    (folder / "base.yaml").write_text(yaml.safe_dump(content))


def study(folder: Path, sources: list[Path]) -> Path:
    """A study that trains from each of some sources."""
    content = {
        "question": "Which source?",
        "stages": {
            "target": {
                "configs": ["base.yaml"],
                "vary": {
                    "source": {
                        each.parts[-4]: {"model.init_args.init_from": str(each)} for each in sources
                    },
                    "seed_everything": [0, 1],
                },
            }
        },
        "report": {"metric": "test/acc", "rows": ["source"]},
    }
    path = folder / "which.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_columns_stand_beside_what_real_runs_gave(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base(tmp_path)
    sources = [saved_source(tmp_path, DATA, seed) for seed in range(3)]
    file, out = study(tmp_path, sources), tmp_path / "out"
    worker = Here(Task(str(file), (), str(out)))
    first, *others = worker.points.values()
    assert worker.run(first) == "ended"
    assert worker.folders.state(first) == "done"
    [written] = worker.folders.of(first).glob("version_0/results.json")
    results = json.loads(written.read_text())
    assert results["provenance"]["sha256"] == file_sha256(sources[0])
    for number, point in enumerate(others):  # the same run of the other sources and seeds
        source = str(point.options["model.init_args.init_from"])
        copied = worker.folders.of(point) / "version_0"
        shutil.copytree(written.parent, copied)
        results["provenance"] |= {"path": source, "sha256": file_sha256(source)}
        results["metrics"]["test/acc"] = number / 10
        (copied / "results.json").write_text(json.dumps(results))
    means: dict[str, list[float]] = {}
    for point in worker.points.values():
        accuracy = worker.folders.results(point)["metrics"]["test/acc"]
        source = str(point.options["model.init_args.init_from"])
        means.setdefault(source, []).append(accuracy)

    names = [str(each) for each in sources]
    given = [f"--config={generated(tmp_path, draw_seed=5)}", f"--out={tmp_path / 'rank'}"]
    given += ["--samples=40", "--resamples=10", f"--measured={file}", f"--study-out={out}"]
    capsys.readouterr()
    assert main(["rank", *names, *given]) == 0
    said = capsys.readouterr().out
    assert "too few" in said
    found = json.loads((tmp_path / "rank" / "rank.json").read_text())
    for row in found["sources"]:
        assert row["measured"] == pytest.approx(sum(means[row["name"]]) / 2)
    assert {each["sources"] for each in found["agreements"]} == {3}
    assert any(each["column"] == "knn" for each in found["agreements"])

    strangers = ["resnet18@random", "shufflenet_v2_x0_5@random"]
    assert "No finished run of" in failure(capsys, "rank", *strangers, *given)
