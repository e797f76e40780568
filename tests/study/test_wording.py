from __future__ import annotations

import math

from tl.report import Interval
from tl.study.wording import amount, name_of, number, scaled, short, unit


def test_shares_are_percent_and_other_metrics_are_not() -> None:
    assert number(Interval(0.5, 0.01, 3), "test/acc") == "50.0 ± 1.0"
    assert number(Interval(0.5, 0.01, 3), "Delta_m", signed=True) == "+50.0 ± 1.0"
    assert number(Interval(0.5, 0.01, 3), "test/loss") == "0.5 ± 0.01"
    assert number(Interval(0.5, math.inf, 1), "test/loss") == "0.5 (one run)"
    assert number(None, "test/loss") == "-"
    assert (scaled(0.5, "test/acc"), scaled(0.5, "test/rmse")) == (50.0, 0.5)
    assert (unit("val/a/oracle_acc_at_best"), unit("val/a/oracle_mae")) == (", %", "")
    for share in ("accuracy", "miou", "iou", "f1", "map"):
        assert unit(f"test/a/{share}") == ", %"
    assert (unit("test/a/acc"), unit("test/rmse")) == (", %", "")
    assert (amount(0.04, "test/acc"), amount(0.04, "test/rmse")) == ("4.0 points", "0.04")


def test_rows_are_named_by_their_values() -> None:
    assert short("data.init_args.label_fraction") == "label fraction"
    assert name_of({"data.init_args.label_fraction": 0.02, "method": "full"}) == (
        "label fraction 0.02, full"
    )
