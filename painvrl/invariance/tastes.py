"""What the pretrained content part says of a feature for a user: ``b_uf = tau (W c_u)_f``.

With ``f_i`` the features of an item, ``sum_f b_uf f_if`` is the content part of the calibrated score.
An environment that follows the users' tastes more or less, feature by feature, changes it to
``sum_f (1 + delta_f) b_uf f_if``, the score of the same user for the item ``(delta * f_i) W``.

Shape letters: ``U`` users, ``F`` features, ``k`` content width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Tastes:
    """The users' tastes, factored.

    Attributes:
        user_content: ``[U, k]`` content part of the users' vectors, times the temperature ``tau``.
        weight: ``[F, k]`` the projection.
    """

    user_content: Tensor
    weight: Tensor

    def of(self, users: Tensor) -> Tensor:
        """``[B, F]``: ``b`` of the given users ``[B]``."""
        return self.user_content[users] @ self.weight.T
