from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from painvrl.data.sources.texts import Texts, as_objects, find, order_key

INTEGERS = st.integers(-(10**25), 10**25)
TEXTS = (
    st.text(max_size=5)
    | INTEGERS.map(str)
    | st.sampled_from(["007", "-0", "+7", "1.0", "\u0661", "-", "1_0", "²"])
)


@given(st.lists(INTEGERS))
def test_canonical_integers_are_ordered_by_value(numbers):
    assert sorted(map(str, numbers), key=order_key) == [str(number) for number in sorted(numbers)]


@given(st.lists(TEXTS))
def test_other_texts_come_after_them_by_code_point(texts):
    def is_canonical(text: str) -> bool:
        try:
            return text.isascii() and str(int(text)) == text
        except ValueError:
            return False

    numbers = [text for text in texts if is_canonical(text)]
    others = [text for text in texts if not is_canonical(text)]
    assert sorted(texts, key=order_key) == [*sorted(numbers, key=int), *sorted(others)]


@given(st.lists(TEXTS | st.none()), st.randoms())
def test_a_column_gives_back_its_texts_whatever_their_order(values, source: random.Random):
    column = Texts.of(values)
    assert column.tolist() == [value or "" for value in values]
    assert [column[row] for row in range(len(column))] == column.tolist()
    assert column.distinct.tolist() == sorted({value for value in values if value}, key=order_key)
    shuffled = source.sample(values, len(values))
    assert Texts.of(shuffled).distinct.tolist() == column.distinct.tolist()


def test_an_empty_text_is_missing_and_nothing_else_is():
    column = Texts.of(["", None, " ", "nan", "\0"])
    assert column.missing.tolist() == [True, True, False, False, False]


def test_a_choice_of_rows_keeps_the_texts_that_still_occur():
    column = Texts.of(["b", "10", "", "9", "b"])
    chosen = column.select(np.array([4, 2, 1]))
    assert chosen.tolist() == ["b", "", "10"]
    assert chosen.distinct.tolist() == ["10", "b"]
    assert column.select(np.array([False, True, False, True, False])).tolist() == ["10", "9"]


@given(st.lists(st.integers(-50, 50), min_size=1))
def test_integers_are_numbered_as_their_texts_are(numbers):
    quick, plain = Texts.of_integers(np.array(numbers)), Texts.of(map(str, numbers))
    assert quick.tolist() == plain.tolist()
    assert quick.distinct.tolist() == plain.distinct.tolist()
    assert quick.code.tolist() == plain.code.tolist()


def test_places_are_found_by_the_whole_text():
    known = as_objects(["b", "a\0", "a", "07"])
    assert find(as_objects(["a", "a\0", "7", "07", "b"]), known).tolist() == [2, 1, -1, 3, 0]


@pytest.mark.parametrize("texts", [[], ["a\0", "a"], ["a" * 1000, "b"]])
def test_objects_keep_texts_as_they_are(texts):
    assert as_objects(texts).tolist() == texts
