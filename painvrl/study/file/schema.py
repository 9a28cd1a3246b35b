"""The JSON schema of study files: completion and checks in editors, before anything is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from painvrl.run.config import TrainConfig
from painvrl.run.hyperparameters import all_hyperparameters
from painvrl.run.presets import KEY, PRESETS
from painvrl.study.ablation.spec import BUDGET, AblationSpec
from painvrl.study.file.spec import ABLATION, StudySpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


BY_MODALITY = r"^features\.(scales\.[^.]+|decoys\.[^.]+|smooth\.[^.]+\.width)$"


def study_schema() -> dict[str, Any]:
    """The schema of a file that ``painvrl study run`` takes: a study's, or an ablation's.

    It holds the rules of single keys. Those that join several, such as that the configuration accepts
    every value of the space, are the loader's (``painvrl study validate``).
    """
    study, ablation = StudySpec.model_json_schema(), AblationSpec.model_json_schema()
    definitions = {**study.pop("$defs"), **ablation.pop("$defs")}
    described = {
        hyperparameter: {"description": _description(definitions, hyperparameter)}
        for hyperparameter in all_hyperparameters()
    }
    # By name, so that an editor offers the hyperparameters.
    for name, by_path in (
        ("Distribution", definitions["Space"]),
        ("Value", study["properties"]["points"]["items"]),
    ):
        definitions[name] = by_path["additionalProperties"]
        by_path["properties"] = {
            hyperparameter: {"$ref": f"#/$defs/{name}", **said} for hyperparameter, said in described.items()
        }
        # Those that a file itself names: a modality's.
        by_path["patternProperties"] = {BY_MODALITY: {"$ref": f"#/$defs/{name}"}}
        by_path["additionalProperties"] = False
    (variant,) = ablation["properties"]["variants"]["patternProperties"].values()
    variant["properties"] = {
        KEY: {"enum": list(PRESETS), "description": "The preset whose hyperparameters the row starts from."},
        **{
            hyperparameter: {"$ref": "#/$defs/Value", **said}
            for hyperparameter, said in described.items()
            if hyperparameter not in BUDGET
        },
    }
    variant["patternProperties"] = {BY_MODALITY: {"$ref": "#/$defs/Value"}}
    variant["additionalProperties"] = False
    return {
        "$schema": DIALECT,
        "title": "a study or an ablation of painvrl",
        "type": "object",
        "if": {"required": [ABLATION]},
        "then": {"$ref": "#/$defs/AblationSpec"},
        "else": {"$ref": "#/$defs/StudySpec"},
        "$defs": {**definitions, "StudySpec": study, "AblationSpec": ablation},
    }


def _description(definitions: Mapping[str, Any], hyperparameter: str) -> str:
    """What the section that has the hyperparameter says of it; of several variants of a section the first."""
    *sections, leaf = hyperparameter.split(".")
    found = [definitions[TrainConfig.__name__]]
    for section in sections:
        found = [
            variant
            for above in found
            for variant in _variants(above["properties"].get(section, {}), definitions)
        ]
    return next(
        str(each["properties"][leaf].get("description", "")) for each in found if leaf in each["properties"]
    )


def _variants(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The sections that a key may hold."""
    if "$ref" in schema:
        yield definitions[schema["$ref"].rpartition("/")[2]]
    for choice in [*schema.get("oneOf", ()), *schema.get("anyOf", ())]:
        yield from _variants(choice, definitions)
