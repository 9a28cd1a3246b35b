from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from painvrl.core.errors import ConfigError, DataError
from painvrl.data.proposal import Answers, propose
from painvrl.data.proposal.entries import Entry, plain

COLD = {"protocol": "cold_item", "ood_candidates": "all", "iid_candidates": "all"}
USERS = [f"u{number}" for number in range(60)]
ITEMS = [f"{number:04d}" for number in range(1, 71)]


@pytest.fixture
def taken(sheets) -> list[list[str]]:
    """The rows of the interactions: user, item, rating, time."""
    return pd.read_csv("interactions.csv", sep=";", dtype=str).to_numpy().tolist()


@pytest.fixture
def proposed():
    """What is proposed, without comments; nobody is asked, and the proposals are taken."""

    def proposed(paths, *, yes=True, **given):
        answers = Answers(given={f"--{name}": value for name, value in given.items()}, takes_proposals=yes)
        proposal = propose(paths, answers)
        return plain(proposal.data), plain(proposal.split), answers, proposal

    return proposed


def write(path, header, rows) -> Path:
    """A text file divided by semicolons."""
    lines = [";".join(map(str, row)) for row in (header, *rows)]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Path(path)


def test_the_tables_of_a_spreadsheet_become_sections_that_name_every_column(sheets, taken, proposed):
    data, split, answers, proposal = proposed(sheets, yes=False)
    assert data == {
        "kind": "table",
        "path": "interactions.csv",
        "user": "Customer_ID",
        "item": "PRODUCT-Id",
        "time": "PurchaseDate",
        "rating": "Stars",
        "min_rating": 3.5,
        "item_table": {
            "path": "items.csv",
            "key": "Art.Nr",
            "title": "Item Name",
            "text": ["Item Name", "Beschreibung"],
            "categories": "Kategorien",
        },
        "core": 3,
    }
    assert split == COLD
    assert proposal.name == "interactions"
    kept = sum(int(row[2]) >= 4 for row in taken)
    said = "\n".join(answers.said)
    assert "65 of its 70 ids are in items.csv" in said
    assert "65 of 70 items matched" in said
    assert f"{kept} of 720 rows are kept" in said
    assert "not used of items.csv: Preis" in said


def left_by(core: int, rows: list[list[str]]) -> list[list[str]]:
    """The k-core, row by row."""
    while True:
        users, items = (Counter(row[place] for row in rows) for place in (0, 1))
        kept = [row for row in rows if users[row[0]] >= core and items[row[1]] >= core]
        if len(kept) == len(rows):
            return kept
        rows = kept


def test_a_core_is_the_highest_that_keeps_half_of_users_and_interactions(sheets, taken, proposed):
    liked = [row for row in taken if int(row[2]) >= 4]
    assert 2 * len(left_by(3, liked)) > len(liked) > 2 * len(left_by(5, liked))
    data, _, answers, _ = proposed(sheets)
    kept = left_by(data["core"], liked)
    assert data["core"] == 3
    assert f"{len({row[0] for row in kept})} users" in "\n".join(answers.said)
    assert proposed(sheets, rating="none")[0]["core"] == 5, "of all rows"


def test_a_core_that_leaves_less_than_half_of_the_users_is_passed_over(sheets, taken, proposed):
    rows = [row[:2] for row in taken[: 12 * 25]]
    rows += [(f"new{user}", item) for user in range(40) for item in ITEMS[user % 20 :][:4]]
    users = [len({row[0] for row in left_by(core, rows)}) for core in (1, 3, 5)]
    assert 0 < users[2] < users[0] / 2 < users[1]
    data, *_ = proposed([write("log.csv", ("user", "item"), rows), sheets[1]])
    assert data["core"] == 3


def test_ids_tell_the_items_where_no_name_does(taken, proposed):
    interactions = write("log.csv", "abcd", taken)
    items = write("items.csv", ("x", "name"), [(item, f"thing {item} of some kind") for item in ITEMS[:50]])
    data, _, answers, _ = proposed([interactions, items], yes=False, rating="c")
    assert (data["user"], data["item"], data["time"]) == ("a", "b", "d")
    assert "item: b of log.csv, 50 of its 70 ids are in items.csv" in answers.said
    assert (
        "user: a of log.csv, the only other column of many values that come back; 60 different ids"
        in answers.said
    )


@pytest.fixture
def alike(taken) -> list[Path]:
    """Users and items are numbers, and no name says which is which."""
    rows = [(int(user[1:]), int(item), rating) for user, item, rating, _ in taken]
    things = [(number, f"thing {number} of some kind") for number in range(1, 71)]
    return [write("log.csv", ("a", "b", "Stars"), rows), write("items.csv", ("nr", "name"), things)]


def test_two_columns_that_may_both_be_the_items_are_a_question(alike, proposed):
    with pytest.raises(
        ConfigError, match=r"--item for item in log\.csv \(b \(70 of its 70 ids .*, a \(59 of"
    ):
        proposed(alike, yes=False)
    data, _, answers, _ = proposed(alike)
    assert (data["user"], data["item"]) == ("a", "b")
    assert any(line.startswith("a guess, which --item corrects; else: a (59 of") for line in answers.said)
    turned, *_ = proposed(alike, item="a", user="b")
    assert (turned["user"], turned["item"]) == ("b", "a")


def test_who_is_asked_decides(alike):
    asked = []

    def ask(question):
        asked.append((question.option, [one.name for one in question.candidates]))
        return "a"

    proposal = propose(alike, Answers(ask=ask))
    assert asked == [("--item", ["b", "a"])]
    assert Entry(key="item", value="a", why="you said so") in proposal.data


def test_an_answer_that_is_no_column_names_those_that_are(sheets, proposed):
    with pytest.raises(ConfigError, match=r"--user: .* it has Customer_ID, PRODUCT-Id, Stars, PurchaseDate"):
        proposed(sheets, user="Kunde")


def test_interactions_alone_cannot_be_learnt_from(sheets, proposed):
    with pytest.raises(DataError, match=r"nothing describes the items, .* a table of titles, texts or tags"):
        proposed(sheets[:1])


def test_times_that_do_not_parse_are_said_and_left_out(sheets, taken, proposed):
    rows = [(user, item, "7.1.24") for user, item, *_ in taken]
    data, _, answers, _ = proposed([write("log.csv", ("user", "item", "date"), rows), sheets[1]])
    assert "time" not in data
    assert any("date is called like a time, but" in line and "7.1.24" in line for line in answers.said)


@pytest.mark.parametrize(("separator", "written"), [("|", None), (", ", ", "), (",", ",")])
def test_tags_are_divided_by_what_divides_them(sheets, proposed, separator, written):
    rows = [(item, separator.join(["red", "blue", "green"][n % 3 :])) for n, item in enumerate(ITEMS)]
    data, *_ = proposed([sheets[0], write("colours.csv", ("id", "colour"), rows)])
    section = data["item_table"]
    assert section["categories"] == "colour"
    assert section.get("separator") == written
    assert "text" not in section


def test_of_two_columns_of_tags_the_one_with_several_a_row_is_taken_and_numbers_are_none(sheets, proposed):
    rows = [
        (item, n % 5 or "", ["x", "y"][n % 2], ["red|blue", "blue"][n % 2]) for n, item in enumerate(ITEMS)
    ]
    table = write("colours.csv", ("id", "year", "shelf", "colour"), rows)
    data, _, answers, _ = proposed([sheets[0], table], yes=False)
    assert data["item_table"]["categories"] == "colour"
    assert "not used of colours.csv: year, shelf" in answers.said
    renamed = write("colours.csv", ("id", "year", "genre", "colour"), rows)
    with pytest.raises(ConfigError, match="--tags for tags in"):
        proposed([sheets[0], renamed], yes=False)


def test_arrays_are_features_and_their_ids_are_found_by_what_they_hold(sheets, proposed):
    np.savez(
        "looks.npz",
        row=np.arange(65),
        sku=np.array(ITEMS[:65]),
        pixel=np.random.default_rng(0).random((65, 4)),
    )
    np.save("sound.npy", np.random.default_rng(0).random((70, 3)))
    Path("names.txt").write_text("\n".join(ITEMS))
    data, *_ = proposed([sheets[0], Path("looks.npz"), Path("sound.npy")])
    assert data["files"] == {
        "looks": {"path": "looks.npz", "key": "sku", "values": "pixel"},
        "sound": {"path": "sound.npy", "key": "names.txt"},
    }


def test_a_matrix_whose_ids_are_nowhere_is_refused(sheets, proposed):
    np.save("sound.npy", np.random.default_rng(0).random((70, 3)))
    with pytest.raises(DataError, match=r"sound\.npy.*the rows of sound need the ids of their items"):
        proposed([*sheets, Path("sound.npy")])


def test_a_wide_table_of_numbers_is_a_file_of_features(sheets, proposed):
    wide = pd.DataFrame(np.random.default_rng(0).random((70, 9)), columns=[f"f{n}" for n in range(9)])
    wide.insert(0, "id", ITEMS)
    wide.to_csv("vectors.csv", index=False)
    data, *_ = proposed([sheets[0], Path("vectors.csv")])
    columns = [f"f{n}" for n in range(9)]
    assert data["files"] == {"vectors": {"path": "vectors.csv", "key": "id", "values": columns}}
    assert "item_table" not in data


def test_few_described_items_are_said_in_the_file_and_ask_for_another_split(sheets, proposed):
    rows = [(item, f"a thing of number {item}") for item in ITEMS[:21]]
    paths = [sheets[0], write("few.csv", ("id", "name"), rows)]
    data, split, answers, _ = proposed(paths)
    assert data["item_table"]["at_least"] == 0.27  # of 21 of 70 = 0.30
    assert split["protocol"] == "temporal_user"
    assert any(line.startswith("temporal does not fit: ") for line in answers.said), "60 users are few"
    assert proposed(paths, time="none")[1] == {"protocol": "popularity"}


def test_a_protocol_that_was_asked_for_is_taken_or_refused(sheets, proposed):
    assert proposed(sheets, protocol="popularity")[1] == {"protocol": "popularity"}
    with pytest.raises(ConfigError, match="100"):
        proposed(sheets, protocol="temporal")
    with pytest.raises(ConfigError, match="init writes cold_item, temporal, temporal_user, popularity"):
        proposed(sheets, protocol="given")


def test_a_table_of_users_is_not_taken_for_items(sheets, proposed):
    users = write("people.csv", ("user", "city"), [(user, "X") for user in USERS])
    data, _, answers, _ = proposed([*sheets, users])
    assert data["item_table"]["path"] == "items.csv"
    assert "not used: people.csv describes users, which only split.user_group reads" in answers.said


def test_two_tables_of_items_are_refused(sheets, proposed):
    more = write("more.csv", ("id", "name"), [(item, f"the thing {item}") for item in ITEMS])
    with pytest.raises(DataError, match=r"a study reads one table of items.*items\.csv, more\.csv"):
        proposed([*sheets, more])


def test_the_interactions_of_a_folder_are_found(sheets, proposed, tmp_path):
    write("notes.csv", ("day", "weather"), [("2024-01-01", "rain")])
    data, _, answers, _ = proposed([tmp_path], yes=False)
    assert data["path"] == (tmp_path / "interactions.csv").as_posix()
    assert any("notes.csv" in line and line.startswith("not used: ") for line in answers.said)


def test_an_item_that_was_rated_twice_keeps_the_better_rating(sheets, taken, proposed):
    rows = [*(row[:3] for row in taken), [*taken[0][:2], int(taken[0][2]) % 5 + 1]]
    data, *_ = proposed([write("log.csv", ("user", "item", "stars"), rows), sheets[1]])
    assert data["duplicates"] == "best"


def test_ratings_on_no_scale_count_alike(sheets, taken, proposed):
    rows = [(user, item, 1000 * int(rating)) for user, item, rating, _ in taken]
    data, _, answers, _ = proposed([write("log.csv", ("user", "item", "score"), rows), sheets[1]])
    assert "min_rating" not in data
    assert any("score is on no scale" in line for line in answers.said)


@pytest.mark.parametrize("written", ["{:02d}.03.2024", "{:02d}/03/2024", "03/{:02d}/2024"])
def test_dates_and_numbers_of_other_countries_are_read_and_it_is_said(sheets, taken, proposed, written):
    rows = [
        (user, item, f"{int(stars)},5", written.format(1 + place % 28))
        for place, (user, item, stars, _) in enumerate(taken)
    ]
    paths = [write("interactions.csv", ("Kunde", "PRODUCT-Id", "Rating", "Datum"), rows), *sheets[1:]]
    data, _, answers, _ = proposed(paths)
    assert (data["user"], data["time"], data["rating"]) == ("Kunde", "Datum", "Rating")
    said = "\n".join(answers.said)
    first = "month" if written.startswith("03") else "day"
    assert re.search(rf"^Datum: dates such as [0-9./]+ are read with the {first} first$", said, re.MULTILINE)
    assert re.search(r"^Rating: numbers such as \d,5 are read with a decimal comma$", said, re.MULTILINE)


def test_dates_and_numbers_that_may_mean_two_things_are_left_out_and_the_key_is_named(
    sheets, taken, proposed
):
    rows = [
        (user, item, f"{int(stars)},500", f"{1 + place % 12:02d}/03/2024")
        for place, (user, item, stars, _) in enumerate(taken)
    ]
    paths = [write("interactions.csv", ("Kunde", "PRODUCT-Id", "Rating", "Datum"), rows), *sheets[1:]]
    data, _, answers, _ = proposed(paths)
    assert "time" not in data
    assert "rating" not in data
    said = "\n".join(answers.said)
    assert "Datum is not used: its dates cannot be read, unless data.dates says how" in said
    assert "Rating is not used: its numbers cannot be read, unless data.decimal says how" in said
    assert data["user"] == "Kunde"


def test_a_price_with_a_decimal_comma_is_no_tag(sheets, proposed):
    rows = [(item, f"Thing {n} of some length", f"{n % 4},5") for n, item in enumerate(ITEMS)]
    data, *_ = proposed([sheets[0], write("things.csv", ("id", "name", "price"), rows)])
    assert "categories" not in data["item_table"]


def test_numbers_of_tags_are_no_decimal_numbers(sheets, proposed):
    rows = [(item, f"Thing {n} of some length", f"{n % 4},6") for n, item in enumerate(ITEMS)]
    data, *_ = proposed([sheets[0], write("things.csv", ("id", "name", "genre_ids"), rows)])
    assert data["item_table"]["categories"] == "genre_ids"


def of_prices(items: list[str]) -> list[Path]:
    """Purchases and a table of items that share a column of ids by name, and prices by content."""
    prices = {item: f"{5 + place}.{place % 9 + 1}" for place, item in enumerate(ITEMS)}
    rows = [(user, item, prices[item]) for user in USERS for item in ITEMS[int(user[1:]) % 7 :: 6]]
    described = [
        (own, prices[item], f"thing {item}", "tea" if place % 2 else "pot")
        for place, (own, item) in enumerate(zip(items, ITEMS, strict=True))
    ]
    return [
        write("purchases.csv", ["kunde", "artikelnr", "preis"], rows),
        write("items.csv", ["artikelnr", "preis", "titel", "tags"], described),
    ]


def test_a_column_of_prices_is_never_taken_as_ids(tmp_path, proposed):
    data, *_ = proposed(of_prices(ITEMS))
    table = data["item_table"]
    assert (data["item"], table["key"], table["title"]) == ("artikelnr", "artikelnr", "titel")
    with pytest.raises(DataError, match="no column holds the ids of the items") as refused:
        proposed(of_prices([f"A-{item}" for item in ITEMS]), item="artikelnr")
    assert "preis" not in str(refused.value)


def test_another_column_is_not_taken_where_the_ids_of_one_name_do_not_match(tmp_path, proposed):
    paths = of_prices([f"A-{item}" for item in ITEMS])
    for path in paths:  # whole prices may be ids
        path.write_text(re.sub(r"(\d)\.\d", r"\1", path.read_text()))
    with pytest.raises(ConfigError) as refused:
        proposed(paths)
    assert "artikelnr is in purchases.csv and in items.csv" in str(refused.value)
    assert "0001, ... and A-0001" in str(refused.value)
    assert "preis would be taken as the items; mend the ids, or let --item" in str(refused.value)
    assert proposed(paths, item="preis")[0]["item_table"]["key"] == "preis"


def bought(column: str, values: tuple[str, ...]) -> list[Path]:
    """Purchases with a column of numbers, and what was bought."""
    rows = [
        (user, item, values[(place + at) % len(values)])
        for place, user in enumerate(USERS)
        for at, item in enumerate(ITEMS[place % 7 :: 6])
    ]
    things = [(item, f"thing {item}") for item in ITEMS]
    return [
        write("kaeufe.csv", ["kunde", "item", column], rows),
        write("items.csv", ["item", "title"], things),
    ]


@pytest.mark.parametrize("name", ["Bewertung", "Sterne", "Valoración", "review_score"])
def test_ratings_are_known_by_their_names_in_several_languages(name, tmp_path, proposed):
    data, *_ = proposed(bought(name, ("2", "3.5", "4", "5")))
    assert (data["rating"], data["min_rating"]) == (name, 3.5)


def test_ids_of_notes_and_grades_that_fall_with_quality_are_no_ratings(tmp_path, proposed):
    for name in ("note_id", "Note", "rating_id"):
        data, _, answers, _ = proposed(bought(name, ("1", "2", "6")))
        assert "rating" not in data
        assert f"numbers from 1 to 6: if they are ratings, --rating {name}" in "\n".join(answers.said)


def test_a_small_scale_without_a_telling_name_is_left_out_in_so_many_words(tmp_path, proposed):
    data, _, answers, _ = proposed(bought("pisteet", ("2", "3.5", "4", "5")))
    assert "rating" not in data
    said = "all rows count alike; pisteet holds numbers from 2 to 5: if they are ratings, --rating pisteet"
    assert said in answers.said
    *_, answers, _ = proposed(bought("pisteet", ("200", "3500.5", "40", "5")))
    assert not any("count alike" in one for one in answers.said)


def test_a_table_without_a_column_of_items_says_what_it_needs(tmp_path, proposed):
    rows = [(f"K{place % 20:03}", f"2024-0{1 + place % 9}-11") for place in range(100)]
    with pytest.raises(ConfigError) as refused:
        proposed([write("nocol.csv", ["Kunde", "Datum"], rows)])
    assert str(refused.value) == (
        "nocol.csv: init: needs a column of users and one of items, in which ids come back. "
        "One of its columns may be that. --user and --item name them (found 'Kunde, Datum')"
    )


def test_a_column_that_is_no_column_of_ids_for_one_empty_row_says_so(tmp_path, proposed):
    path, things = bought("price", ("2.5", "70"))
    lines = path.read_text("utf-8").splitlines()
    lines[1] = ";" + lines[1].partition(";")[2]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"may be that: kunde has 1 rows without a value\. --user and --item"
    ):
        proposed([path, things])
    with pytest.raises(DataError, match=r"data\.user: 1 rows have no id; the first is row 1"):
        proposed([path, things], user="kunde")


# Ids 1, 2, ... of users and items alike, as most public tables have them.
COUNTED = list(range(1, 31))


def watched(folder: Path, item: str = "movie_id") -> Path:
    """Ratings whose users and films are numbers from 1 on."""
    rows = [(user, 1 + (user * 7 + step * step) % 30) for user in COUNTED for step in range(8)]
    return write(folder / "ratings.csv", ("user_id", item), dict.fromkeys(rows))


def save(path: Path, rows: int = 30, **ids: list[object]) -> None:
    """An archive of features with arrays of ids."""
    features = np.random.default_rng(0).normal(size=(rows, 4))
    np.savez(path, features=features, **{name: np.array(values) for name, values in ids.items()})


def test_each_matrix_has_the_ids_that_its_own_name_names(tmp_path, proposed):
    ratings = watched(tmp_path)
    for name, order in (("image", 1), ("text", -1)):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(0).normal(size=(30, 4)))
        ids = "\n".join(map(str, COUNTED[::order]))
        (tmp_path / f"{name}_ids.txt").write_text(ids + "\n")
    data, _, answers, _ = proposed([ratings, tmp_path / "image.npy", tmp_path / "text.npy"], yes=False)
    assert {name: one["key"] for name, one in data["files"].items()} == {
        "image": "image_ids.txt",
        "text_file": "text_ids.txt",
    }
    assert any("ids of the rows of image: image_ids.txt" in line for line in answers.said)


def test_a_row_counter_is_not_taken_for_ids_and_arrays_that_tell_nothing_are_a_question(tmp_path, proposed):
    ratings = watched(tmp_path)
    save(tmp_path / "named.npz", ids=COUNTED[::-1], row=COUNTED)
    assert proposed([ratings, tmp_path / "named.npz"], yes=False)[0]["files"]["named"]["key"] == "ids"
    save(tmp_path / "odd.npz", a=COUNTED[::-1], b=COUNTED)
    with pytest.raises(ConfigError, match=r"--key for ids of the rows of features in .*odd\.npz \(a \(30 of"):
        proposed([ratings, tmp_path / "odd.npz"], yes=False)
    assert proposed([ratings, tmp_path / "odd.npz"], yes=False, key="b")[0]["files"]["odd"]["key"] == "b"


def test_a_user_or_an_item_without_an_id_makes_no_other_column_the_users_or_items(tmp_path, proposed):
    rows = [(user, item, f"zip{user % 25}", f"town{item % 22}") for user in COUNTED for item in COUNTED[::2]]
    towns = write("towns.csv", ("town", "name"), [(f"town{n}", f"the town of {n}") for n in range(22)])
    rows += [("", 4, "zip3", "town1")]
    log = write("log.csv", ("user_id", "item_id", "zip", "town"), rows)
    with pytest.raises(ConfigError) as refused:
        proposed([log, towns], item="item_id")
    assert str(refused.value) == (
        "log.csv: init: user_id is called like what zip would be taken for, but has no value in 1 of 451 "
        "rows, the first is row 451; mend them, or let --user name the column"
    )
    rows[-1] = (4, "", "zip3", "town1")
    log = write("log.csv", ("user_id", "item_id", "zip", "town"), rows)
    with pytest.raises(ConfigError, match="item_id is called like what town would be taken for"):
        proposed([log, towns])
    assert proposed([log, towns], item="town")[0]["item"] == "town"


@pytest.mark.parametrize("key", ["user_id", "id"])
def test_what_describes_users_is_not_read_as_items_though_all_ids_are_numbers(tmp_path, key, proposed):
    ratings = watched(tmp_path)
    films = write(tmp_path / "movies.csv", ("movie_id", "title"), [(n, f"a film, {n}") for n in COUNTED])
    users = write(tmp_path / "users.csv", (key, "gender"), [(n, "FM"[n % 2]) for n in COUNTED])
    save(tmp_path / "user_emb.npz", **{key: COUNTED})
    save(tmp_path / "image.npz", id=COUNTED)
    data, _, answers, _ = proposed([tmp_path])
    assert data["item_table"]["path"] == films.as_posix()
    assert list(data["files"]) == ["image"]
    said = f"not used: {users} describes users, which only split.user_group reads; --key names its column"
    assert any(line.startswith(said) for line in answers.said)
    said = f"not used: features of {tmp_path / 'user_emb.npz'} describes users; --key names its ids"
    assert any(line.startswith(said) for line in answers.said)
    assert proposed([ratings, users], yes=False, key=key)[0]["item_table"]["key"] == key


def test_persons_that_are_the_items_are_items(tmp_path, proposed):
    ratings = watched(tmp_path, item="person_id")
    people = write(tmp_path / "people.csv", ("person_id", "name"), [(n, f"one called {n}") for n in COUNTED])
    data, *_ = proposed([ratings, people], item="person_id", user="user_id")
    assert data["item_table"]["key"] == "person_id"


def test_a_first_line_of_values_is_refused(tmp_path, sheets, proposed):
    log = Path("log.csv")
    log.write_text("\n".join(f"u{n % 30},{n % 23},{1509777560 + n}" for n in range(240)))
    with pytest.raises(
        DataError, match=r"the first line must name the columns; here it holds values.*'u0, 1509777560'"
    ):
        proposed([log, sheets[1]])
    Path("bare.csv").write_text("\n".join(f"{item},a thing" for item in ITEMS))
    with pytest.raises(
        DataError, match=r"bare\.csv: init: the first line must name the columns.*'0001, a thing'"
    ):
        proposed([sheets[0], Path("bare.csv")])


def test_columns_that_pandas_has_counted_have_names(tmp_path, proposed):
    ratings = watched(tmp_path)
    rows = [(n, *(n % 7 + column / 8 for column in range(9))) for n in COUNTED]
    features = write(tmp_path / "wide.csv", ("movie_id", *range(9)), rows)
    assert proposed([ratings, features])[0]["files"]["wide"]["values"] == [str(n) for n in range(9)]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (("movie_id", *range(1, 17)), lambda n: [n, *((n + place) % 21 for place in range(16))]),
        (("movie_id", *(k / 8 for k in range(1, 10))), lambda n: [n, *(n / 7 + k for k in range(9))]),
        (("movie_id", "title", 1, 2), lambda n: [n, f"a film, {n}", n % 3, n % 5]),
    ],
)
def test_names_that_are_numbers_are_names_beside_one_that_is_a_word(tmp_path, header, row, proposed):
    ratings = watched(tmp_path)
    films = write(tmp_path / "films.csv", header, [row(n) for n in COUNTED])
    data, *_ = proposed([ratings, films])
    assert data.get("item_table", {}).get("title") == "title" or len(data["files"]["films"]["values"]) >= 9


def test_a_word_for_items_or_users_that_no_id_stands_behind_may_have_gaps(tmp_path, proposed):
    rows = [(user, f"e{item}", ["good", "", "bad"][item % 3]) for user in COUNTED for item in COUNTED[::2]]
    log = write("log.csv", ("user_id", "ean", "content"), rows)
    things = write("items.csv", ("ean", "title"), [(f"e{n}", f"a thing, {n}") for n in COUNTED])
    assert proposed([log, things])[0]["item"] == "ean"


@pytest.mark.parametrize(
    ("item", "file", "key"),
    [
        ("ref", "client-catalog.csv", "ref_id"),
        ("player_id", "players.csv", "id"),
        ("business", "user_business.csv", "id"),
        ("ref", "reader_news.csv", "nr"),
        ("ref", "profiles.csv", "movie_id"),
        ("persons", "list.csv", "persons"),
    ],
)
def test_the_item_column_and_words_for_items_weigh_more_than_words_for_users(
    tmp_path, item, file, key, proposed
):
    ratings = watched(tmp_path, item=item)
    things = write(tmp_path / file, (key, "title"), [(n, f"a thing, {n}") for n in COUNTED])
    data, *_ = proposed([ratings, things], item=item, user="user_id")
    assert data["item_table"]["key"] == key


def test_the_key_that_was_named_makes_features_of_a_file_about_users(tmp_path, proposed):
    ratings = watched(tmp_path)
    save(tmp_path / "client_images.npz", ids=COUNTED)
    with pytest.raises(DataError, match="nothing describes the items"):
        proposed([ratings, tmp_path / "client_images.npz"])
    data, *_ = proposed([ratings, tmp_path / "client_images.npz"], key="ids")
    assert data["files"]["client_images"]["key"] == "ids"


@pytest.mark.parametrize("names", [("image", "image2"), ("картинки", "тексты")])
def test_ids_are_those_of_the_very_name_in_any_script(tmp_path, names, proposed):
    ratings = watched(tmp_path)
    for name, order in zip(names, (1, -1), strict=True):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(0).normal(size=(30, 4)))
        (tmp_path / f"{name}_ids.txt").write_text("\n".join(map(str, COUNTED[::order])) + "\n")
    data, *_ = proposed([ratings, *(tmp_path / f"{name}.npy" for name in names)], yes=False)
    assert [one["key"] for one in data["files"].values()] == [f"{name}_ids.txt" for name in names]


def test_lists_as_a_program_prints_them_are_neither_tags_nor_text(tmp_path, proposed):
    ratings = watched(tmp_path)
    rows = [
        (n, f"a film, {n}", str([["Drama", "Action"][n % 2], "War"]), f"[{n / 7}, 2.5, {n}]")
        for n in COUNTED[:-1]
    ]
    rows.append((30, "a film, 30", "unknown", ""))
    films = write(tmp_path / "movies.csv", ("movie_id", "title", "genres", "embedding"), rows)
    data, _, answers, _ = proposed([ratings, films])
    assert data["item_table"]["text"] == ["title"]
    assert "categories" not in data["item_table"]
    said = (
        f"genres of {films} is not used: its texts are printed lists, such as ['Action', 'War']; write tags"
    )
    assert any(line.startswith(said) for line in answers.said)
    assert any(line.startswith("embedding of") and "such as [0.1428" in line for line in answers.said)


def test_lists_of_texts_are_no_features(tmp_path, proposed):
    ratings = watched(tmp_path)
    table = pd.DataFrame(
        {"movie_id": COUNTED, "title": [f"a film, {n}" for n in COUNTED], "tags": [["Drama", "War"]] * 30}
    )
    table.to_parquet(tmp_path / "movies.parquet")
    data, *_ = proposed([ratings, tmp_path / "movies.parquet"])
    assert "files" not in data
    table.assign(tags=[[1.0] * (1 + n % 2) for n in COUNTED]).to_parquet(tmp_path / "movies.parquet")
    data, _, answers, _ = proposed([ratings, tmp_path / "movies.parquet"])
    assert "files" not in data
    assert f"not used of {tmp_path / 'movies.parquet'}: tags" in answers.said
    table.assign(tags=[[1.0, n] for n in COUNTED]).to_parquet(tmp_path / "movies.parquet")
    assert proposed([ratings, tmp_path / "movies.parquet"])[0]["files"]["movies"]["values"] == ["tags"]


def test_two_feature_files_of_one_name_have_a_key_each(tmp_path, proposed):
    ratings = watched(tmp_path)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "emb.npz", id=COUNTED)
    data, _, answers, _ = proposed([ratings, *sorted(tmp_path.glob("*/emb.npz"))])
    assert {name: Path(one["path"]).parent.name for name, one in data["files"].items()} == {
        "emb": "one",
        "emb_2": "two",
    }
    assert "the second emb is called emb_2: two files have one name" in answers.said


def test_feature_files_are_read_whatever_lies_beside_or_in_them(tmp_path, proposed):
    ratings = watched(tmp_path)
    (tmp_path / "LIESMICH.txt").write_bytes("für alle".encode("latin-1"))
    np.save(tmp_path / "image.npy", np.random.default_rng(0).normal(size=(30, 4)))
    np.save(tmp_path / "image_ids.npy", np.array(COUNTED))
    assert proposed([ratings, tmp_path / "image.npy"])[0]["files"]["image"]["key"] == "image_ids.npy"
    captions = np.array([{"words": n} for n in COUNTED], dtype=object)
    save(tmp_path / "FEAT.npz", ids=[float(n) for n in COUNTED], captions=captions)
    (tmp_path / "FEAT.npz").rename(tmp_path / "FEAT.NPZ")
    assert proposed([ratings, tmp_path / "FEAT.NPZ"])[0]["files"]["FEAT"]["key"] == "ids"


def test_an_item_that_stands_twice_in_its_table_is_named(sheets, proposed):
    lines = sheets[1].read_text("utf-8-sig").splitlines()
    sheets[1].write_text("\n".join([*lines, lines[5]]), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"Art\.Nr: 1 item ids occur more than once; the first is 0005 in rows 5"
    ):
        proposed(sheets)


def test_what_a_folder_holds_besides_is_said_and_the_longer_log_is_the_interactions(tmp_path, proposed):
    watched(tmp_path).rename(tmp_path / "train.csv")
    write(tmp_path / "test.csv", ("user_id", "movie_id"), [(1, 1), (1, 2), (2, 1), (2, 2)])
    write(tmp_path / "movies.csv", ("movie_id", "title"), [(n, f"a film, {n}") for n in COUNTED])
    for name in ("more.xlsx", "reviews.jsonl", ".hidden"):
        (tmp_path / name).write_text("x")
    data, _, answers, _ = proposed([tmp_path])
    assert data["path"] == (tmp_path / "train.csv").as_posix()
    assert f"not read of {tmp_path}: more.xlsx, reviews.jsonl" in answers.said
