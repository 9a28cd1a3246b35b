"""Presets: the methods that painvrl is compared with, as settings of its one trainer.

Each says only what makes it that method; everything else stays as the configuration has it, so that two
presets over one configuration differ in nothing but the method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

PresetName = Literal["ultragcn", "erm", "irm", "invrl", "painvrl"]

Changes: TypeAlias = Mapping[str, bool | int | float | str | None]
"""Values of knobs by their path, such as ``mask.balancer``."""

PRESETS: Mapping[PresetName, Changes] = {
    # All features, no environments and no mask.
    "ultragcn": {"mask.source": "ones", "fusion.kind": "invariant"},
    # The mask follows the risk alone.
    "erm": {"mask.source": "learned", "mask.balancer": "erm", "fusion.kind": "branch"},
    # R_ERM + lambda P. P is least where every gate is closed, so `mask.sparsity` must hold the density.
    "irm": {
        "environments.assignment": "soft_mixture",
        "mask.source": "learned",
        "mask.balancer": "fixed",
        "fusion.kind": "branch",
    },
    # As InvRL's code has it: hard EM on all features, its own penalty, and only the invariant part is kept.
    "invrl": {
        "environments.assignment": "hard_em",
        "environments.sees": "all",
        "mask.source": "learned",
        "mask.balancer": "fixed",
        "mask.penalty": "legacy",
        "fusion.kind": "invariant",
    },
    "painvrl": {
        "environments.assignment": "soft_mixture",
        "mask.source": "learned",
        "mask.balancer": "mgda",
        "fusion.kind": "branch",
    },
}

KEY = "preset"
"""The key of a configuration file that names one."""


def is_preset(name: object) -> bool:
    """Whether there is a preset of that name."""
    return name in get_args(PresetName)


def expanded(settings: Mapping[str, object]) -> dict[str, object]:
    """A configuration file's ``settings`` with the knobs of the preset that it names, and without the name.

    What the file says itself wins over the preset. Settings without a preset, or with an unknown one (which
    the configuration's own validation refuses), come back as they are.
    """
    tree = dict(settings)
    name = tree.get(KEY)
    if not isinstance(name, str) or not is_preset(name):
        return tree
    del tree[KEY]
    for path, value in PRESETS[name].items():  # type: ignore[index] # checked by is_preset
        section, _, knob = path.rpartition(".")
        given = tree.get(section, {})
        if isinstance(given, Mapping):  # anything else is the validation's to refuse
            tree[section] = {knob: value, **given}
    return tree
