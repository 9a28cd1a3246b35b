from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, model_validator

from painvrl.core import yamlfile as module
from painvrl.core.errors import ConfigError, Mistakes
from painvrl.core.settings import Settings
from painvrl.core.yamlfile import (
    dump_yaml,
    load_settings,
    near_matches,
    parse_value,
    parse_yaml,
    read_yaml,
    validated,
    yaml_value,
)


class Cat(Settings):
    kind: Literal["cat"]
    lives: int = Field(default=9, ge=1)


class Dog(Settings):
    kind: Literal["dog"]
    name: str

    @model_validator(mode="after")
    def _named(self) -> Dog:
        if self.name == "cat":
            raise ValueError("a dog is not called cat")
        return self


class Home(Settings):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    rooms: tuple[Annotated[int, Field(gt=0)], ...] = (1,)
    heat: float = 20.0


def message(data: dict[str, object], **place: object) -> str:
    with pytest.raises(ConfigError) as caught:
        validated(Home, data, **place)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("5e3", 5000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("012", 12),
        ("-7", -7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("1:20", "1:20"),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("2020-01-01", "2020-01-01"),
        ("'12'", "12"),
        ("", None),
    ],
)
def test_scalars_are_read_as_yaml_1_2_says(text: str, value: object) -> None:
    read = parse_yaml(f"key: {text}")["key"]
    assert read == value
    assert type(read) is type(value)


def test_nan_is_read_as_a_number() -> None:
    read = parse_yaml("key: .nan")["key"]
    assert isinstance(read, float)
    assert math.isnan(read)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", [":3:1:", "'a' stands twice", "line 1"]),
        ("a:\n  b: 1\n  b: 1", [":3:3:", "'b' stands twice"]),
        ("a: {b: 1, b: 1}", ["'b' stands twice"]),
        ("1: 2", [":1:1:", "a key must be text", "1"]),
        ("? [1]\n: 2", ["a key must be text"]),
        ("a: [1", [":1:6:"]),
        ("a: *no one", ["undefined alias"]),
        ("a: !!python/object:os.system x", [":1:4:", "tag"]),
        ("- 1", ["must hold keys and values"]),
        ("text", ["must hold keys and values"]),
        ("", ["is empty"]),
        ("# nothing", ["is empty"]),
        ("a: 1\n---\nb: 2", [":2:1:"]),
        ("a: \x00", ["is not YAML"]),
    ],
)
def test_what_is_wrong_with_a_text_is_said_in_one_line(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, file="study.yaml")
    said = str(caught.value)
    assert re.match(r"study\.yaml(:\d+:\d+)?: ", said)
    assert "\n" not in said
    assert all(word in said for word in words), said


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(ConfigError) as caught:
            load_settings(path, Home)
        assert str(path) in str(caught.value)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("key: häuser".encode("latin-1"))
    with pytest.raises(ConfigError, match="UTF-8"):
        load_settings(latin, Home)


def test_a_good_file_becomes_settings(tmp_path: Path) -> None:
    path = tmp_path / "home.yaml"
    path.write_text("pet: {kind: dog, name: yes}\nheat: 1e-5\n", encoding="utf-8")
    assert load_settings(path, Home) == Home(pet=Dog(kind="dog", name="yes"), heat=1e-5)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "h.yaml: home.pet: is missing"),
        ({"pet": {}}, "h.yaml: home.pet.kind: is missing"),
        (
            {"pet": {"kind": "dgo"}},
            "h.yaml: home.pet.kind: is not a known choice; did you mean dog? (found 'dgo')",
        ),
        ({"pet": {"kind": "dog"}}, "h.yaml: home.pet.name: is missing"),
        (
            {"pet": {"kind": "cat", "live": 3}},
            "h.yaml: home.pet.live: is not a known key; did you mean lives?",
        ),
        (
            {"pet": {"kind": "cat", "name": "x"}},
            "h.yaml: home.pet.name: is no key of kind cat; these have it: dog",
        ),
        (
            {"pet": {"kind": "cat", "lives": 0}},
            "h.yaml: home.pet.lives: must be greater than or equal to 1 (found 0)",
        ),
        (
            {"pet": {"kind": "dog", "name": "cat"}},
            "h.yaml: home.pet: a dog is not called cat (found {'kind': 'dog', 'name': 'cat'})",
        ),
        ({"pet": 3}, "h.yaml: home.pet: must hold keys and values (found 3)"),
        (
            {"pet": {"kind": "cat"}, "rooms": [1, -1]},
            "h.yaml: home.rooms.1: must be greater than 0 (found -1)",
        ),
        (
            {"pet": {"kind": "cat"}, "heat": math.nan},
            "h.yaml: home.heat: must be a finite number (found nan)",
        ),
        (
            {"pet": {"kind": "cat"}, "rooms": [0], "haet": 2},
            (
                "h.yaml: home.haet: is not a known key; did you mean heat?\n"
                "h.yaml: home.rooms.0: must be greater than 0 (found 0)"
            ),
        ),
    ],
)
def test_a_broken_rule_names_file_key_rule_and_value(data: dict[str, object], said: str) -> None:
    assert message(data, file="h.yaml", prefix="home") == said


def test_all_mistakes_of_a_file_are_said_at_once_each_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "home.yaml"
    path.write_text("pet: {kind: dgo}\nheat: 3\nrooms:\n  - 1\n  - -1\n\nheat: warm\n1: 2\nrom: 4\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(path, Home)
    assert str(caught.value).splitlines() == [
        f"{path}:1:7: pet.kind: is not a known choice; did you mean dog? (found 'dgo')",
        f"{path}:5:5: rooms.1: must be greater than 0 (found -1)",
        f"{path}:7:1: the key 'heat' stands twice; first on line 2",
        f"{path}:7:1: heat: must be a number, unable to parse string as a number (found 'warm')",
        f"{path}:8:1: a key must be text; found 1",
        f"{path}:9:1: rom: is not a known key; did you mean rooms?",
    ]


def test_a_misspelt_key_is_not_also_a_missing_one() -> None:
    assert message({"pte": {"kind": "cat"}}) == "pte: is not a known key; did you mean pet?"
    assert message({"x": 1}).splitlines()[1] == "pet: is missing"


def no_heat(home: Home) -> None:
    if home.heat > 30:
        raise ConfigError("is too much", key="heat")
    for place, rooms in enumerate(home.rooms):
        if rooms > 100:
            raise ConfigError("are too many", key=f"rooms.{place}")


@pytest.mark.parametrize(
    ("data", "basis", "said"),
    [
        ({"pet": {"kind": "dgo"}, "heat": 40}, "", ["pet.kind: is not a known"]),  # nothing is left of it
        ({"pet": {"kind": "cat", "lives": 0}, "heat": 40}, "", ["pet.lives: must", "heat: is too"]),
        ({"pet": {"kind": "cat", "lives": 0}, "heat": 40}, "pet", ["pet.lives: must", "heat: is too"]),
        ({"pet": {"kind": "cat", "lives": "x"}, "heat": 40}, "pet", ["pet.lives: must", "heat: is too"]),
        ({"pet": {"kind": "ct"}, "heat": 40}, "pet", ["pet.kind: is not a known", "heat: is too"]),
        ({"pet": {"kind": "dog", "name": "cat"}, "heat": 40}, "pet", ["pet: a dog is not"]),
        ({"pet": {"kind": "dgo", "name": "cat"}, "heat": 40}, "pet", ["pet.kind: is not", "heat: is too"]),
        ({"pet": 3, "heat": 40}, "pet", ["pet: must hold"]),
        (
            {"pet": {"kind": "cat"}, "rooms": [0, 0, 200]},
            "",
            ["rooms.0:", "rooms.1:", "rooms.2: are too many"],
        ),
        ({"pet": {"kind": "cat"}, "heat": "x", "rooms": [200]}, "", ["heat:", "rooms.0: are too many"]),
    ],
)
def test_rules_that_join_keys_are_checked_on_what_is_left(
    data: dict[str, object], basis: str, said: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        validated(Home, data, check=no_heat, basis=basis)
    found = str(caught.value).splitlines()
    assert len(found) == len(said)
    assert all(line.startswith(begin) for line, begin in zip(found, said, strict=True)), found


def test_a_long_value_does_not_bury_the_message() -> None:
    assert len(message({"pet": {"kind": "cat"}, "rooms": "x" * 1000})) < 200


def test_near_matches_offers_what_was_meant() -> None:
    assert near_matches("sparsty", ["sparsity", "steps"]) == "; did you mean sparsity?"
    assert near_matches("zzz", ["a", "b"]) == "; known: a, b"
    assert near_matches("zzz", [str(number) for number in range(99)]) == ""


TEXT = st.text(max_size=12) | st.sampled_from(["\x85 a", "a\u2028b", "\ufeff", "a\n", "- a", "#", "a: b"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
TREES = st.dictionaries(
    TEXT,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=8,
    ),
    min_size=1,
    max_size=4,
)


@given(TREES)
@settings(deadline=None)
def test_what_is_written_reads_back(tree: dict[str, object]) -> None:
    assert parse_yaml(dump_yaml(tree)) == tree


@pytest.mark.parametrize("text", ["on", "yes", "012", "1e5", "true", "~", "1.5", "0x1", "2020-01-01", ".inf"])
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    assert parse_yaml(dump_yaml({"key": text})) == {"key": text}


@given(st.recursive(st.text() | st.integers() | st.booleans() | st.none(), st.lists, max_leaves=4))
def test_a_value_on_one_line_reads_back_whatever_stands_around_it(value: object) -> None:
    line = yaml_value(value)
    assert len(line.splitlines()) == 1
    assert parse_value(line, key="k") == value
    assert parse_yaml(f"a:\n    b: {line}  # why\nc: 1") == {"a": {"b": value}, "c": 1}


@pytest.mark.parametrize("line", ["{a: 1, a: 2}", "{b: {a: 1, a: 2}}", "{1: x}", "[{a: 1, 2: 3}]"])
def test_keys_of_an_option_are_texts_that_stand_once(line: str) -> None:
    with pytest.raises(ConfigError, match=r"stands twice|a key must be text") as caught:
        parse_value(line, key="--set")
    assert caught.value.key == "--set"
    assert "line" not in caught.value.rule


def _ten(letter: str) -> str:
    return ", ".join([f"*{letter}"] * 10)


_LETTERS = "abcdefghij"
LISTS = "a: &a [x]\n" + "".join(
    f"{one}: &{one} [{_ten(before)}]\n" for before, one in itertools.pairwise(_LETTERS)
)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (LISTS, "has more than 50,000 keys and values, aliases included"),
        (f"a: &a {'x' * 500_000}\nb: [{', '.join(['*a'] * 9000)}]", "has more than 50,000 keys and values"),
        ("".join(f"k{one}: 1\n" for one in range(30_000)), "has more than 50,000 keys and values"),
        ("".join(f"k{one}: 1\n" for one in range(300_000)), "has more than 1 MiB: it is something else"),
        ("a: &a [*a]", "1:8: the alias a stands inside of what it names"),
        ("a: &a {b: 1}\nc: {!!merge <<: *a}", "2:5: the tag tag:yaml.org,2002:merge is not known here"),
        (f"a: {'9' * 5000}", "1:4: is a number of more than 100 digits"),
        (f"a: 0x{'f' * 5000}", "1:4: is a number of more than 100 digits"),
        ("a: !!bool perhaps", "1:4: perhaps is not of the kind of its tag, bool"),
        ("a: !!int many", "1:4: many is not of the kind of its tag, int"),
        ("a: !!timestamp x", "1:4: the tag tag:yaml.org,2002:timestamp is not known here"),
        ("a: !!map [1]", "1:4: the tag tag:yaml.org,2002:map is not known here"),
        ("a: !!set {x}", "1:4: the tag tag:yaml.org,2002:set is not known here"),
        (f"a: {'[' * 20_000}", "is nested deeper than 50 levels"),
        ("{a: " * 20_000, "is nested deeper than 50 levels"),
        ('a: "\\UFFFFFFFF"', "is not YAML"),
        ('a: "\\ud800"', "1:4: holds half of a pair of surrogates"),
    ],
    ids=lambda text: text[:20],
)
def test_what_a_text_may_ask_for_is_limited_while_it_is_read(text: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(rule)):
        parse_yaml(text, file="a.yaml")


def test_aliases_and_known_tags_are_read() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: !!float 1\nd: !!str 2\ne: !!null ~") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": 1.0,
        "d": "2",
        "e": None,
    }


def test_no_more_of_a_file_is_read_than_a_file_may_have() -> None:
    if Path("/dev/zero").exists():
        with pytest.raises(ConfigError, match="has more than 1 MiB"):
            read_yaml(Path("/dev/zero"))


def test_of_many_mistakes_the_first_are_said() -> None:
    said = message({f"k{one}": 1 for one in range(20_000)}).splitlines()
    assert len(said) == 51
    assert said[-1] == "has more mistakes than the first 50, which are above"


def test_a_value_is_redacted_before_it_is_cut() -> None:
    url = f"postgresql://someone:{'hunter2' * 20}@host/db"
    assert "hunter2" not in message({"pet": {"kind": "dog", "name": [url]}})


def test_what_is_shown_of_a_wrong_value_has_no_secret() -> None:
    long = f"postgresql://u:{'x' * 2700}@h/db"
    for value in ({"password": ["hunter2", "x"]}, [long]):
        shown = str(ConfigError("is wrong", value=module._shown(value)))
        assert "hunter2" not in shown
        assert "xxxx" not in shown


def test_fifty_mistakes_name_the_file_and_their_places(tmp_path: Path) -> None:
    def check(content: Mapping[str, object]) -> None:
        mistakes = Mistakes()
        for key in content:
            with mistakes.noted():
                raise ConfigError("is wrong", key=key)

    file = tmp_path / "many.yaml"
    file.write_text("".join(f"key{number}: 1\n" for number in range(200)))
    with pytest.raises(ConfigError) as caught:
        module.checked(file, check)
    first = caught.value.each[0]
    assert (str(first.file), first.at) == (str(file), (1, 1))
