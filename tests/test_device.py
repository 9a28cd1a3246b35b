from __future__ import annotations

import pytest
import torch

from painvrl.device import select_device
from painvrl.errors import ConfigError


def machine(monkeypatch: pytest.MonkeyPatch, *, cuda: bool, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2 if cuda else 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "best"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_best_device_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, best: str
) -> None:
    machine(monkeypatch, cuda=cuda, mps=mps)
    assert select_device("auto") == torch.device(best)
    assert select_device() == torch.device(best)


def test_a_named_device_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=True, mps=True)
    assert select_device("cpu") == torch.device("cpu")
    assert select_device("mps") == torch.device("mps")
    assert select_device("cuda") == torch.device("cuda")
    assert select_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    machine(monkeypatch, cuda=False, mps=False)
    with pytest.raises(ConfigError, match="--device: this machine has no such device") as error:
        select_device(name)
    assert error.value.value == name


@pytest.mark.parametrize("name", ["gpu", "", "tpu:0", "CPU", "meta", "cpu:x", "cuda:x", "cuda:-1"])
def test_an_unknown_device_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    machine(monkeypatch, cuda=True, mps=True)
    with pytest.raises(ConfigError, match="must be auto, cuda") as error:
        select_device(name)
    assert error.value.key == "--device"


@pytest.mark.parametrize("name", ["cuda:2", "cuda:7", "mps:1", "cpu:1"])
def test_a_number_beyond_the_devices_of_the_machine_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    machine(monkeypatch, cuda=True, mps=True)
    with pytest.raises(ConfigError, match="--device: this machine has no such device") as error:
        select_device(name)
    assert error.value.value == name
