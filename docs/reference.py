"""Writes the pages of reference from the code: the keys of YAML files, the commands, the Python API.

``docs/hooks.py`` adds them to the site when it is built, so no copy of them can be out of date.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SCHEMA = ROOT / "studies" / "schema.json"
PACKAGE = ROOT / "painvrl"
Schema = dict[str, Any]


def plain(text: str) -> str:
    """A docstring's markup as Markdown."""
    return re.sub(r"``([^`]*)``", r"`\1`", re.sub(r":\w+:`~?([^`]*)`", r"`\1`", text))


# ---------------------------------------------------------------------------------------------- keys


def named(schema: Schema) -> list[str]:
    """The definitions that a value may be one of, in order."""
    found = [schema["$ref"].rpartition("/")[2]] if "$ref" in schema else []
    for inner in [*schema.get("oneOf", ()), *schema.get("anyOf", ()), schema.get("items"), _rest(schema)]:
        found += named(inner) if isinstance(inner, dict) else []
    return found


def _rest(schema: Schema) -> object:
    return schema.get("additionalProperties")


def kind(schema: Schema) -> str:
    """What a value may be, in words: its type, its choices, its bounds."""
    if "$ref" in schema:
        return f"[{(name := schema['$ref'].rpartition('/')[2])}](#{name.lower()})"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(kind(one) for one in schema[several]))
    if schema.get("type") == "array" and isinstance(schema.get("items"), dict):
        return f"list of {kind(schema['items'])}"
    if isinstance(rest := _rest(schema), dict):
        return f"names, each with {kind(rest)}"
    bounds = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    limits = [f"{words} {schema[bound]}" for bound, words in bounds.items() if bound in schema]
    return ", ".join([str(schema.get("type", "anything")), *limits])


def cell(text: str) -> str:
    """A text as a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def rows(definition: Schema) -> Iterator[str]:
    """A table of a definition's keys."""
    required = definition.get("required", ())
    yield from ("| key | value | default | meaning |", "| --- | --- | --- | --- |")
    for key, schema in definition["properties"].items():
        default = "required" if key in required else ""
        if "default" in schema:
            default = f"`{json.dumps(schema['default'])}`"
        meaning = plain(schema.get("description", ""))
        yield f"| `{key}` | {cell(kind(schema))} | {cell(default)} | {cell(meaning)} |"


def keys(schema: Schema) -> str:
    """The page of all keys: the files first, then every group of keys in the order of its first mention."""
    known: dict[str, Schema] = schema["$defs"]
    waiting, done = [named({"$ref": schema[part]["$ref"]})[0] for part in ("else", "then")], list[str]()
    while waiting:
        name = waiting.pop(0)
        if name in done:
            continue
        done.append(name)
        inner = known[name]
        waiting = [one for value in inner.get("properties", {}).values() for one in named(value)] + waiting
        waiting += named(inner)
    lines = [
        "# Keys of YAML files",
        "",
        "Made from `studies/schema.json`, which `painvrl study schema` prints.",
        "A file with the key `ablation` is an [AblationSpec](#ablationspec).",
        "Any other study is a [StudySpec](#studyspec). `painvrl train` takes a [TrainConfig](#trainconfig).",
    ]
    for name in done:
        inner = known[name]
        lines += [
            "",
            f"## {name}",
            "",
            plain(inner.get("description", "")).strip(),
            "",
        ]
        if name == "Space":  # its values are all alike
            lines += ["Every path that a study can search:", ""]
            lines += [f"- `{path}`" for path in inner["properties"]]
        elif "properties" in inner:
            lines += rows(inner)
        else:
            lines.append(f"One of: {kind(inner)}.")
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------ commands


def commands() -> dict[str, str]:
    """The help of every command by its words, as ``--help`` prints it."""
    import typer.main
    from typer.testing import CliRunner

    from painvrl.cli import app

    def below(group: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, command in group.commands.items():
            yield (*words, name)
            if hasattr(command, "commands"):
                yield from below(command, (*words, name))

    helps = {}
    for words in [(), *below(typer.main.get_command(app), ())]:
        done = CliRunner().invoke(app, [*words, "--help"], prog_name="painvrl", env={"COLUMNS": "100"})
        helps[" ".join(["painvrl", *words])] = done.stdout.strip()
    return helps


def command_page() -> str:
    """The page of all commands."""
    lines = ["# Commands", "", "What `--help` prints. See also the [exit codes](../exit-codes.md)."]
    for words, text in commands().items():
        lines += ["", f"## {words}", "", "```text", text, "```"]
    return "\n".join(lines) + "\n"


# ----------------------------------------------------------------------------------------------- API


def modules(folder: Path) -> Iterator[str]:
    """A package and all that is in it, by dotted names."""
    yield ".".join(folder.relative_to(ROOT).parts)
    for path in sorted(folder.glob("*.py")):
        if not path.stem.startswith("_"):
            yield ".".join([*folder.relative_to(ROOT).parts, path.stem])
    for inner in sorted(folder.iterdir()):
        if (inner / "__init__.py").is_file():
            yield from modules(inner)


def api() -> dict[str, str]:
    """A page for each part of the package, by its name."""
    parts = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    pages = {
        "index": "# Python API\n\nMade from the docstrings; the [architecture](../../architecture.md) says "
        "what lies where.\n\n::: painvrl\n\n"
        + "\n".join(f"- [painvrl.{one}]({one}.md)" for one in parts)
        + "\n"
    }
    for part in parts:
        listed = "\n\n".join(f"::: {module}" for module in modules(PACKAGE / part))
        pages[part] = f"# painvrl.{part}\n\n{listed}\n"
    return pages


def pages() -> dict[str, str]:
    """Every page by its path in the site."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    found = {"reference/keys.md": keys(schema), "reference/commands.md": command_page()}
    found |= {f"reference/api/{name}.md": text for name, text in api().items()}
    for name in ("CONTRIBUTING", "CHANGELOG"):
        found[f"{name.lower()}.md"] = (
            (ROOT / f"{name}.md").read_text(encoding="utf-8").replace("](docs/", "](")
        )
    return found
