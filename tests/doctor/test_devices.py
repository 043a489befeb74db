"""Graphics cards, by a torch that says it has some."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lorastyle.doctor import Rate
from lorastyle.doctor.devices import look_at_hardware

RATES = (Rate("float32", True, 1e13),)


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old card that works, and one that is full."""

    def properties(device: str) -> SimpleNamespace:
        return SimpleNamespace(name=f"Card of {device}", major=7, minor=5)

    def memory(device: str) -> tuple[int, int]:
        if device == "cuda:1":
            raise RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA")
        return 3 * 10**9, 16 * 10**9

    def native(*, including_emulation: bool) -> bool:
        return False

    def rates(device: str) -> tuple[Rate, ...]:
        return RATES

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", memory)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", native)
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr("lorastyle.doctor.devices.measure_rates", rates)


@pytest.mark.usefixtures("two_cards")
def test_cards_come_first_and_a_broken_one_stops_nothing() -> None:
    found = look_at_hardware()
    assert found.torch_build == "CUDA 12.6"
    good, full, cpu = found.devices
    assert (good.id, good.name, good.capability) == ("cuda:0", "Card of cuda:0", "7.5")
    assert (good.memory_total, good.memory_free, good.rates) == (16 * 10**9, 3 * 10**9, RATES)
    assert good.picks == "float16" and "training uses float32" in good.why
    assert (full.id, full.error, full.rates) == ("cuda:1", "CUDA error: out of memory", ())
    assert cpu.id == "cpu" and cpu.cores and cpu.threads and cpu.why and not cpu.error


def test_without_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    def rates(device: str) -> tuple[Rate, ...]:
        return RATES

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr("lorastyle.doctor.devices.measure_rates", rates)
    assert [device.id for device in look_at_hardware().devices] == ["cpu"]
