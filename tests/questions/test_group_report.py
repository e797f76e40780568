from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
import yaml

from tl.questions.affinity import PairMeans
from tl.questions.group_report import (
    Groups,
    as_dict,
    figure_of,
    partitions,
    sentence,
    table,
    write,
    write_study,
)
from tl.questions.grouping import best_grouping
from tl.study.points import points_of
from tl.study.study_file import read_study

TASKS = list("abcdefgh")


def groups(noise: float) -> Groups:
    truth = torch.full((8, 8), -0.2)
    truth[:4, :4], truth[4:, 4:] = 0.3, 0.2
    means = PairMeans(TASKS)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        means.add(truth + noise * torch.randn(8, 8, generator=generator))
    return Groups("logs/run", means, best_grouping(means.mean(), 2), 0.9)


def test_a_table_ends_in_what_the_groups_are_worth() -> None:
    found = groups(0.05)
    assert found.names == [["a", "b", "c", "d"], ["e", "f", "g", "h"]]
    text = table(found)
    assert "8 tasks, 20 measurements, split-half reliability 0." in text
    assert "by dynamic programming" in text
    assert "gradients of layer2" in table(replace(found, stage="layer2"))
    assert as_dict(found)["stage"] == "backbone"
    assert "Rank correlation with the exact look-ahead of TaskAffinity: 0.90." in text
    assert text.splitlines()[-1] == sentence(found)
    assert sentence(found).startswith("Train together: a, b, c, d | e, f, g, h")


def test_what_does_not_repeat_is_warned_of_and_a_null_is_said() -> None:
    noisy = groups(30.0)
    assert not noisy.reliable
    assert sentence(noisy).startswith("Warning: with a reliability of")
    once = PairMeans(TASKS)
    once.add(torch.randn(8, 8))
    assert sentence(replace(noisy, affinity=once)).startswith("Warning: 1 measurements do not tell")
    found = groups(0.05)
    null = replace(found.grouping, band=(-1.0, 1.0))
    assert sentence(replace(found, grouping=null)).startswith("No better than random partitions")
    better = replace(found.grouping, together=1.0)
    assert "promise nothing over all together" in sentence(replace(found, grouping=better))


def test_too_few_partitions_are_said() -> None:
    truth = torch.full((4, 4), -1.0)
    truth[:2, :2], truth[2:, 2:] = 1.0, 1.0
    means = PairMeans(list("abcd"))
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        means.add(truth + 0.05 * torch.randn(4, 4, generator=generator))
    found = Groups("logs/run", means, best_grouping(means.mean(), 2))
    assert found.names == [["a", "b"], ["c", "d"]]
    assert found.grouping.value == found.grouping.band[1]  # to the last bit
    assert 0.05 < found.grouping.own < 0.3
    assert sentence(found).startswith("Best by affinity: a, b | c, d; but ")
    assert "too few others to judge them by" in sentence(found)
    one = Groups("logs/run", means, best_grouping(means.mean(), 1))
    assert "promise nothing over" in sentence(one)


def test_files_and_a_study_that_the_study_verb_reads(tmp_path: Path) -> None:
    found = groups(0.05)
    paths = write(found, tmp_path)
    assert json.loads(paths[1].read_text()) == json.loads(json.dumps(as_dict(found)))
    assert paths[2].stat().st_size > 1000
    heat, _ = figure_of(found).axes
    assert [tick.get_text() for tick in heat.get_xticklabels()] == TASKS
    assert len(heat.patches) == 2
    every = partitions(found)
    assert list(every) == ["together", "chosen", "alone", *(f"random_{n}" for n in range(5))]
    assert all(sorted(t for group in each for t in group) == TASKS for each in every.values())
    configuration = tmp_path / "config.yaml"
    configuration.write_text("model: {init_args: {}}\ndata: {}\n")
    backbone = {"class_path": "tl.backbones.ResNet20", "init_args": {}}
    file, overlays = write_study(found, configuration, backbone, "test/acc", tmp_path)
    study = read_study(file)
    assert len(points_of(study)) == 8 * 5
    overlay = yaml.safe_load((overlays / "chosen.yaml").read_text())
    given = overlay["model"]["init_args"]["backbone"]
    assert given["class_path"] == "tl.backbones.TaskGroups"
    assert given["init_args"] == {"backbone": backbone, "groups": found.names}


def test_a_seed_draws_other_partitions_for_the_study(tmp_path: Path) -> None:
    found = groups(0.05)
    configuration = tmp_path / "config.yaml"
    configuration.write_text("model: {init_args: {}}\ndata: {}\n")
    backbone = {"class_path": "tl.backbones.ResNet20", "init_args": {}}
    drawn = []
    for seed in (0, 1):
        _, folder = write_study(found, configuration, backbone, "test/acc", tmp_path, seed)
        overlay = yaml.safe_load((folder / "random_0.yaml").read_text())
        drawn.append(overlay["model"]["init_args"]["backbone"]["init_args"]["groups"])
        assert drawn[-1] == partitions(found, seed)["random_0"]
    assert drawn[0] != drawn[1]


def test_the_study_does_not_measure_again(tmp_path: Path) -> None:
    configuration = tmp_path / "config.yaml"
    kept = {"class_path": "tl.callbacks.EpochTable"}
    measuring = [{"class_path": "tl.callbacks.GradientDiagnostics", "init_args": {}}]
    measuring += [{"class_path": "tl.callbacks.TaskAffinity"}]
    backbone = {"class_path": "tl.backbones.ResNet20"}
    for given, wanted in (([*measuring, kept], [kept]), ([kept], None), (None, None)):
        content = {"name": "a", "trainer": {"callbacks": given}}
        configuration.write_text(yaml.safe_dump(content))
        path, _ = write_study(groups(0.05), configuration, backbone, "test/acc", tmp_path)
        stage = yaml.safe_load(path.read_text())["stages"]["groups"]
        assert stage.get("set", {}).get("trainer.callbacks") == wanted
