from __future__ import annotations

import dataclasses

import pytest

from painvrl.core.errors import DataError
from painvrl.data.provenance import Join, Provenance, Removal

JOIN = Join(
    name="image",
    key="data.files.image",
    of="items",
    total=100,
    matched=95,
    rows=120,
    rows_filtered=5,
    rows_unmatched=20,
    largest_column="f3",
    largest_share=0.25,
)
REMOVAL = Removal(
    name="data.core",
    rule="keep much",
    users=50,
    items=90,
    interactions=500,
    users_before=100,
    items_before=100,
    interactions_before=1000,
)


@pytest.mark.parametrize(("matched", "warned"), [(100, False), (95, False), (94, True), (0, True)])
def test_a_join_of_fewer_than_95_percent_is_a_warning_that_names_the_key(matched, warned):
    warning = dataclasses.replace(JOIN, matched=matched).warning()
    assert (warning is not None) is warned
    if warning is not None:
        assert warning.startswith(
            f"data.files.image: image describes {matched} of 100 items; 20 of its 120 rows"
        )


@pytest.mark.parametrize(
    ("matched", "at_least", "refused"), [(50, 0.5, False), (49, 0.5, True), (0, 0.0, False)]
)
def test_a_join_of_fewer_than_asked_for_is_an_error(matched, at_least, refused):
    join = dataclasses.replace(JOIN, matched=matched)
    if not refused:
        join.require(at_least, file="f.csv")
        return
    rule = (
        r"f\.csv: data\.files\.image\.at_least: describes only 49 of 100 items; 20 of its 120 rows match no"
    )
    with pytest.raises(DataError, match=rule):
        join.require(at_least, file="f.csv")


@pytest.mark.parametrize(
    ("change", "warned"),
    [({}, False), ({"users": 51}, True), ({"interactions": 501}, True), ({"items": 99}, False)],
)
def test_more_than_half_of_the_users_or_interactions_is_a_warning_that_names_the_key(change, warned):
    warning = dataclasses.replace(REMOVAL, **change).warning()
    assert (warning is not None) is warned
    assert warning is None or warning.startswith("data.core (keep much) took ")


def test_tables_say_what_was_taken_and_what_was_joined():
    tables = Provenance(joins=(JOIN,), removals=(REMOVAL,), notes=("a note",)).tables()
    assert [table.rows for table in tables] == [
        (("data.core", "50 of 100", "90 of 100", "500 of 1,000", "keep much"),),
        (("image", "95 of 100 items", "95.0%", "120", "20", "5", "f3: 25.0%"),),
        (("a note",),),
    ]
    assert all(len(row) == len(table.columns) for table in tables for row in table.rows)
    assert Provenance().tables() == ()
