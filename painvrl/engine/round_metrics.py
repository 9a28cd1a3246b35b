"""What is told of a round of environments and mask, as numbers by name."""

from __future__ import annotations

import math

from painvrl.run.rounds import RoundReport

RECOVERED = "environments/recovered"
"""How much of planted environments was found; see :mod:`painvrl.invariance.recovery`."""


def round_metrics(report: RoundReport) -> dict[str, float]:
    """A round's metrics; those that its settings or its data do not have are left out."""
    sizes = {f"environments/size_{index + 1}": size for index, size in enumerate(report.environment_sizes)}
    told = {name: float(value) for name, value in sizes.items()} | {
        "environments/moved_share": report.moved_share,
        "environments/converged": float(report.converged),
        "environments/reseeded": float(report.reseeded),
        "mask/density": report.mask_density,
        "mask/sparsity": report.achieved_sparsity,
        "mask/risk": report.risk,
        "mask/penalty": report.penalty,
        "mask/epsilon": report.epsilon,
        "mask/cosine": report.cosine,
    }
    if report.moves:  # of hard EM alone
        told["environments/em_rounds"] = float(len(report.moves))
        told["environments/em_moved_share"] = report.moves[-1]
    if not math.isnan(report.recovered):  # only of planted environments
        told[RECOVERED] = report.recovered
    if not math.isnan(report.log_likelihood):  # only the mixture has one
        told["environments/log_likelihood"] = report.log_likelihood
    return told
