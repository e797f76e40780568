from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

from tl.questions.measured import Agreement, Measured
from tl.questions.ranking import CONTROLS, SCORES, Ranked, Ranking
from tl.questions.ranking_report import as_dict, figure_of, sentence, table, write


def source(name: str, place: int, low: int, high: int, score: float) -> Ranked:
    scores = dict.fromkeys((*SCORES, *CONTROLS), math.nan) | {"knn": score, "parameters": 12345.0}
    return Ranked(name, "cifar10 from random weights", scores, place, low, high)


RANKING = Ranking(
    (source("a", 1, 1, 2, 0.9), source("b", 2, 1, 2, 0.88), source("c", 3, 3, 3, 0.2)),
    *("knn", "ten", 500, 10, 10, 200),
)


def test_a_table_ends_in_a_sentence() -> None:
    lines = table(RANKING).splitlines()
    assert lines[0] == "ten: 500 samples, 10 classes"
    assert "rank by kNN" in lines[1]
    assert lines[2].split()[:7] == ["a", "cifar10", "from", "random", "weights", "1", "(1-2)"]
    assert "not set apart" in lines[2]
    assert "12,345" in lines[2]
    assert "not set apart" not in lines[4]
    assert lines[-1] == sentence(RANKING)
    assert sentence(RANKING).startswith("a ranks first, but b is not set apart from it by kNN")
    clear = replace(RANKING, sources=RANKING.sources[1:])
    assert sentence(replace(clear, sources=(source("a", 1, 1, 1, 0.9), RANKING.sources[2]))) == (
        "a ranks first by kNN over 200 resamples of the samples."
    )


def test_too_few_sources_are_said_and_so_is_a_null() -> None:
    few = replace(RANKING, agreements=(Agreement("knn", 0.9, -0.8, 0.8, 5),))
    assert "5 sources are too few to distinguish" in table(few)
    null = replace(RANKING, agreements=(Agreement("knn", 0.3, -0.5, 0.5, 12),))
    assert "No column agrees with measured fine-tuning beyond what chance would give." in table(
        null
    )
    told = replace(RANKING, agreements=(Agreement("knn", 0.8, -0.5, 0.5, 12),))
    assert "Beyond chance agree with measured fine-tuning: kNN." in table(told)
    assert "+0.80" in table(told)
    assert "-0.50 to +0.50" in table(told)
    sparse = (Agreement("knn", 0.3, -0.5, 0.5, 12), Agreement("leep", 1.0, -0.8, 0.8, 5))
    said = table(replace(RANKING, agreements=sparse))
    assert "No column agrees" in said
    assert "Too few sources to tell: LEEP (5)." in said
    constant = Agreement("parameters", math.nan, math.nan, math.nan, 12)
    assert "parameters  -" in table(replace(RANKING, agreements=(constant,)))


def test_a_source_without_the_score_is_not_ranked() -> None:
    without = replace(RANKING.sources[2], rank=None, low=0, high=0)
    ranking = replace(RANKING, sources=(*RANKING.sources[:2], without), order="leep")
    lines = table(ranking).splitlines()
    assert "no LEEP" in lines[4]
    assert lines[-1].endswith("c has no LEEP and is not ranked.")
    last = as_dict(ranking)["sources"][2]
    assert (last["rank"], last["range"], last["not_set_apart_from"]) == (None, None, [])
    [axes] = figure_of(ranking).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]


def test_paths_are_cut_to_where_they_differ() -> None:
    names = ("logs/study/a=1/version_0", "logs/study/b=2/version_0", "logs/study/c/version_0")
    pairs = zip(RANKING.sources, names, strict=True)
    ranking = replace(RANKING, sources=tuple(replace(each, name=name) for each, name in pairs))
    lines = table(ranking).splitlines()
    assert lines[1] == "sources: logs/study/*/version_0"
    assert [line.split()[0] for line in lines[3:6]] == ["a=1", "b=2", "c"]
    assert lines[-1].startswith("a=1 ranks first, but b=2 is")
    assert as_dict(ranking)["sentence"].startswith(f"{names[0]} ranks first, but {names[1]} is")
    assert [each["name"] for each in as_dict(ranking)["sources"]] == [*names]
    [axes] = figure_of(ranking).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a=1", "b=2", "c"]
    mixed = ("logs/a.ckpt", "torchvision:resnet18", "logs/a/b.ckpt")
    pairs = zip(RANKING.sources, mixed, strict=True)
    other = replace(RANKING, sources=tuple(replace(each, name=name) for each, name in pairs))
    assert [line.split()[0] for line in table(other).splitlines()[2:5]] == [*mixed]


def test_what_was_measured_and_on_what_is_said() -> None:
    runs = {"a": 2, "b": 1}
    measured = Measured({"a": 2.0}, True, "test/loss", "which.yaml", runs, done=4, total=6)
    sources = (replace(RANKING.sources[0], measured=2.0), *RANKING.sources[1:])
    about = {"name": "ten", "kind": "generated", "fingerprint": "generated:12", "split": "samples"}
    ranking = replace(RANKING, sources=sources, measured=measured, about=about)
    said = table(ranking)
    assert "data: samples of ten (generated:12), SYNTHETIC" in said
    assert (
        "measured: test/loss of which.yaml, mean of 1 to 2 runs from a source, lower is better; "
        "only 4 of 6 such runs of the study are finished"
    ) in said
    found = as_dict(ranking)
    assert found["data"] == about
    assert found["sources"][0]["measured"] == 2.0
    assert found["sources"][0]["runs"] == 2
    assert found["measured"]["lower_is_better"]
    assert found["measured"]["runs_finished"] == 4
    [axes] = figure_of(ranking).axes
    assert axes.get_title().endswith("SYNTHETIC")


def test_files_hold_the_same(tmp_path: Path) -> None:
    paths = write(RANKING, tmp_path / "out")
    assert [path.name for path in paths] == ["rank.txt", "rank.json", "rank.png"]
    assert paths[0].read_text() == f"{table(RANKING)}\n"
    found = json.loads(paths[1].read_text())
    assert found == as_dict(RANKING)
    assert found["sources"][0]["not_set_apart_from"] == ["b"]
    assert found["sources"][0]["scores"]["leep"] is None
    assert paths[2].stat().st_size > 1000
    [axes] = figure_of(RANKING).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b", "c"]
