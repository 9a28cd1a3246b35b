"""Which settings of a baseline are tried: its defaults, then random ones from its space.

A setting that is tried does not depend on the split, so every configuration can be averaged over seeds.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

from painvrl.baselines.port import Baseline, S
from painvrl.core.rng import derive_seed
from painvrl.run.distributions import Categorical, Distribution, Value


@dataclass(frozen=True)
class RandomSuggester:
    """Draws uniformly, in the logarithm where asked to; see :class:`painvrl.study.file.space.Suggester`."""

    draws: random.Random

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number; with ``log`` each as likely as the interval of half a number around it."""
        if not log:
            return low + step * self.draws.randint(0, (high - low) // step)
        exponent = self.draws.uniform(math.log(low - 0.5), math.log(high + 0.5))
        return min(max(round(math.exp(exponent)), low), high)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number."""
        if step is not None:
            return low + step * self.draws.randint(0, round((high - low) / step))
        if not log:
            return self.draws.uniform(low, high)
        return min(max(math.exp(self.draws.uniform(math.log(low), math.log(high))), low), high)

    def suggest_categorical(self, name: str, choices: tuple[Value, ...]) -> Value:
        """One of the choices."""
        return self.draws.choice(choices)


def settings_to_try(baseline: Baseline[S], trials: int, seed: int) -> tuple[S, ...]:
    """At most ``trials`` different settings, the defaults first.

    A space of choices alone is gone through without repetition, and may be exhausted; any other is
    drawn from.

    Args:
        baseline: whose settings.
        trials: at least 1.
        seed: of the draws; more trials with the same seed begin with the same ones.
    """
    defaults = baseline.settings()
    draws = random.Random(derive_seed(seed, "baseline", baseline.name, "search"))
    choices = _choices(baseline.space)
    if choices is None:
        suggester = RandomSuggester(draws)
        points = [
            {name: one.suggest(suggester, name) for name, one in baseline.space.items()}
            for _ in range(trials - 1)
        ]
    else:
        points = [dict(zip(choices, point, strict=True)) for point in itertools.product(*choices.values())]
        draws.shuffle(points)
    tried = [defaults, *(baseline.settings.model_validate(defaults.model_dump() | point) for point in points)]
    return tuple(dict.fromkeys(tried))[:trials]


def _choices(space: Mapping[str, Distribution]) -> dict[str, tuple[Value, ...]] | None:
    """The choices of every hyperparameter, or None where one is a range."""
    found = {name: one.choices for name, one in space.items() if isinstance(one, Categorical)}
    return found if len(found) == len(space) else None
