"""What is wrong with what was found, each with the next step. Looking is done elsewhere; this only judges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .bases import Bases
from .devices import Device, Hardware
from .places import Place
from .selftest import SelfTest
from .settings import Settings
from .software import Software, quoted

LITTLE_ROOM = 10**9  # bytes on a disk
LITTLE_MEMORY = 2 * 10**9
FLOAT32_COSTS = 3  # times the time of bfloat16 where there are instructions for it; the plan reckons with it
_REPORT = "Paste this whole output into a bug report."


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, or that costs."""

    what: str
    next_step: str


def of_software(software: Software) -> Iterator[Problem]:
    """Packages that are missing, or outside the range that lorastyle declares."""
    if software.lorastyle is None:
        yield Problem(
            "lorastyle runs from its source without being installed, so what it needs is not known",
            "In its folder: pip install -c constraints.txt -e .",
        )
    for package in software.packages:
        if not package.fits:
            have = f"{package.name} {package.version} is" if package.version else f"{package.name} is not"
            what = f"{have} installed, lorastyle needs {package.needed or 'it'}"
            yield Problem(what, f"pip install {quoted(package.name + package.needed)}")


def of_hardware(hardware: Hardware, settings: Settings) -> Iterator[Problem]:
    """Cards that torch cannot use, devices that fail, and what makes the used one slow."""
    cuda = [device for device in hardware.devices if device.id.startswith("cuda")]
    if hardware.nvidia_cards and not cuda:
        yield _unused_card(hardware, settings)
    for device in hardware.devices:
        yield from _broken(device)
    for device in hardware.devices[:1]:
        if not device.error:
            yield from _slow(device)


def _unused_card(hardware: Hardware, settings: Settings) -> Problem:
    card = hardware.nvidia_cards[0]
    hidden = settings.variables.get("CUDA_VISIBLE_DEVICES")
    if hardware.torch_build == "CPU":
        return Problem(
            f"torch is a build for the CPU, but there is an {card}",
            "Install a CUDA build of torch over it; https://pytorch.org/get-started/locally names it.",
        )
    if hidden is not None:
        return Problem(
            f'CUDA_VISIBLE_DEVICES is "{hidden}", which hides the {card}',
            "Unset CUDA_VISIBLE_DEVICES, unless that is meant.",
        )
    return Problem(
        f"torch was built for {hardware.torch_build} and cannot use the {card}",
        "Most often the driver is older. Update it, or install a torch built for an older CUDA: "
        "https://pytorch.org/get-started/previous-versions",
    )


def _broken(device: Device) -> Iterator[Problem]:
    hide = "CUDA_VISIBLE_DEVICES= (empty) hides cards: then the CPU is used"
    step = f"{hide}. {_REPORT}" if device.id.startswith("cuda") else _REPORT
    if device.error:
        yield Problem(f"{device.id} cannot be used: {device.error}", step)
        return
    for rate in device.rates:
        if not rate.works and rate.precision in ("float32", device.picks):
            yield Problem(f"{device.id} does not compute in {rate.precision}: {rate.note}", step)


def _slow(device: Device) -> Iterator[Problem]:
    """Of the device that is used when none is named."""
    if device.id == "cpu" and device.picks == "float32":
        yield Problem(
            "this processor has no bfloat16 instructions: training in float32 is about "
            f"{FLOAT32_COSTS} times slower",
            "Nothing is broken. A GPU helps, or a smaller --resolution.",
        )
    for rate in device.rates:
        if rate.precision == device.picks and rate.works and rate.note:
            yield Problem(
                f"{rate.precision}, which lorastyle picks on {device.id}, is {rate.note} here",
                f"Train with --precision float32. {_REPORT}",
            )
    if device.threads is not None and device.cores is not None and device.threads > device.cores:
        yield Problem(
            f"torch uses {device.threads} threads for {device.cores} of the cores, which slows it down",
            f"Set OMP_NUM_THREADS={device.cores} in the environment.",
        )
    if device.memory_free is not None and device.memory_free < LITTLE_MEMORY:
        yield Problem(
            f"only {device.memory_free / 1e9:.1f} GB of memory are free on {device.id}",
            "Close other programs, or train with --gradient-checkpointing and --batch-size 1.",
        )


def of_places(places: tuple[Place, ...]) -> Iterator[Problem]:
    """Full disks, one sentence for each amount of room, and folders that cannot be written."""
    short: dict[int, list[str]] = {}
    for place in places:
        if place.free < LITTLE_ROOM:
            short.setdefault(place.free, []).append(place.path)
    for free, paths in short.items():
        yield Problem(
            f"less than {LITTLE_ROOM / 1e9:.0f} GB is free ({free / 1e9:.2f} GB) in {', '.join(paths)}",
            "Free some room, or keep caches elsewhere: LORASTYLE_CACHE and HF_HOME name the folders.",
        )
    steps = {
        "adapters": "Run lorastyle in a folder of yours, give --out, or name a folder in LORASTYLE_HOME.",
        "cache": "Name another folder in LORASTYLE_CACHE.",
        "hub cache": "Name another folder in HF_HOME.",
    }
    for place in places:
        if not place.writable:
            yield Problem(f"{place.path} ({place.what}) cannot be written to", steps.get(place.what, _REPORT))


def of_bases(bases: Bases, settings: Settings) -> Iterator[Problem]:
    """Bases that were asked for, or must do without a network, and are not whole."""
    for base in bases.at_hand:
        if base.ready:
            continue
        if base.source == "embedded":
            yield Problem(f"the embedded base {base.note}", "Install lorastyle again.")
        elif base.source in ("hub", "hub cache"):
            if settings.hub_offline:  # else the first run fetches what is missing
                yield Problem(
                    f"{base.name}: {base.note}; the Hub is switched off by HF_HUB_OFFLINE",
                    f"Unset HF_HUB_OFFLINE and fetch it once: hf download {base.name}",
                )
        else:
            yield Problem(
                f'The default base is "{bases.default}": {base.note}',
                'Set LORASTYLE_BASE, or base in lorastyle.toml, to "embedded", a checkpoint, a pipeline\'s '
                "folder or a Hub id (owner/name), or take it away.",
            )


def of_self_test(test: SelfTest) -> Iterator[Problem]:
    """A self-test that failed."""
    if not test.passed:
        yield Problem(f"the self-test failed: {test.reason}", test.next_step)
