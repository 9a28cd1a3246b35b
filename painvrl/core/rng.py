"""Randomness as an argument: seeds derived from a root seed by labels, and generators made of them.

Every random draw of painvrl comes from a generator that was passed in. Two draws with different
labels are independent, and adding a consumer does not shift the draws of the others.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(root: int, *labels: object) -> int:
    """A 63-bit seed that depends on ``root`` and every label, and on nothing else.

    The digest is stable over processes, platforms and Python versions (``hash`` is not).
    """
    text = "\x1f".join([str(int(root)), *(str(label) for label in labels)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(root: int, *labels: object) -> torch.Generator:
    """A CPU generator seeded with ``derive_seed(root, *labels)``.

    It lives on the CPU so that the same seed draws the same numbers for every device; steps
    move what they draw with one asynchronous copy.

    >>> import torch
    >>> draws = [torch.rand(3, generator=generator(0, "split", trial)) for trial in (1, 1, 2)]
    >>> draws[0].equal(draws[1]), draws[0].equal(draws[2])
    (True, False)
    """
    import torch

    return torch.Generator().manual_seed(derive_seed(root, *labels))
