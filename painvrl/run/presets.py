"""Presets: the methods that painvrl is compared with, as settings of its one trainer.

Each says all that makes it that method, whatever the configuration below it has chosen, and nothing else:
everything else stays as the configuration has it, so that two presets over one configuration differ in
nothing but the method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

from painvrl.core.settings import Settings

PresetName = Literal["ultragcn", "erm", "irm", "invrl", "painvrl"]

Changes: TypeAlias = Mapping[str, bool | int | float | str | None]
"""Values of hyperparameters by their path, such as ``mask.balancer``."""

_MIXTURE: Changes = {
    "environments.assignment": "soft_mixture",
    "environments.sees": "variant",
    "environments.logit_offset": "shared",
    "mask.source": "learned",
    "mask.penalty": "gradient_variance",
    "fusion.kind": "branch",
}
"""What `erm`, `irm` and `painvrl` share; they differ in the balancer alone."""

PRESETS: Mapping[PresetName, Changes] = {
    # All features, no environments and no mask.
    "ultragcn": {"mask.source": "ones", "fusion.kind": "invariant"},
    # The mask follows the risk alone.
    "erm": {**_MIXTURE, "mask.balancer": "erm"},
    # R_ERM + lambda P. P is least where every gate is closed, so `mask.sparsity` must hold the density.
    "irm": {**_MIXTURE, "mask.balancer": "fixed"},
    # As InvRL's code has it: hard EM on all features, its own penalty, and only the invariant part is kept.
    "invrl": {
        "environments.assignment": "hard_em",
        "environments.sees": "all",
        "mask.source": "learned",
        "mask.balancer": "fixed",
        "mask.penalty": "invrl",
        "fusion.kind": "invariant",
    },
    "painvrl": {**_MIXTURE, "mask.balancer": "mgda"},
}


def changes_of(preset: PresetName, assignment: str) -> Changes:
    """What a preset changes over a configuration whose environments are assigned so.

    Known environments need no mixture: what only follows or penalises them keeps ``column``.
    """
    changes = PRESETS[preset]
    if assignment == "column" and changes.get("environments.assignment") == "soft_mixture":
        return {path: value for path, value in changes.items() if path != "environments.assignment"}
    return changes


KEY = "preset"
"""The key of a configuration file that names one."""


def is_preset(name: object) -> bool:
    """Whether there is a preset of that name."""
    return name in get_args(PresetName)


def expanded(settings: Mapping[str, object]) -> dict[str, object]:
    """A configuration file's ``settings`` with the hyperparameters of the preset that it names, and without
    the name.

    What the file says itself wins over the preset; of a section that is a settings object already, that is
    what it was made with. Settings without a preset, or with an unknown one (which the configuration's own
    validation refuses), come back as they are.
    """
    tree = dict(settings)
    name = tree.get(KEY)
    if not isinstance(name, str) or not is_preset(name):
        return tree
    del tree[KEY]
    for path, value in PRESETS[name].items():  # type: ignore[index] # checked by is_preset
        section, _, hyperparameter = path.rpartition(".")
        given = tree.get(section, {})
        if isinstance(given, Settings):
            given = given.model_dump(exclude_unset=True)
        if isinstance(given, Mapping):  # anything else is the validation's to refuse
            tree[section] = {hyperparameter: value, **given}
    return tree
