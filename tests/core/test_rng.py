from __future__ import annotations

import subprocess
import sys

import torch
from hypothesis import given
from hypothesis import strategies as st

from painvrl.core.rng import derive_seed, generator

LABELS = st.lists(st.one_of(st.text(max_size=8), st.integers()), max_size=4)


def test_a_derived_seed_is_pinned() -> None:
    # A change of these numbers changes every result that was ever published with a seed.
    assert derive_seed(0) == 4761921975702974394
    assert derive_seed(7, "split") == 1570694249308008378
    assert derive_seed(7, "mask", 1) == 4968222083507149602


@given(root=st.integers(min_value=0, max_value=2**63), labels=LABELS)
def test_a_derived_seed_is_a_function_that_fits_into_63_bits(root: int, labels: list[object]) -> None:
    seed = derive_seed(root, *labels)
    assert seed == derive_seed(root, *labels)
    assert 0 <= seed < 2**63


@given(root=st.integers(min_value=0, max_value=2**32), labels=LABELS)
def test_another_root_or_one_more_label_gives_another_seed(root: int, labels: list[object]) -> None:
    seed = derive_seed(root, *labels)
    assert seed != derive_seed(root + 1, *labels)
    assert seed != derive_seed(root, *labels, "more")


def test_labels_are_not_run_together() -> None:
    assert derive_seed(0, "ab", "c") != derive_seed(0, "a", "bc")
    assert derive_seed(1, "2") != derive_seed(12)


def test_a_derived_seed_does_not_depend_on_the_process() -> None:
    program = "from painvrl.core.rng import derive_seed; print(derive_seed(3, 'split', 4))"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert int(printed) == derive_seed(3, "split", 4)


def test_a_generator_repeats_its_draws_and_labels_separate_them() -> None:
    one, same, other = (generator(5, label) for label in ("init", "init", "fit"))
    draws = torch.rand(100, generator=one)
    assert torch.equal(draws, torch.rand(100, generator=same))
    assert not torch.equal(draws, torch.rand(100, generator=other))
    assert one.device.type == "cpu"


def test_generators_leave_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    torch.rand(10, generator=generator(1, "x"))
    assert torch.equal(before, torch.get_rng_state())
