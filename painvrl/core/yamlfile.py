"""YAML files as settings, and every mistake in them as one line that names file, key, rule and value.

The loader follows YAML 1.2's core schema where PyYAML follows 1.1: ``1e-5`` is a number, ``on``,
``off``, ``yes`` and ``no`` are strings, ``012`` is twelve, and a key that stands twice is an error.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from painvrl.core.errors import ConfigError
from painvrl.core.renamed import new_choice, new_name

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

S = TypeVar("S", bound=BaseModel)

_SHOWN_VALUE = 80  # characters; a whole section as "found" would bury the message


def load_settings(path: Path, model: type[S]) -> S:
    """Read a YAML file as ``model``.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or breaks a rule of ``model``.
    """
    return validated(model, read_yaml(path), file=path)


def read_yaml(path: Path) -> dict[str, object]:
    """The mapping that a YAML file holds.

    Raises:
        ConfigError: the file is missing, unreadable, not UTF-8, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("no such file", file=path) from None
    except UnicodeDecodeError:
        raise ConfigError("must be UTF-8 text", file=path) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=path) from None
    return parse_yaml(text, file=path)


def parse_yaml(text: str, *, file: object = None) -> dict[str, object]:
    """The mapping that a YAML text holds; ``file`` is named in errors.

    Raises:
        ConfigError: see :func:`read_yaml`.
    """
    try:
        data = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else f"line {mark.line + 1}"
        raise ConfigError(str(error.problem or error.context), file=file, key=line) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"is not YAML: {str(error).splitlines()[0]}", file=file) from None
    if data is None:
        raise ConfigError("is empty; it must hold keys and values", file=file)
    if not isinstance(data, dict):
        raise ConfigError("must hold keys and values", file=file, value=_shown(data))
    return data


def parse_value(text: str, *, key: str) -> object:
    """The value that a YAML text holds, read as a file would be; ``key`` is named in errors.

    Raises:
        ConfigError: it is not YAML.
    """
    try:
        value: object = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"is not YAML: {problem}", key=key, value=text) from None
    return value


def dump_yaml(data: BaseModel | Mapping[str, object]) -> str:
    """The YAML text of settings; :func:`parse_yaml` reads an equal object back."""
    plain = data.model_dump(mode="json") if isinstance(data, BaseModel) else dict(data)
    return str(yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def yaml_value(value: object) -> str:
    """A value as it stands behind a key, on one line; :func:`parse_value` reads an equal one back."""
    text = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf, default_flow_style=True
    )
    return str(text).removesuffix("\n...\n").rstrip("\n")


def validated(model: type[S], data: Mapping[str, object], *, file: object = None, prefix: str = "") -> S:
    """``data`` as ``model``; ``prefix`` is put before the keys that errors name.

    Raises:
        ConfigError: the first broken rule, and the keys of the others.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise config_error(error, model, data, file=file, prefix=prefix) from None


def config_error(
    error: ValidationError,
    model: type[BaseModel],
    data: Mapping[str, object],
    *,
    file: object = None,
    prefix: str = "",
) -> ConfigError:
    """The report of pydantic on ``data`` as one :class:`ConfigError`."""
    details = error.errors(include_url=False)
    # An unknown key first: a misspelt one shows up as a missing one, too.
    details.sort(key=lambda detail: detail["type"] != "extra_forbidden")
    paths = [_key_path(detail, data) for detail in details]
    rule = _rule(details[0], model, _dotted(paths[0], ""))
    others = list(dict.fromkeys(path for path in paths[1:] if path != paths[0]))
    if others:
        rule += f" [also wrong: {', '.join(_dotted(path, prefix) for path in others[:4])}"
        rule += f" and {len(others) - 4} more]" if len(others) > 4 else "]"
    return ConfigError(rule, file=file, key=_dotted(paths[0], prefix) or None, value=_found(details[0]))


def near_matches(word: str, known: Iterable[str]) -> str:
    """``; did you mean ...?`` for a misspelt word, or the known words if few, or nothing."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; known: {', '.join(known)}" if 0 < len(known) <= 20 else ""


def _found(detail: ErrorDetails) -> object:
    if detail["type"] == "union_tag_invalid":
        return detail["ctx"]["tag"]
    silent = {"missing", "extra_forbidden", "union_tag_not_found"}
    return None if detail["type"] in silent else _shown(detail["input"])


def _rule(detail: ErrorDetails, model: type[BaseModel], path: str) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        if (now := new_name(path)) is not None:
            return f"is named {now} now; rename it"
        known = _properties(model.model_json_schema(), detail["loc"][:-1])
        return "is not a known key" + near_matches(str(detail["loc"][-1]), known)
    if kind in {"missing", "union_tag_not_found"}:
        return "is missing"
    if kind == "union_tag_invalid":
        tags = re.findall(r"'([^']*)'", context["expected_tags"])
        return "is not a known choice" + near_matches(str(context["tag"]), tags)
    if kind in {"model_type", "dict_type", "model_attributes_type"}:
        return "must hold keys and values"
    if (choice := new_choice(path, detail["input"])) is not None:
        return f"is named {choice} now; rename it"
    # ValueErrors of our validators are sentences already; pydantic's start with "Input should".
    message = detail["msg"].removeprefix("Value error, ")
    return message.replace("Input should", "must").replace("must be a valid", "must be a")


def _key_path(detail: ErrorDetails, data: object) -> tuple[str, ...]:
    """The keys of the file that lead to the mistake: pydantic's location without the unions' tags."""
    path: list[str] = []
    here = data
    for position, piece in enumerate(detail["loc"]):
        last = position == len(detail["loc"]) - 1
        if _leads_on(here, piece):
            here = here[piece]  # type: ignore[index] # checked by _leads_on
        elif not (last and detail["type"] == "missing"):
            continue
        path.append(str(piece))
    if detail["type"].startswith("union_tag"):
        path.append(detail["ctx"]["discriminator"].strip("'"))
    return tuple(path)


def _leads_on(here: object, piece: int | str) -> bool:
    """Whether ``here[piece]`` exists; a union's tag leads nowhere."""
    if isinstance(here, Mapping):
        return piece in here
    return isinstance(here, list | tuple) and isinstance(piece, int) and piece < len(here)


def _dotted(path: Sequence[str], prefix: str) -> str:
    return ".".join([*([prefix] if prefix else []), *path])


def _shown(value: object) -> object:
    return value if len(repr(value)) <= _SHOWN_VALUE else f"{repr(value)[:_SHOWN_VALUE]}..."


def _properties(schema: Mapping[str, Any], location: Sequence[int | str]) -> list[str]:
    """Keys that a model's JSON schema knows at pydantic's location (union tags included)."""
    definitions = schema.get("$defs", {})

    def resolve(node: Mapping[str, Any]) -> Mapping[str, Any]:
        reference = node.get("$ref")
        if reference:
            return resolve(definitions[reference.rsplit("/", 1)[-1]])
        sections = [choice for choice in node.get("anyOf", []) if "$ref" in choice]
        return resolve(sections[0]) if len(sections) == 1 else node

    node = resolve(schema)
    for piece in location:
        tags = node.get("discriminator", {}).get("mapping", {})
        if piece in definitions and "properties" in node:
            continue  # the one section of a union, which `resolve` has entered
        if piece in node.get("properties", {}):
            node = resolve(node["properties"][piece])
        elif piece in tags:
            node = resolve({"$ref": tags[piece]})
        elif isinstance(piece, int) and isinstance(node.get("items"), Mapping):
            node = resolve(node["items"])
        elif isinstance(node.get("additionalProperties"), Mapping):
            node = resolve(node["additionalProperties"])
    return list(node.get("properties", {}))


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2 and without duplicate keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            problem = None
            if not isinstance(key, str):
                problem = f"a key must be text; found {key!r}"
            elif key in seen:
                problem = f"the key {key!r} stands twice; first on line {seen[key]}"
            if problem is not None:
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            seen[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep)

    def construct_core_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        return int(text, 0 if re.match(r"0[ox]", text) else 10)

    def construct_core_float(self, node: yaml.ScalarNode) -> float:
        return float(self.construct_scalar(node).lower().replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(yaml.SafeDumper):
    """Writes what :class:`_Loader` reads: floats of every size, strings quoted where they must be."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, data: str) -> yaml.ScalarNode:
        # Plain style writes some line breaks of Unicode as they are, and reads them as spaces.
        return self.represent_scalar("tag:yaml.org,2002:str", data, None if data.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_text)

_CORE_SCHEMA = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)
for _name, _pattern, _first in _CORE_SCHEMA:
    _tag = f"tag:yaml.org,2002:{_name}"
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_core_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_core_float)
