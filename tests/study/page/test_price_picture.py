from __future__ import annotations

from dataclasses import replace

import pytest

from painvrl.stats.intervals import Bounded
from painvrl.study.page.price import KnobPrice, Price
from painvrl.study.page.price_picture import change_of, picture

AXES = ("iid/ndcg_at_20", "ood/ndcg_at_20")


def test_the_picture_turns_every_knob_so_that_ood_rises() -> None:
    falls = KnobPrice(
        knob="kind",
        low="x",
        high="y",
        iid=Bounded(value=0.03, low=0.02, high=0.05),
        ood=Bounded(value=-0.06, low=-0.1, high=-0.05),
        verdict="trade",
        price=Bounded(value=0.5, low=0.4, high=0.6),
    )
    assert change_of(falls) == "kind: x → y"
    assert change_of(falls, rising=True) == "kind: y → x"
    found = Price(metrics=AXES, trials=9, needed=4, explained={}, knobs=(falls,), left_out={}, note=None)
    figure = picture(found)
    assert figure is not None
    shown = {
        line.xaxis: (
            line.y[0],
            line.x[0],
            line.x[0] - line.error_x.arrayminus[0],
            line.x[0] + line.error_x.array[0],
        )
        for line in figure.data
        if line.name == "trade"
    }
    assert shown["x"] == ("kind: y → x", -0.03, pytest.approx(-0.05), pytest.approx(-0.02))
    assert shown["x2"] == ("kind: y → x", 0.06, pytest.approx(0.05), pytest.approx(0.1))
    assert picture(replace(found, knobs=())) is None
