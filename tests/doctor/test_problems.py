"""What is judged to be wrong, and what is not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from lorastyle.bases import compute_dtype
from lorastyle.doctor import (
    BaseAtHand,
    Bases,
    Device,
    Hardware,
    Package,
    Place,
    Problem,
    Rate,
    SelfTest,
    Settings,
    Software,
    examine,
    problems,
)
from lorastyle.doctor.devices import look_at_hardware

RATES = (Rate("float32", True, 1e11), Rate("bfloat16", True, 2e11), Rate("float16", True, 1e9, "slow"))
CPU = Device("cpu", "EPYC", 16 * 10**9, 12 * 10**9, cores=4, threads=4, rates=RATES, picks="bfloat16")
CARD = Device("cuda:0", "NVIDIA T4", 16 * 10**9, 15 * 10**9, rates=RATES, picks="float16")
PLACE = Place("cache", "~/.cache/lorastyle", True, True, 3, 100, True, 50 * 10**9)
NONE = Settings()


def one(found: Iterable[Problem]) -> str:
    (problem,) = found
    assert problem.next_step
    return f"{problem.what} -> {problem.next_step}"


def test_a_machine_with_nothing_wrong() -> None:
    assert list(problems.of_hardware(Hardware("CPU", (), (CPU,)), NONE)) == []
    cuda = replace(CARD, picks="bfloat16")
    assert list(problems.of_hardware(Hardware("CUDA 12.6", ("NVIDIA T4",), (cuda, CPU)), NONE)) == []
    assert list(problems.of_places((PLACE,))) == []
    fine = Software("1.0", "3.11", "Linux", (Package("torch", "2.6", ">=2.6", True),))
    assert list(problems.of_software(fine)) == []


@pytest.mark.parametrize(
    ("package", "told"),
    [
        (
            Package("torch", "2.1", ">=2.6", False),
            'torch 2.1 is installed, lorastyle needs >=2.6 -> "torch>=2.6"',
        ),
        (Package("rich", None, "", False), "rich is not installed, lorastyle needs it -> rich"),
    ],
)
def test_a_package_that_does_not_fit(package: Package, told: str) -> None:
    found = one(problems.of_software(Software("1.0", "3.11", "Linux", (package,))))
    assert found.replace("-> pip install", "->") == told


@pytest.mark.parametrize(
    ("build", "variables", "told"),
    [
        ("CPU", {}, "build for the CPU"),
        ("CUDA 12.6", {"CUDA_VISIBLE_DEVICES": ""}, "hides the NVIDIA T4"),
        ("CUDA 12.6", {}, "the driver is older"),
    ],
)
def test_a_card_that_is_not_used(build: str, variables: dict[str, str], told: str) -> None:
    hardware = Hardware(build, ("NVIDIA T4",), (CPU,))
    assert told in one(problems.of_hardware(hardware, Settings(variables)))


@pytest.mark.parametrize(
    ("device", "told"),
    [
        (replace(CPU, picks="float32"), "no bfloat16 instructions"),
        (replace(CPU, threads=16), "Set OMP_NUM_THREADS=4"),
        (replace(CPU, memory_free=10**9), "only 1.0 GB of memory"),
        (replace(CPU, rates=(*RATES[:1], replace(RATES[1], note="9 times slower than float32"))), "9 times"),
        (replace(CARD, error="no kernel image"), "cuda:0 cannot be used: no kernel image"),
        (replace(CARD, rates=(Rate("float32", False, None, "boom"),)), "does not compute in float32: boom"),
        (replace(CARD, picks="bfloat16", rates=(Rate("bfloat16", False, None, "boom"),)), "in bfloat16"),
    ],
)  # fmt: skip
def test_a_device(device: Device, told: str) -> None:
    assert told in one(problems.of_hardware(Hardware("CUDA 12.6", (), (device,)), NONE))


def test_only_the_device_that_is_used_may_be_slow() -> None:
    slow = replace(CPU, picks="float32")
    used = replace(CARD, picks="bfloat16")
    assert list(problems.of_hardware(Hardware("CUDA 12.6", (), (used, slow)), NONE)) == []


def test_places() -> None:
    full = replace(PLACE, free=10**8)
    told = one(problems.of_places((full, replace(full, path="~/other"), PLACE)))
    assert "less than 1 GB is free (0.10 GB) in ~/.cache/lorastyle, ~/other" in told
    assert "LORASTYLE_CACHE" in one(problems.of_places((replace(PLACE, writable=False),)))


HALF = BaseAtHand("org/half", "hub cache", "StableDiffusionPipeline", 9, False, "lacks the weights of unet")
AWAY = BaseAtHand("org/sd", "hub", "", 0, False, "not downloaded yet")
GONE = BaseAtHand("~/sd", "nothing", "", 0, False, "there is no such folder or file")


@pytest.mark.parametrize(
    ("base", "default", "offline", "told"),
    [
        (HALF, "embedded", False, ""),
        (HALF, "embedded", True, "hf download org/half"),
        (AWAY, "org/sd", False, ""),
        (AWAY, "org/sd", True, "hf download org/sd"),
        (GONE, "~/sd", False, 'The default base is "~/sd"'),
        (GONE, "~/sd", True, 'The default base is "~/sd"'),
        (replace(GONE, name="embedded", source="embedded"), "embedded", False, "Install lorastyle again"),
    ],
)
def test_bases(base: BaseAtHand, default: str, offline: bool, told: str) -> None:
    found = list(problems.of_bases(Bases(default, (base,)), Settings(hub_offline=offline)))
    assert found == [] if not told else told in one(found)


BROKEN = "ImportError: libcudart.so.12: cannot open"


def broken_test() -> SelfTest:
    return SelfTest(False, 0.0, (), BROKEN, "Install it again.")


def test_what_cannot_be_looked_at_is_one_problem_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise ImportError("libcudart.so.12: cannot open")

    monkeypatch.setattr("lorastyle.doctor.report.look_at_hardware", broken)
    monkeypatch.setattr("lorastyle.doctor.report.look_at_bases", broken)
    monkeypatch.setattr("lorastyle.doctor.report.run_self_test", broken_test)
    looked: list[str] = []
    report = examine(on_look=looked.append)
    assert report.hardware == Hardware() and report.software.packages and report.places
    assert len(looked) == 6
    told = [p.what for p in report.problems if BROKEN in p.what]  # the self-test's reason is not told again
    assert told == [f"the devices and the bases cannot be looked at: {BROKEN}"]


def test_the_first_device_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(device: str) -> tuple[Rate, ...]:
        return ()

    monkeypatch.setattr("lorastyle.doctor.devices.measure_rates", none)
    from lorastyle.bases.precision import best_device

    hardware = look_at_hardware()
    assert hardware.devices[0].id.partition(":")[0] == best_device().type
    assert hardware.devices[-1].id == "cpu"
    assert hardware.devices[-1].picks == str(compute_dtype("cpu")).removeprefix("torch.")
