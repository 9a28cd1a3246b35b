"""A study's file for the user's own data, with comments: what ``painvrl init`` writes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from painvrl.core.errors import ConfigError
from painvrl.core.wholefile import write_whole
from painvrl.core.yamlfile import parse_yaml, yaml_value
from painvrl.data.proposal.entries import Entry
from painvrl.data.proposal.propose import Proposal

SCHEMA = "schema.json"
"""The file beside a study's that editors complete its keys by."""

_PAGE = """\
# yaml-language-server: $schema={schema}
# The trade-off front of {first}. Relative paths are taken from the directory that painvrl is called in,
# and the key of an .npy file from the folder of that file.
# Look at the data: painvrl data inspect {file}
# Run it: painvrl study run {file}

study:
  name: {name}
  seed: 0
  trials: 40  # in all: the presets below, the default configuration, and what the sampler finds
  sampler: auto

# Trained first, each over the configuration below, so that the front contains the known methods.
presets: [ultragcn, erm, irm, invrl, painvrl]

# Each on its own, from the valid parts; all are maximised.
objectives:
  - iid/recall_at_20
  - iid/ndcg_at_20
  - ood/recall_at_20
  - ood/ndcg_at_20

config:
  data:
{data}
  split:  # what counts as IID and as OOD: docs/splits.md
{split}
  # As in studies/movielens.yaml.
  backbone:
    content_dim: 32
    id_dropout: 0.5
    l2: 0.2
  environments:
    count: 4
  mask:
    sparsity: 0.1
    irm_weight: 30.0
  fusion:
    kind: branch
    variant_weight: 1.0
  seed: 0  # of split and initialisation together

space:
  environments.count: {{type: int, low: 2, high: 6}}
  mask.sparsity: {{type: float, low: 0.05, high: 0.95}}
  mask.irm_weight: {{type: float, low: 0.1, high: 1000.0, log: true}}
  backbone.id_dropout: {{type: float, low: 0.0, high: 0.6}}
  backbone.l2: {{type: float, low: 0.1, high: 0.6, log: true}}
  # These act after training. They are swept over each training instead of being sampled before it.
  fusion.variant_weight: {{type: float, low: 0.0, high: 1.0}}
  fusion.popularity_weight: {{type: float, low: -0.1, high: 0.02}}
  fusion.cold_weight: {{type: float, low: -0.2, high: 0.5}}

sweep: auto
"""


def name_of(text: str) -> str:
    """``text`` as the name of a study."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:100] or "own-data"


def study_file(proposal: Proposal, *, name: str, path: Path) -> str:
    """The content of a study's file; it has passed the checks of :func:`painvrl.study.file.spec.load_spec`.

    Args:
        proposal: its data and its split.
        name: of the study.
        path: where it will lie, for its comments.

    Raises:
        ConfigError: the name cannot be one.
    """
    from painvrl.study.file.spec import spec_of

    first = next(str(entry.value) for entry in proposal.data if entry.key == "path")
    page = _PAGE.format(
        schema=SCHEMA,
        first=_comment(first),
        file=_comment(path.as_posix()),
        name=yaml_value(name),
        data="\n".join(_lines(proposal.data, 4)),
        split="\n".join(_lines(proposal.split, 4)),
    )
    spec_of(parse_yaml(page, file=path))
    return page


def write_study(text: str, path: Path, *, force: bool = False) -> list[Path]:
    """Write a study's file, and beside it the schema that it names where there is none; what was written.

    Raises:
        ConfigError: there is such a file, and not ``force``.
        PlaceError: it cannot be written there.
    """
    if path.exists() and not force:
        raise ConfigError("is there already; --force overwrites it, --output names another", file=path)
    written = [write_whole(path, text, what="the study's file")]
    schema = path.parent / SCHEMA
    if not schema.exists():
        import json

        from painvrl.study.file.schema import study_schema

        written.append(write_whole(schema, json.dumps(study_schema(), indent=2) + "\n", what="the schema"))
    return written


def _lines(entries: Sequence[Entry], indent: int) -> Iterator[str]:
    for entry in entries:
        why = f"  # {_comment(entry.why)}" if entry.why else ""
        start = f"{' ' * indent}{yaml_value(entry.key)}:"
        if entry.inner:
            yield start + why
            yield from _lines(entry.inner, indent + 2)
        else:
            yield f"{start} {yaml_value(entry.value)}{why}"


def _comment(text: str) -> str:
    """On one line, whatever a file's or a column's name holds."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
