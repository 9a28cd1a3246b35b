"""The schema that editors use takes what the loader takes."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.errors import ConfigError
from painvrl.core.yamlfile import dump_yaml, read_yaml
from painvrl.run.hyperparameters import all_hyperparameters
from painvrl.run.presets import PRESETS
from painvrl.study.ablation.spec import BUDGET, load_study_file
from painvrl.study.file.schema import study_schema

SCHEMA = study_schema()
TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}
BOUNDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
    "minLength": lambda value, bound: len(value) >= bound,
    "minItems": lambda value, bound: len(value) >= bound,
    "maxItems": lambda value, bound: len(value) <= bound,
    "minProperties": lambda value, bound: len(value) >= bound,
    "pattern": lambda value, bound: re.search(bound, value) is not None,
    "enum": lambda value, bound: value in bound,
    "const": lambda value, bound: value == bound,
}
ANNOTATIONS = {"title", "description", "default", "examples", "discriminator", "format", "$schema", "$defs"}
STRUCTURE = {
    *("type", "$ref", "anyOf", "oneOf", "if", "then", "else", "required", "properties", "items"),
    *("additionalProperties", "patternProperties", "prefixItems"),
}


def fits(value: Any, schema: Any) -> bool:
    """A validator of the part of JSON Schema that the schema uses; an unknown keyword is an error."""
    if isinstance(schema, bool):
        return schema
    unknown = set(schema) - ANNOTATIONS - STRUCTURE - set(BOUNDS)
    assert not unknown, unknown
    return all(_holds(value, keyword, rule, schema) for keyword, rule in schema.items())


def _holds(value: Any, keyword: str, rule: Any, schema: Mapping[str, Any]) -> bool:
    if keyword in BOUNDS:
        return not _is_bounded(value, keyword) or BOUNDS[keyword](value, rule)
    if keyword in SECTIONS and isinstance(value, dict):
        return all(fits(value[key], below) for key, below in _below(value, keyword, rule, schema))
    return RULES[keyword](value, rule, schema) if keyword in RULES else True


def _is_bounded(value: Any, keyword: str) -> bool:
    """Whether a value is of the type that a bound speaks of."""
    if keyword in {"enum", "const"}:
        return True
    if keyword in {"pattern", "minLength"}:
        return isinstance(value, str)
    if keyword == "minProperties":
        return isinstance(value, dict)
    return isinstance(value, list) if keyword.endswith("Items") else TYPES["number"](value)


SECTIONS = {"properties", "additionalProperties", "patternProperties"}
RULES: Mapping[str, Callable[[Any, Any, Mapping[str, Any]], bool]] = {
    "$ref": lambda value, rule, _: fits(value, SCHEMA["$defs"][rule.rpartition("/")[2]]),
    "type": lambda value, rule, _: TYPES[rule](value),
    "anyOf": lambda value, rule, _: any(fits(value, choice) for choice in rule),
    "oneOf": lambda value, rule, _: sum(fits(value, choice) for choice in rule) == 1,
    "if": lambda value, rule, schema: fits(value, schema["then" if fits(value, rule) else "else"]),
    "required": lambda value, rule, _: not isinstance(value, dict) or set(rule) <= set(value),
    "prefixItems": lambda value, rule, _: not isinstance(value, list) or all(map(fits, value, rule)),
    "items": lambda value, rule, _: not isinstance(value, list) or all(fits(one, rule) for one in value),
}


def _below(
    value: dict[str, Any], keyword: str, rule: Any, schema: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    for key in value:
        named = key in schema.get("properties", {})
        matched = [
            below for pattern, below in schema.get("patternProperties", {}).items() if re.search(pattern, key)
        ]
        if keyword == "properties" and named:
            yield key, rule[key]
        elif keyword == "patternProperties":
            yield from ((key, below) for below in matched)
        elif keyword == "additionalProperties" and not named and not matched:
            yield key, rule


def loads(path: Path, content: Any) -> bool:
    path.write_text(dump_yaml(content), encoding="utf-8")
    try:
        load_study_file(path)
    except ConfigError:
        return False
    return True


def shipped() -> list[Path]:
    return sorted((Path(__file__).parents[3] / "studies").glob("*.yaml"))


def test_the_shipped_schema_is_up_to_date(repository: Path) -> None:
    text = (repository / "studies" / "schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == SCHEMA, "painvrl study schema > studies/schema.json"


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_a_shipped_study_names_the_schema_and_fits_it(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=schema.json"
    assert (path.parent / first.partition("$schema=")[2]).exists()
    assert fits(read_yaml(path), SCHEMA)
    load_study_file(path)


def _paths(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the sections and values of a file are."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from _paths(value, (*above, key))


@pytest.mark.slow
@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_the_schema_and_the_loader_refuse_the_same_mistakes_of_a_key(path: Path, tmp_path: Path) -> None:
    content = read_yaml(path)
    file = tmp_path / path.name
    tried = 0
    for place in _paths(content):
        for mistake in ("unknown", "kind", "missing"):
            broken: Any = copy.deepcopy(content)
            branch = broken
            for key in place[:-1]:
                branch = branch[key]
            here = branch[place[-1]]
            if mistake == "unknown" and place[-1] in {"decoys", "scales"}:
                continue  # whose names are free
            if mistake == "kind" and place[-1] == "bins":
                continue  # a list of one edge
            if mistake == "unknown" and isinstance(here, dict):
                here["no_such_key"] = 1
            elif mistake == "kind" and place[0] == "variants" and len(place) == 3 and place[2] != "preset":
                continue  # the kind of a hyperparameter's value is the config's to say
            elif mistake == "kind":
                branch[place[-1]] = 17 if isinstance(here, str | list | dict) else [here]
            elif mistake == "missing" and place[-1] in {
                "study",
                "ablation",
                "objectives",
                "name",
                "type",
                "space",
            }:
                del branch[place[-1]]
            else:
                continue
            tried += 1
            assert fits(broken, SCHEMA) is loads(file, broken) is False, (place, mistake)
    assert tried > 20


def test_a_file_with_everything_in_it_fits(spec_tree: dict[str, Any], tmp_path: Path) -> None:
    spec_tree["study"] |= {"timeout": 60, "trial_timeout": 5.5, "stall": {"trials": 9}, "sampler": "auto"}
    spec_tree["space"]["mask.steps"] = {"type": "fixed", "value": 5, "when": {"fusion.kind": ["branch"]}}
    spec_tree["space"]["mask.sparsity"]["when"] = {"fusion.kind": "branch"}
    spec_tree["points"] = [{"fusion.kind": "branch", "mask.sparsity": 0.5}]
    spec_tree["presets"] = ["irm"]
    spec_tree["constraints"] = [{"metric": "time", "max": 9}, {"metric": "iid/ndcg_at_20", "min": 0.1}]
    for pruning in (True, {"eta": 2}):
        spec_tree["pruning"] = pruning
        assert fits(spec_tree, SCHEMA)
        assert loads(tmp_path / "all.yaml", spec_tree)


def test_the_schema_names_what_a_row_of_an_ablation_may_turn() -> None:
    (variant,) = SCHEMA["$defs"]["AblationSpec"]["properties"]["variants"]["patternProperties"].values()
    assert set(variant["properties"]) == {"preset", *all_hyperparameters()} - set(BUDGET)
    assert variant["properties"]["preset"]["enum"] == list(PRESETS)
    assert variant["additionalProperties"] is False


def test_the_schema_names_every_hyperparameter_for_completion() -> None:
    assert set(SCHEMA["$defs"]["Space"]["properties"]) == set(all_hyperparameters())
    points = SCHEMA["$defs"]["StudySpec"]["properties"]["points"]["items"]
    assert set(points["properties"]) == set(all_hyperparameters())


def _properties(schema: Any, above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every key that the schema knows, with what it says of it."""
    if isinstance(schema, dict):
        yield from ((f"{above}.{key}", one) for key, one in schema.get("properties", {}).items())
        for name, below in schema.items():
            sections = below if name in SECTIONS | {"$defs"} and isinstance(below, dict) else {"": below}
            for key, one in sections.items():
                yield from _properties(one, f"{above}.{key}")
    elif isinstance(schema, list):
        for one in schema:
            yield from _properties(one, above)


def test_the_schema_describes_every_key_in_short_sentences() -> None:
    described = dict(_properties(SCHEMA))
    assert len(described) > 300
    for key, one in described.items():
        text = re.sub(r"``[^`]*``", "code", one.get("description", ""))
        assert re.fullmatch(r"\S.*\.", text), key
        for sentence in re.split(r"(?<=[.!?])\s+", text):
            assert len(re.findall(r"\S*\w\S*", sentence)) < 25, (key, sentence)


def test_a_hyperparameter_is_described_as_in_its_section() -> None:
    definitions = SCHEMA["$defs"]
    said = definitions["MaskConfig"]["properties"]["sparsity"]["description"]
    points = definitions["StudySpec"]["properties"]["points"]["items"]
    (row,) = definitions["AblationSpec"]["properties"]["variants"]["patternProperties"].values()
    for schema in (definitions["Space"], points, row):
        assert schema["properties"]["mask.sparsity"]["description"] == said
        assert schema["properties"]["rounds" if schema is not row else "preset"]["description"]
