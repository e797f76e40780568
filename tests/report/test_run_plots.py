from __future__ import annotations

from pathlib import Path

from PIL import Image

from tl.report.finished_run import read_curves
from tl.report.run_plots import curves_figure, rates_figure, write_plots

CSV = """epoch,lr/backbone,step,train/acc,train/loss,train/skipped_steps,val/acc,val/loss
0,,4,0.1,2.5,0,,
,0.1,4,,,,,
0,,4,,,,0.2,2.4
1,,9,0.3,2.1,0,,
1,,9,,,,0.25,2.2
"""


def test_a_run_s_plots_lie_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(CSV)
    paths = write_plots(tmp_path)
    assert [path.name for path in paths] == ["curves.png", "learning_rates.png"]
    for path in paths:
        assert min(Image.open(path).size) > 300


def test_losses_and_scores_have_a_chart_each(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(CSV)
    curves = read_curves(tmp_path / "metrics.csv")
    assert curves["val/acc"] == ([4, 9], [0.2, 0.25])
    figure = curves_figure(curves)
    assert figure is not None
    loss, acc = figure.axes
    assert (loss.get_ylabel(), acc.get_ylabel()) == ("loss", "acc")
    styles = {line.get_label(): line.get_linestyle() for line in acc.lines}
    assert styles == {"train/acc": "--", "val/acc": "-"}
    assert len({line.get_color() for line in acc.lines}) == 1, "a colour for each task"


def test_a_run_without_a_log_has_no_plots(tmp_path: Path) -> None:
    assert write_plots(tmp_path) == []
    (tmp_path / "metrics.csv").write_text("step,train/loss\n1,half\n")
    assert write_plots(tmp_path) == []
    assert rates_figure({"val/loss": ([1], [1.0])}) is None


def test_groups_of_one_learning_rate_are_one_line() -> None:
    same, other = ([1, 2], [0.1, 0.05]), ([1, 2], [0.01, 0.005])
    figure = rates_figure({"lr/head": same, "lr/stem": other, "lr/layer1": same})
    assert figure is not None
    assert [line.get_label() for line in figure.axes[0].lines] == [
        "lr/head and 1 more",
        "lr/stem",
    ]


def test_a_task_has_its_colour_in_every_chart() -> None:
    one = ([1], [1.0])
    names = ("val/loss", "val/a/loss", "val/b/loss", "val/b/acc", "val/a/acc")
    figure = curves_figure(dict.fromkeys(names, one))
    assert figure is not None
    colours = {line.get_label(): line.get_color() for axes in figure.axes for line in axes.lines}
    assert colours["val/a/loss"] == colours["val/a/acc"] != colours["val/b/acc"]
