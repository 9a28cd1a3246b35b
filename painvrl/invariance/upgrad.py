"""The balancer ``upgrad``: each gradient is projected off the other's conflict before they are added.

Unconflicting projection of gradients (Quinton and Rey, *Jacobian Descent for Multi-Objective
Optimization*, 2024), from the package TorchJD, which is an extra (its solver is under the GPL). With
the two rows ``g_E`` and ``g_I`` and the preference vector ``(1, lambda) / (1 + lambda)``, the direction is

    ( proj(g_E) + lambda proj(g_I) ) / (1 + lambda),

``proj`` onto the cone of directions along which neither risk climbs. The IRM weight stands in the
preference vector (our reading): dividing the row ``g_I`` by it, as the min-norm point does, leaves
the cone as it is and would make the penalty's part smaller instead of larger. Without conflict this
is the ``fixed`` sum; in conflict its limits in ``lambda`` are those of ``mgda``, each gradient projected
off the other.

TorchJD solves its quadratic programme with NumPy on the host, so a step waits for the device once,
for three numbers, and is not compiled.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from painvrl.core.errors import ConfigError

_REGULARISATION = 1e-7
"""Of the 2 x 2 Gram matrix, whose diagonal is 1/2: opposite gradients make it singular."""

MISSING = "'upgrad' needs the extra torchjd: pip install -c constraints.txt -e '.[torchjd]'"


def is_installed() -> bool:
    """Whether TorchJD and its solver are there; nothing is imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("torchjd", "qpsolvers", "quadprog"))


def upgrad_weights(risk_gradient: Tensor, penalty_gradient: Tensor, irm_weight: float) -> Tensor:
    """``[2]`` the coefficients of ``g_E`` and ``g_I`` in the direction.

    Args:
        risk_gradient: ``g_E``, ``[F]``.
        penalty_gradient: ``g_I``, ``[F]``.
        irm_weight: ``lambda`` > 0.

    Raises:
        ConfigError: TorchJD cannot be imported.
    """
    try:
        from torchjd.aggregation import UPGradWeighting
        from torchjd.linalg import QuadprogProjector

        projector = QuadprogProjector(reg_eps=_REGULARISATION)
    except ImportError:
        raise ConfigError(MISSING, key="mask.balancer") from None
    risk_norm, penalty_norm = risk_gradient.norm(), penalty_gradient.norm()
    product = (risk_gradient * penalty_gradient).sum()
    host = torch.stack([risk_norm, penalty_norm, product]).cpu().double()
    # Rows of unit length span the same cone, and the solver's regularisation is small beside them;
    # the preference makes up for it.
    norms = torch.where(host[:2] > 0, host[:2], 1.0)
    cosine = (host[2] / norms.prod()).clamp(-1.0, 1.0)
    gramian = torch.eye(2, dtype=torch.float64) + cosine * (1 - torch.eye(2, dtype=torch.float64))
    preference = torch.tensor([1.0, irm_weight], dtype=torch.float64) / (1 + irm_weight)
    weights: Tensor = UPGradWeighting(preference * norms, projector)(gramian)
    return (weights / norms).to(risk_gradient)
