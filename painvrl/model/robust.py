"""How the risks of known environments make one loss: their mean, with their variance, or the worst of them.

``R_e``, the mean loss of environment ``e``, is that of the whole-data (gramian) loss. With ``n_e`` of ``N``
interactions, ``sum_e n_e / N R_e`` is the whole loss (:mod:`painvrl.invariance.risks` says why), and

    vrex        sum_e n_e / N R_e + beta Var_e(R_e)             (Krueger et al., ICML 2021)
    group_dro   sum_e q_e R_e,   q_e <- q_e exp(eta R_e) / sum  (Sagawa et al., ICLR 2020)

Both train the whole recommender: they are what an invariant mask that is told the same environments must
beat. L2 is added as it is: a large ``beta`` is not divided out of the loss, as some do, and makes L2 weak
beside it. So ``backbone.l2`` is to be tuned with ``beta``.

Shape letters: ``E`` environments, ``N`` interactions, ``U`` users, ``D`` width of the score vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor

from painvrl.core.settings import Settings
from painvrl.model.losses import pointwise_gramian


class MeanRisk(Settings):
    """The mean over interactions; environments do not matter."""

    kind: Literal["mean"] = "mean"
    """How the environments' risks make the loss; decides which other keys there are."""


class RiskExtrapolation(Settings):
    """V-REx: the mean, and the variance of the environments' risks."""

    kind: Literal["vrex"] = "vrex"
    """How the environments' risks make the loss; decides which other keys there are."""
    variance_weight: float = Field(default=1.0, ge=0)
    """``beta``, the weight of the variance; 0 is the mean alone."""

    def combine(self, risks: Tensor, shares: Tensor, log_weights: Tensor) -> Tensor:
        """The loss of ``risks`` ``[E]`` for ``shares`` ``[E]`` of the interactions.

        >>> risks, shares = torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.5])
        >>> RiskExtrapolation(variance_weight=0.5).combine(risks, shares, torch.zeros(2))
        tensor(2.5000)
        """
        loss: Tensor = (shares * risks).sum() + self.variance_weight * risks.var(correction=0)
        return loss


class GroupDRO(Settings):
    """Group DRO: environments weigh the more, the worse they have been served so far."""

    kind: Literal["group_dro"] = "group_dro"
    """How the environments' risks make the loss; decides which other keys there are."""
    step: float = Field(default=0.1, ge=0)
    """``eta``, how fast the environments' weights move; at 0 all weigh the same."""

    def combine(self, risks: Tensor, shares: Tensor, log_weights: Tensor) -> Tensor:
        """The loss of ``risks`` ``[E]``; the logarithms of the weights ``[E]`` take their step in place.

        >>> log_weights = torch.tensor([0.5, 0.5]).log()
        >>> GroupDRO(step=1000.0).combine(torch.tensor([1.0, 3.0]), torch.zeros(2), log_weights)
        tensor(3.)
        """
        with torch.no_grad():
            log_weights.copy_((log_weights + self.step * risks.detach()).log_softmax(dim=0))
        loss: Tensor = (log_weights.exp() * risks).sum()
        return loss


Risks: TypeAlias = MeanRisk | RiskExtrapolation | GroupDRO


@dataclass(frozen=True, kw_only=True)
class KnownEnvironments:
    """``label`` ``[N]`` in ``[0, E)`` of the training pairs in the canonical order, and ``count`` ``E``."""

    label: Tensor
    count: int

    def sums(self, values: Tensor) -> Tensor:
        """``[E]`` sums of ``values`` ``[N]``."""
        return values.new_zeros(self.count).scatter_add(0, self.label, values)


def environment_risks(
    positive: Tensor,
    users: Tensor,
    items: Tensor,
    user: Tensor,
    user_degree: Tensor,
    environments: KnownEnvironments,
    all_pairs_weight: float,
) -> Tensor:
    """``[E]`` gramian risks: a user's all-pairs term is dealt to the user's interactions in equal shares.

    Args:
        positive: ``[N]`` scores of the training pairs.
        users: ``[U, D]``.
        items: ``[I_w, D]`` of the warm items.
        user: ``[N]`` of the pairs.
        user_degree: ``[U]``.
        environments: of the pairs.
        all_pairs_weight: ``a0``.
    """
    energy = ((users @ (items.T @ items)) * users).sum(dim=1) / user_degree.clamp_min(1)
    own = pointwise_gramian(positive, all_pairs_weight) + all_pairs_weight * energy.index_select(0, user)
    sizes = environments.sums(torch.ones_like(own))
    return environments.sums(own) / sizes.clamp_min(1)
