"""Stopping hopeless trials early."""

from __future__ import annotations

from pydantic import Field

from painvrl.settings import Settings


class PruningConfig(Settings):
    """How trials are stopped early. ``eta``: of as many trials at a rung, one goes on."""

    eta: float = Field(default=3.0, gt=1)
