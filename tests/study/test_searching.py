from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies import content, run, write_study
from tests.study.test_sections import SEARCH
from tl.study.folders import RunFolders
from tl.study.points import Point, points_of
from tl.study.schema import Search
from tl.study.searching import Trial, choose, propose, score, should_prune, trials_of
from tl.study.study_file import read_study

pytest.importorskip("optuna", reason="needs tl[study]")


def search_of(folder: Path, **changes: object) -> tuple[Search, Point]:
    study = read_study(write_study(folder, content(search={**SEARCH, **changes})))
    assert study.search is not None
    return study.search, next(p for p in points_of(study).values() if p.trial == 0)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_known_best_learning_rate_is_found(tmp_path: Path, sampler: str) -> None:
    search, first = search_of(tmp_path, trials=30, sampler=sampler)
    trials: list[Trial] = []
    for number in range(30):
        point = Point(**{**vars(first), "trial": number})
        chosen = propose(point, trials, search)
        assert chosen == propose(point, trials, search)  # follows from the trials before
        trials.append(Trial(number, chosen, 1 - abs(chosen["model.lr"] - 0.3)))
    assert len({trial.chosen["model.lr"] for trial in trials}) == 30
    assert choose(trials, search)["model.lr"] == pytest.approx(0.3, abs=0.05)


def test_a_study_tunes_each_method_by_the_same_number_of_trials(tmp_path: Path) -> None:
    given = content(search={**SEARCH, "trials": 6})
    path = write_study(tmp_path, given)
    assert run(path, workers=1).failures == {}  # with more, what is tried follows who ends first
    study = read_study(path)
    points, folders = points_of(study), RunFolders(tmp_path / "out")
    assert study.search is not None
    for method in ("scratch", "full"):
        mine = [p for p in points.values() if p.group == (method,)]
        trials = trials_of(mine[0], points, folders, study.search)
        assert len(trials) == 6
        best = max(trials, key=lambda trial: trial.value or 0)
        assert best.chosen["model.lr"] == pytest.approx(0.3, abs=0.2)
        for point in mine:
            if point.trial is None:
                assert folders.chosen(point) == best.chosen
            else:  # on validation only
                assert not any(n.startswith("test/") for n in folders.results(point)["metrics"])


def test_pruning_is_by_the_median_at_the_same_step(tmp_path: Path) -> None:
    search, _ = search_of(tmp_path, pruning=True)
    trials = [Trial(n, {}, 0.5, [(5, 0.1 * n), (9, 0.9)]) for n in range(5)]
    assert should_prune(trials, [(5, 0.15)], search)
    assert not should_prune(trials, [(5, 0.25)], search)
    assert not should_prune(trials[:3], [(5, 0.0)], search)  # too few to tell
    assert not should_prune(trials, [], search)
    lower, _ = search_of(tmp_path, pruning=True, lower_is_better=True)
    assert should_prune(trials, [(5, 0.25)], lower)


def test_what_has_no_score_is_not_chosen(tmp_path: Path) -> None:
    search, point = search_of(tmp_path)
    trials = [Trial(0, {"model.lr": 0.5}, None), Trial(1, {"model.lr": 0.1}, 0.2)]
    assert choose(trials, search) == {"model.lr": 0.1}
    assert 0.001 <= propose(point, trials, search)["model.lr"] <= 1
    with pytest.raises(ValueError, match="None of 1 trials has a val/acc"):
        choose(trials[:1], search)
    with pytest.raises(ValueError, match=r"The run logs no val/acc; it logs val/loss\."):
        score({"metrics": {"val/loss": 1.0}}, "val/acc")
    assert score({"best": {"monitor": "val/acc", "score": 0.9}}, "val/acc") == 0.9


def test_a_score_is_that_of_the_best_checkpoint_whatever_chose_it() -> None:
    best = {"monitor": "val/loss", "score": 0.2, "metrics": {"val/acc": 0.9}}
    assert score({"best": best, "metrics": {"val/acc": 0.1}}, "val/acc") == 0.9
    assert score({"best": best, "metrics": {"val/acc": 0.1}}, "val/loss") == 0.2
    assert score({"best": None, "metrics": {"val/acc": 0.1}}, "val/acc") == 0.1
