"""YAML files as settings, and every mistake in them as one line: file, line, column, key, rule and value.

The loader follows YAML 1.2's core schema where PyYAML follows 1.1: ``1e-5`` is a number, ``on``,
``off``, ``yes`` and ``no`` are strings, ``012`` is twelve, and a key that stands twice is an error.

What a file may ask for is limited while it is read: its bytes, its values (those behind an alias count each
time), their depth, and the digits of a number.
"""

from __future__ import annotations

import copy
import difflib
import functools
import itertools
import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from painvrl.core.errors import ConfigError, Mistakes
from painvrl.core.renamed import new_choice, new_name
from painvrl.core.shown import hidden, redacted

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

S = TypeVar("S", bound=BaseModel)
T = TypeVar("T")

MOST_BYTES = 1 << 20
MOST_VALUES = 50_000
"""Keys and values of a file; a long text counts as several."""
MOST_DEPTH = 50
MOST_DIGITS = 100
_LONG_TEXT = 64  # characters that count as one value

_SHOWN_VALUE = 80  # characters; a whole section as "found" would bury the message
_LOOKED_AT = 20_000  # far more than is shown, and a password at most
_ROUNDS = 5  # of taking out what is wrong: a part, then the section that lacks it
_MANY = 100  # choices in place of wrong ones: trying more would take seconds
_NO_SECTION = {"model_type", "dict_type", "model_attributes_type"}


def load_settings(path: Path, model: type[S]) -> S:
    """Read a YAML file as ``model``.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or breaks rules of ``model``.
    """
    return checked(path, lambda content: validated(model, content))


def checked(path: Path, check: Callable[[dict[str, object]], T]) -> T:
    """What ``check`` makes of the content of a YAML file.

    Raises:
        ConfigError: the file cannot be read or is not YAML; or all keys that stand twice and all that
            ``check`` finds wrong, each with its line and column. What ``check`` says of an option stays so.
    """
    text = _text_of(path)
    content, mistakes = _parsed(text, path)
    try:
        made = check(content)
    except ConfigError as error:
        mistakes.found += error.each
    else:
        if not mistakes.found:
            return made
    root = yaml.compose(text, Loader=_Loader)
    mistakes.found = sorted(
        (_placed(mistake, path, root) for mistake in mistakes.found), key=lambda one: one.at or (0, 0)
    )
    raise mistakes.whole()


def read_yaml(path: Path) -> dict[str, object]:
    """The mapping that a YAML file holds.

    Raises:
        ConfigError: the file is missing, unreadable, not UTF-8, not YAML, or not a mapping.
    """
    return parse_yaml(_text_of(path), file=path)


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if path.suffix in (".csv", ".tsv", ".parquet"):
            rule = f"is a table; `painvrl init {path}` writes the file of a study of it"
            raise ConfigError(rule, file=path)
        return content.decode("utf-8") if len(content) <= MOST_BYTES else " " * len(content)
    except FileNotFoundError:
        beside = {one.stem: one for folder in (path.parent, Path("studies")) for one in folder.glob("*.y*ml")}
        near = difflib.get_close_matches(path.stem, beside, n=1)
        meant = f"; did you mean {beside[near[0]]}?" if near else ""
        raise ConfigError(f"no such file{meant}", file=path) from None
    except UnicodeDecodeError:
        raise ConfigError("must be UTF-8 text", file=path) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=path) from None


def parse_yaml(text: str, *, file: object = None) -> dict[str, object]:
    """The mapping that a YAML text holds; ``file`` is named in errors.

    Raises:
        ConfigError: see :func:`read_yaml`.
    """
    data, mistakes = _parsed(text, file)
    mistakes.raise_all()
    return data


def _parsed(text: str, file: object) -> tuple[dict[str, object], Mistakes]:
    """The mapping, and what of its keys is wrong: of equal ones the last is in it, and only texts are."""
    mistakes = Mistakes()
    if len(text) > MOST_BYTES:
        raise ConfigError(f"has more than {MOST_BYTES >> 20} MiB: it is something else", file=file)
    try:
        loader = _Loader(text)
        data = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = None if mark is None else _at(mark)
        raise ConfigError(str(error.problem or error.context), file=file, at=at) from None
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:  # of escapes, for one
        raise ConfigError(f"is not YAML: {str(error).splitlines()[0]}", file=file) from None
    mistakes.found = [ConfigError(rule, file=file, at=_at(mark)) for rule, mark in loader.wrong_keys]
    if data is None:
        raise ConfigError("is empty; it must hold keys and values", file=file)
    if not isinstance(data, dict):
        raise ConfigError("must hold keys and values", file=file, value=_shown(data))
    return data, mistakes


def _at(mark: yaml.Mark) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _placed(mistake: ConfigError, path: Path, root: yaml.Node | None) -> ConfigError:
    """``mistake`` with the file, and the place of its key there: or of the section that lacks it."""
    rest = mistake.key or ""
    if mistake.file is not None or mistake.at is not None or root is None or rest.startswith("--"):
        return mistake
    node = root
    at = _at(root.start_mark) if rest else None
    while rest:
        if isinstance(node, yaml.MappingNode):  # a key may hold dots
            inside = {key.value: (key, value) for key, value in node.value if isinstance(key.value, str)}
            name = max((one for one in inside if f"{rest}.".startswith(f"{one}.")), key=len, default=None)
            if name is None:
                break
            marked, node = inside[name]
            rest = rest[len(name) + 1 :]
        elif isinstance(node, yaml.SequenceNode):
            position, _, rest = rest.partition(".")
            if not position.isdecimal() or int(position) >= len(node.value):
                break
            marked = node = node.value[int(position)]
        else:
            break
        at = _at(marked.start_mark)
    return ConfigError(mistake.rule, file=path, key=mistake.key, value=mistake.value, at=at)


def parse_value(text: str, *, key: str) -> object:
    """The value that a YAML text holds, read as a file would be; ``key`` is named in errors.

    Raises:
        ConfigError: it is not YAML.
    """
    try:
        loader = _Loader(text)
        value: object = loader.get_single_data()
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"is not YAML: {problem}", key=key, value=_shown(text)) from None
    for rule, _ in loader.wrong_keys:
        raise ConfigError(rule.partition("; first on")[0], key=key, value=_shown(text))
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


def validated(
    model: type[S],
    data: Mapping[str, object],
    *,
    file: object = None,
    prefix: str = "",
    check: Callable[[S], None] | None = None,
    basis: str = "",
) -> S:
    """``data`` as ``model``.

    Args:
        model: the settings.
        data: what a file holds.
        file: is named in errors.
        prefix: is put before the keys that errors name.
        check: rules that join several keys. It is also asked about what is left of ``data`` without its
            mistakes, so that all are found at once.
        basis: the section by which ``check`` judges the others. Where a choice in it is wrong, what is said
            of the others would be wrong with any choice.

    Raises:
        ConfigError: all broken rules.
    """
    try:
        made = model.model_validate(data)
    except ValidationError as error:
        mistakes = Mistakes()
        mistakes.found += config_error(error, model, data, file=file, prefix=prefix).each
        if check is not None and len(mistakes.found) < Mistakes.MOST:
            mistakes.found += _further(error, model, data, check, basis)
        mistakes.raise_all()
        raise
    if check is not None:
        check(made)
    return made


def config_error(
    error: ValidationError,
    model: type[BaseModel],
    data: Mapping[str, object],
    *,
    file: object = None,
    prefix: str = "",
) -> ConfigError:
    """The report of pydantic on ``data``: one :class:`ConfigError`, which may hold several."""
    details = error.errors(include_url=False)
    # An unknown key first: a misspelt one shows up as a missing one, too.
    details.sort(key=lambda detail: detail["type"] != "extra_forbidden")
    details = details[: Mistakes.MOST + 1]
    paths = [_key_path(detail, data) for detail in details]
    unknown = [
        one for one, detail in zip(paths, details, strict=True) if one and detail["type"] == "extra_forbidden"
    ]
    mistakes, seen = Mistakes(), set[tuple[str, ...]]()
    schema = functools.cache(model.model_json_schema)  # it takes long, and not all mistakes need it
    for path, detail in zip(paths, details, strict=True):
        beside = [one[-1] for one in unknown if one[:-1] == path[:-1]]
        misspelt = detail["type"] == "missing" and difflib.get_close_matches(path[-1], beside)
        is_below = any(len(one) > len(path) and one[: len(path)] == path for one in paths)
        if path in seen or misspelt or is_below:  # said twice
            continue
        seen.add(path)
        rule, key = _rule(detail, schema, _dotted(path, "")), _dotted(path, prefix) or None
        mistakes.found.append(ConfigError(rule, file=file, key=key, value=_found(detail)))
    return mistakes.whole()


def _further(
    error: ValidationError,
    model: type[S],
    data: Mapping[str, object],
    check: Callable[[S], None],
    basis: str,
) -> list[ConfigError]:
    """What ``check`` finds wrong in ``data`` without what ``error`` names, and says nothing of that.

    A wrong choice in ``basis`` might be any of its choices: what is wrong with each of them is named. Nothing
    is found where the rest is no model.
    """
    details = {_key_path(detail, data): detail for detail in error.errors(include_url=False)}
    choices = {
        path: found
        for path, one in details.items()
        if path[:1] == (basis,) and isinstance(_within(dict(data), path), dict) and (found := _choices(one))
    }
    if math.prod(map(len, choices.values())) > _MANY:
        return []
    every: list[dict[tuple[str | None, str], ConfigError]] = []
    for chosen in itertools.product(*choices.values()):
        tree: dict[str, Any] = copy.deepcopy(dict(data))
        for path, choice in zip(choices, chosen, strict=True):
            _within(tree, path)[path[-1]] = choice
        if (mistakes := _left(model, tree, check, basis)) is not None:
            every.append({(one.key, str(one.value)): one for one in mistakes})
    return [one for key, one in every[0].items() if all(key in other for other in every)] if every else []


def _left(
    model: type[S], tree: dict[str, Any], check: Callable[[S], None], basis: str
) -> list[ConfigError] | None:
    """What ``check`` finds in what is left of ``tree`` without its mistakes; ``None`` if that is no model."""
    kept: dict[tuple[str, ...], list[int]] = {}  # of each list that lost entries, those that are left
    gone: list[str] = []
    for _ in range(_ROUNDS):
        try:
            left = model.model_validate(tree)
            break
        except ValidationError as error:
            details = error.errors(include_url=False)
        paths = set()
        for detail in details:
            path, kind = _key_path(detail, tree), detail["type"]
            is_section = isinstance(detail["input"], Mapping) or kind in _NO_SECTION
            if path[:1] == (basis,) and kind != "extra_forbidden" and (is_section or _choices(detail)):
                return None  # what would be judged is a default that the file does not have
            paths.add(path[:-1] if kind == "missing" else path)
        for path in sorted(paths, reverse=True):  # later entries of a list first
            if not path or not _removed(tree, path, kept):
                return None
            gone.append(path[-1])
    else:
        return None
    mistakes = Mistakes()
    with mistakes.noted():
        check(left)
    return [
        ConfigError(one.rule, key=_renumbered(one.key or "", kept), value=one.value)
        for one in mistakes.found
        if not any((one.key or "").endswith(f".{name}") for name in gone if not name.isdecimal())
    ]


def _choices(detail: ErrorDetails) -> list[str]:
    """Those that there are, where a wrong one is the mistake."""
    listed = {"literal_error": "expected", "union_tag_invalid": "expected_tags"}.get(detail["type"])
    return re.findall(r"'([^']*)'", detail["ctx"][listed]) if listed else []


def _within(tree: dict[str, Any], path: tuple[str, ...]) -> Any:
    """What holds the last piece of ``path``."""
    here: Any = tree
    for piece in path[:-1]:
        here = here[int(piece) if isinstance(here, list) else piece]
    return here


def _removed(tree: dict[str, Any], path: tuple[str, ...], kept: dict[tuple[str, ...], list[int]]) -> bool:
    """Remove what ``path`` leads to, if it is there."""
    here = _within(tree, path)
    if isinstance(here, list):
        kept.setdefault(path[:-1], list(range(len(here)))).pop(int(path[-1]))
        del here[int(path[-1])]
        return True
    return isinstance(here, dict) and here.pop(path[-1], path) is not path


def _renumbered(key: str, kept: Mapping[tuple[str, ...], list[int]]) -> str:
    """``key`` with the numbers that entries of lists had before others were removed."""
    for path, positions in kept.items():
        before, _, rest = key.partition(f"{'.'.join(path)}.")
        position, dot, below = rest.partition(".")
        if not before and position.isdecimal():
            return ".".join((*path, str(positions[int(position)]))) + dot + below
    return key


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean ...?`` for a misspelt word, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def near_matches(word: str, known: Iterable[str]) -> str:
    """``; did you mean ...?`` for a misspelt word, or the known words if few, or nothing."""
    known = list(known)
    if meant := did_you_mean(word, known):
        return meant
    return f"; known: {', '.join(known)}" if 0 < len(known) <= 20 else ""


def _found(detail: ErrorDetails) -> object:
    if detail["type"] == "union_tag_invalid":
        return detail["ctx"]["tag"]
    silent = {"missing", "extra_forbidden", "union_tag_not_found"}
    return None if detail["type"] in silent else _shown(detail["input"])


def _rule(detail: ErrorDetails, schema: Callable[[], Mapping[str, Any]], path: str) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        if (now := new_name(path)) is not None:
            return f"is named {now} now; rename it"
        key = str(detail["loc"][-1])
        known, elsewhere = _properties(schema(), detail["loc"][:-1], key)
        return elsewhere or "is not a known key" + near_matches(key, known)
    if kind in {"missing", "union_tag_not_found"}:
        return "is missing"
    if kind == "union_tag_invalid":
        return "is not a known choice" + near_matches(str(context["tag"]), _choices(detail))
    if kind in _NO_SECTION:
        return "must hold keys and values"
    if (choice := new_choice(path, detail["input"])) is not None:
        return f"is named {choice} now; rename it"
    # ValueErrors of our validators are sentences already; pydantic's start with "Input should".
    message = detail["msg"].removeprefix("Value error, ")
    message = message.replace("Input should", "must").replace("must be a valid", "must be a")
    message = message.replace("must be a integer", "must be an integer")
    choices = re.findall(r"'([^']*)'", str(context.get("expected", "")))
    return message + did_you_mean(str(detail["input"]), choices)


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
    # Before it is cut to what is shown: half a URL would not be known for one.
    value = hidden(value)
    text = redacted(repr(value)[:_LOOKED_AT])
    return value if len(text) <= _SHOWN_VALUE else f"{text[:_SHOWN_VALUE]}..."


def _properties(schema: Mapping[str, Any], location: Sequence[int | str], key: str) -> tuple[list[str], str]:
    """Keys that a model's JSON schema knows at pydantic's location (union tags included).

    Also, where that is one choice of several and others have ``key``: which.
    """
    definitions = schema.get("$defs", {})

    def resolve(node: Mapping[str, Any]) -> Mapping[str, Any]:
        reference = node.get("$ref")
        if reference:
            return resolve(definitions[reference.rsplit("/", 1)[-1]])
        sections = [choice for choice in node.get("anyOf", []) if "$ref" in choice]
        return resolve(sections[0]) if len(sections) == 1 else node

    node, elsewhere = resolve(schema), ""
    for piece in location:
        choice = node.get("discriminator", {})
        tags = choice.get("mapping", {})
        if piece in definitions and "properties" in node:
            continue  # the one section of a union, which `resolve` has entered
        elsewhere = ""
        if piece in node.get("properties", {}):
            node = resolve(node["properties"][piece])
        elif piece in tags:
            having = [tag for tag in tags if key in resolve({"$ref": tags[tag]}).get("properties", {})]
            name = choice.get("propertyName")
            elsewhere = f"is no key of {name} {piece}; these have it: {', '.join(having)}" if having else ""
            node = resolve({"$ref": tags[piece]})
        elif isinstance(piece, int) and isinstance(node.get("items"), Mapping):
            node = resolve(node["items"])
        elif isinstance(node.get("additionalProperties"), Mapping):
            node = resolve(node["additionalProperties"])
    return list(node.get("properties", {})), elsewhere


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2 and without duplicate keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.wrong_keys: list[tuple[str, yaml.Mark]] = []
        self._depth = 0
        self._values = 0
        self._of_anchor: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call] # PyYAML's stubs
        if isinstance(event, yaml.AliasEvent):
            anchor = str(event.anchor)
            if anchor in self.anchors and anchor not in self._of_anchor:
                raise _refused(f"the alias {anchor} stands inside of what it names", event)
            self._count(self._of_anchor.get(anchor, 0), event)
            return super().compose_node(parent, index)
        before = self._values
        self._count(1 + len(getattr(event, "value", "")) // _LONG_TEXT, event)
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise _refused(f"is nested deeper than {MOST_DEPTH} levels", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if getattr(event, "anchor", None) is not None:
            self._of_anchor[event.anchor] = self._values - before
        if node is not None:
            _check_node(node)
        return node

    def _count(self, values: int, event: yaml.Event) -> None:
        self._values += values
        if self._values > MOST_VALUES:
            raise _refused(f"has more than {MOST_VALUES:,} keys and values, aliases included", event)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Hashable, int] = {}
        for pair in list(node.value):
            key, mark = self.construct_object(pair[0], deep=True), pair[0].start_mark
            if not isinstance(key, str):
                self.wrong_keys.append((f"a key must be text; found {key!r}", mark))
                node.value.remove(pair)
                continue
            if key in seen:
                self.wrong_keys.append((f"the key {key!r} stands twice; first on line {seen[key]}", mark))
            seen[key] = mark.line + 1
        return super().construct_mapping(node, deep)

    def construct_core_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        return int(text, 0 if re.match(r"0[ox]", text) else 10)

    def construct_core_float(self, node: yaml.ScalarNode) -> float:
        return float(self.construct_scalar(node).lower().replace(".inf", "inf").replace(".nan", "nan"))


def _refused(rule: str, at: yaml.Event | yaml.Node) -> yaml.MarkedYAMLError:
    mark: Any = at.start_mark
    return yaml.MarkedYAMLError(problem=rule, problem_mark=mark)


def _check_node(node: yaml.Node) -> None:
    """Refuse a tag that does not fit its value, and texts that no file can hold."""
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    kinds = {yaml.MappingNode: ["map"], yaml.SequenceNode: ["seq"], yaml.ScalarNode: ["str", *_PATTERNS]}
    if kind not in kinds[type(node)]:
        raise _refused(f"the tag {node.tag} is not known here", node)
    if not isinstance(node, yaml.ScalarNode):
        return
    text = node.value
    if kind != "str" and not _PATTERNS[kind].match(text):
        raise _refused(f"{_shown(text)} is not of the kind of its tag, {kind}", node)
    if kind == "int" and len(text) > MOST_DIGITS:
        raise _refused(f"is a number of more than {MOST_DIGITS} digits", node)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _refused("holds half of a pair of surrogates, which is no text", node)


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
_PATTERNS = {_name: re.compile(rf"^(?:{_pattern})$") for _name, _pattern, _ in _CORE_SCHEMA}
for _name, _pattern, _first in _CORE_SCHEMA:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _PATTERNS[_name], _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_core_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_core_float)
