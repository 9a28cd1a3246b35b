from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from painvrl.core.errors import ConfigError
from painvrl.data.smooth import MAX_BUMPS, Smooth, numbers_of, smooth_columns

YEARS = np.array(["1990", "2000", "2015", "", "2040"], dtype=object)
TRAIN = torch.tensor([True, True, True, True, False])


def test_bumps_by_hand():
    made = smooth_columns({"year": YEARS}, "year", Smooth(width=10), TRAIN)
    # 1990 to 2015 at a distance of 10 are 4 bumps, in the middle of the span: 1987.5 to 2017.5.
    centres = [1987.5, 1997.5, 2007.5, 2017.5]
    expected = [[math.exp(-0.5 * ((year - c) / 10) ** 2) for c in centres] for year in (1990, 2000, 2015)]
    np.testing.assert_allclose(made.values[:3].numpy(), expected, rtol=1e-6)


def test_an_item_without_a_value_lacks_the_modality():
    made = smooth_columns({"year": YEARS}, "year", Smooth(width=10), TRAIN)
    assert made.present.tolist() == [True, True, True, False, True]
    assert made.values[3].tolist() == [0.0] * 4


def test_what_is_held_out_decides_no_centre_and_stays_at_the_last_one():
    made = smooth_columns({"year": YEARS}, "year", Smooth(width=10), TRAIN)
    moved = YEARS.copy()
    moved[4] = "2999"
    again = smooth_columns({"year": moved}, "year", Smooth(width=10), TRAIN)
    assert torch.equal(made.values, again.values)
    assert int(made.values[4].argmax()) == 3


def test_one_value_is_one_bump():
    made = smooth_columns({"year": np.array(["1990"] * 5)}, "year", Smooth(width=3), TRAIN)
    assert made.values.tolist() == [[1.0]] * 5


def test_labels_become_numbers_and_blanks_nothing():
    found = numbers_of(np.array(["1.5", "", "-2", "1e3"], dtype=object), key="k", column="c")
    np.testing.assert_array_equal(found, [1.5, math.nan, -2.0, 1000.0])


@pytest.mark.parametrize("labels", [["1990", "MCMXC"], ["nan", "1"], ["inf", "1"], ["", ""]])
def test_labels_that_are_no_numbers_are_refused(labels):
    with pytest.raises(ConfigError, match="column year"):
        numbers_of(np.array(labels, dtype=object), key="k", column="year")


def test_a_missing_column_a_bare_one_and_a_narrow_width_are_refused():
    with pytest.raises(ConfigError, match="no such column; they have year"):
        smooth_columns({"year": YEARS}, "era", Smooth(width=1), TRAIN)
    with pytest.raises(ConfigError, match="no train item has a value"):
        smooth_columns({"year": YEARS}, "year", Smooth(width=1), TRAIN & (torch.arange(5) == 3))
    with pytest.raises(ConfigError, match=f"at most {MAX_BUMPS}"):
        smooth_columns({"year": YEARS}, "year", Smooth(width=0.001), TRAIN)
    with pytest.raises(ConfigError, match=f"at most {MAX_BUMPS}"):
        smooth_columns({"year": YEARS}, "year", Smooth(width=1e-320), TRAIN)
    huge = np.array(["-1e308", "1e308", "0", "0", "0"])
    with pytest.raises(ConfigError, match=f"at most {MAX_BUMPS}"):
        smooth_columns({"year": huge}, "year", Smooth(width=10), TRAIN)


@pytest.mark.parametrize("text", ["1_0", "\u0661", "inf", "nan", "1,5"])
def test_what_python_alone_reads_as_a_number_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="must hold numbers"):
        numbers_of(np.array(["1", text], dtype=object), key="k", column="c")
    assert numbers_of(np.array([" 1 ", "2\u00a0"], dtype=object), key="k", column="c").tolist() == [1.0, 2.0]
