from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import torch
from pydantic import ValidationError

from painvrl.core import registry as module
from painvrl.core.errors import ConfigError
from painvrl.core.registry import NameIn, Registry, SettingsIn
from painvrl.core.settings import Settings
from painvrl.run.pretrained import numbers_of


class Circle(Settings):
    kind: Literal["circle"] = "circle"
    radius: float = 1.0


class Square(Settings):
    kind: Literal["square"] = "square"
    side: float = 1.0


class Triangle(Settings):
    kind: Literal["triangle"] = "triangle"
    height: float = 1.0


SHAPES = Registry[Any]("shape", group="painvrl.example_shapes", named_by="kind")


class Drawing(Settings):
    shape: Annotated[Settings, SettingsIn(SHAPES)]
    other: Annotated[Settings, SettingsIn(SHAPES, by_name=True)] = Circle()
    name: Annotated[str, NameIn(SHAPES)] = "circle"


class Written(Settings):
    """What :class:`Drawing` is while there are the first two shapes, written out."""

    shape: Annotated[Circle | Square, module.Field(discriminator="kind")]
    other: Settings = Circle()
    name: Literal["circle", "square"] = "circle"


@pytest.fixture(autouse=True)
def shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SHAPES, "_entries", {})
    monkeypatch.setattr(SHAPES, "_is_complete", False)
    SHAPES.register(Circle)
    SHAPES.register(Square)


def offer(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    points = [EntryPoint(name=value, value=value, group=SHAPES.group) for value in values]
    monkeypatch.setattr(module, "entry_points", lambda *, group: points if group == SHAPES.group else [])


def test_names_come_in_the_order_of_registration() -> None:
    assert SHAPES.names() == ("circle", "square")
    assert SHAPES.get("square") is Square


def test_a_name_is_of_one_choice() -> None:
    class Ring(Settings):
        kind: Literal["circle"] = "circle"

    assert SHAPES.register(Circle) is Circle, "again"
    with pytest.raises(ValueError, match="another shape called 'circle'"):
        SHAPES.register(Ring)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"is no shape; known: circle, square \(found 'ring'\)"):
        SHAPES.get("ring")


def test_an_entry_point_adds_a_choice_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def points(*, group: str) -> list[EntryPoint]:
        asked.append(group)
        return [EntryPoint(name="triangle", value=f"{__name__}:Triangle", group=group)]

    monkeypatch.setitem(module.__dict__, "entry_points", points)
    monkeypatch.setitem(__import__("sys").modules, __name__, _as_module())
    assert SHAPES.get("circle") is Circle
    assert asked == [], "what painvrl has itself costs no search"
    assert SHAPES.get("triangle") is Triangle
    assert SHAPES.names() == ("circle", "square", "triangle")
    assert asked == [SHAPES.group]


def _as_module() -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(Triangle=Triangle)


def test_an_entry_point_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "no_such_package:Thing")
    with pytest.raises(ConfigError, match=r"cannot be loaded as a shape.*no_such_package:Thing"):
        SHAPES.names()


@pytest.mark.parametrize(
    "content",
    [
        {"shape": {"kind": "ring"}},
        {"shape": {"radius": 1}},
        {"shape": {"kind": "circle", "side": 1}},
        {"shape": {"kind": "circle", "radius": "long"}},
        {"shape": {"kind": "circle"}, "name": "ring"},
        {"shape": {"kind": "circle"}, "name": 3},
        {"shape": 3},
    ],
)
def test_mistakes_are_reported_as_a_union_and_a_literal_report_them(content: dict[str, Any]) -> None:
    found = []
    for model in (Drawing, Written):
        with pytest.raises(ValidationError) as caught:
            model.model_validate(content)
        found.append([{**error, "ctx": None} for error in caught.value.errors(include_url=False)])
    assert found[0] == found[1]


def test_the_schema_is_that_of_a_union_and_a_literal() -> None:
    found, written = Drawing.model_json_schema(), Written.model_json_schema()
    for name in ("shape", "name"):
        assert found["properties"][name] == written["properties"][name]
    assert found["$defs"]["Square"] == written["$defs"]["Square"]


def test_a_choice_added_later_is_read_written_and_in_the_schema() -> None:
    tall = {"shape": {"kind": "triangle", "height": 2.0}}
    with pytest.raises(ValidationError):
        Drawing.model_validate(tall)
    SHAPES.register(Triangle)
    drawing = Drawing.model_validate({**tall, "other": "triangle", "name": "triangle"})
    assert drawing.shape == Triangle(height=2.0)
    assert drawing.other == Triangle()
    assert Drawing.model_validate(drawing.model_dump(mode="json")) == drawing
    assert Drawing.model_validate(drawing) == drawing
    schema = Drawing.model_json_schema()
    assert schema["properties"]["name"]["enum"] == ["circle", "square", "triangle"]
    assert "triangle" in schema["properties"]["shape"]["discriminator"]["mapping"]


def test_an_entry_point_that_cannot_be_loaded_breaks_only_what_asks_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer(monkeypatch, "no_such_module:Shape")
    drawing = Drawing.model_validate({"shape": {"kind": "square"}, "other": "circle", "name": "square"})
    assert (drawing.shape, drawing.name) == (Square(), "square")
    for content in ({"shape": {"kind": "ring"}}, {"shape": Circle(), "name": "ring"}):
        with pytest.raises(ValidationError) as error:
            Drawing.model_validate(content)
        (reported,) = error.value.errors()
        assert "circle, square (found 'ring')" in reported["msg"]
        assert "no_such_module" in reported["msg"]


def test_a_class_is_no_object() -> None:
    class Pen:
        name = "pen"

    pens = Registry[Any]("pen", group="painvrl.example_pens")
    monkeyed = module.REGISTRIES.pop()
    assert monkeyed is pens
    with pytest.raises(TypeError, match="a pen is an object; register one, and not the class Pen"):
        pens.register(Pen)
    assert pens.register(Pen()) is pens.get("pen")


def test_results_depend_on_the_code_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine() -> list[tuple[str, str]]:
        return [one for one in module.foreign_code() if one[0].startswith(SHAPES.group)]

    here = Path(__file__).read_text(encoding="utf-8")
    assert mine() == [(f"{SHAPES.group}:circle", here), (f"{SHAPES.group}:square", here)]
    monkeypatch.setattr(module.inspect, "getsource", lambda _: "edited")
    assert {source for _, source in mine()} == {"edited"}

    def typed_in(_: object) -> str:
        raise OSError

    monkeypatch.setattr(module.inspect, "getsource", typed_in)
    assert {source for _, source in mine()} == {module._NO_SOURCE}, "of this process alone"
    assert all(not name.startswith("painvrl.metrics:ndcg") for name, _ in module.foreign_code())


def test_a_key_of_what_was_trained_holds_the_code_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    before = numbers_of(torch.device("cpu"))
    monkeypatch.setattr("painvrl.run.pretrained.foreign_code", lambda: [("painvrl.metrics:rr", "edited")])
    assert numbers_of(torch.device("cpu")) != before


def test_a_new_file_of_the_package_is_found_without_being_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = tmp_path / "shapes"
    shapes.mkdir()
    (shapes / "__init__.py").write_text("", encoding="utf-8")
    (shapes / "registry.py").write_text(
        "from painvrl.core.registry import Registry\n"
        "SHAPES = Registry('shape', group='test.shapes', within='shapes')\n",
        encoding="utf-8",
    )
    (shapes / "circle.py").write_text(
        "from shapes.registry import SHAPES\nclass Circle:\n    name = 'circle'\nSHAPES.register(Circle())\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "REGISTRIES", list(module.REGISTRIES))  # this one is gone afterwards
    found = importlib.import_module("shapes.registry").SHAPES
    assert found.loaded == {}
    assert found.names() == ("circle",)
