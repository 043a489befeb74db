"""The doctor's report as lines for people: aligned, and at most 100 columns where what is told allows it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from lorastyle.doctor import Bases, Device, Hardware, Place, Problem, Report, SelfTest, Settings, Software

from .console import file_size

Line = tuple[str, str | None]
"""A text and its style."""

WIDTH = 100


def told(report: Report) -> Iterator[Line]:
    """The whole report."""
    yield from _headed("software", _software(report.software))
    yield from _headed("devices", _hardware(report.hardware))
    yield from _headed("folders", _places(report.places))
    yield from _headed("bases", _bases(report.bases, report.settings))
    yield from _headed("settings", _settings(report.settings))
    yield from _headed("extras", _extras(report.software))
    yield from _headed("self-test", _self_test(report.self_test))
    yield from _headed("problems", _problems(report.problems))


def software_rows(software: Software) -> list[tuple[str, str, str]]:
    """(name, version, what does not fit)."""
    return [
        ("lorastyle", software.lorastyle or "not installed", ""),
        ("python", software.python, ""),
        ("system", software.system, ""),
        *(
            (p.name, p.version or "not installed", "" if p.fits else f"needs {p.needed}".rstrip())
            for p in software.packages
        ),
    ]


def _headed(heading: str, lines: Iterable[Line]) -> Iterator[Line]:
    lines = list(lines)
    if lines:
        yield heading, "bold"
        yield from ((f"  {text}".rstrip(), style) for text, style in lines)
        if heading != "problems":
            yield "", None


def _software(software: Software) -> Iterator[Line]:
    for name, found, wrong in software_rows(software):
        yield f"{name:16} {found}{f'   <- {wrong}' if wrong else ''}", "yellow" if wrong else None


def _hardware(hardware: Hardware) -> Iterator[Line]:
    if hardware.torch_build:
        yield f"torch is a {hardware.torch_build} build", None
    for card in hardware.nvidia_cards:
        yield f"NVIDIA's driver shows {card}", None
    for i, device in enumerate(hardware.devices):
        yield f"{device.id:7} {_described(device)}{'   <- used' if i == 0 else ''}", None
        if device.error:
            yield f"        {device.error}", "red"
        for rate in device.rates:
            speed = _speed(rate.flops) if rate.flops is not None else "no"
            notes = [rate.note] if rate.note else []
            if rate.precision == device.picks:
                notes.append(f"<- picked: {device.why}")
            yield f"        {rate.precision:9} {speed:>13}   {'; '.join(notes)}".rstrip(), None


def _described(device: Device) -> str:
    parts = [device.name]
    if device.cores is not None:
        parts.append(f"{device.cores} core{'s' * (device.cores != 1)}, {_threads(device.threads)}")
    if device.capability is not None:
        parts.append(f"compute capability {device.capability}")
    if device.memory_total is not None and device.memory_free is not None:
        parts.append(f"{amount(device.memory_free)} of {amount(device.memory_total)} free")
    return ", ".join(parts)


def _threads(count: int | None) -> str:
    return f"{count} thread{'s' * (count != 1)}"


def _speed(flops: float) -> str:
    unit, size = ("TFLOP/s", 1e12) if flops >= 1e12 else ("GFLOP/s", 1e9)
    value = flops / size
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"


def amount(count: int) -> str:
    """Bytes as people say them, gigabytes too: `17.1 GB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else file_size(count)


def _places(places: tuple[Place, ...]) -> Iterator[Line]:
    width = max((len(place.path) for place in places), default=0)
    for place in places:
        held = f"{'' if place.counted_all else 'more than '}{amount(place.size)} in {_files(place.files)}"
        held = held if place.files else "empty" if place.exists else "not there yet"
        wrong = "" if place.writable else "   <- cannot be written to"
        line = f"{place.what:10} {place.path:{width}}  {held:24} {amount(place.free):>9} free{wrong}"
        yield line, "yellow" if wrong else None


def _files(count: int) -> str:
    return f"{count:,} file{'s' * (count != 1)}"


def _bases(bases: Bases, settings: Settings) -> Iterator[Line]:
    width = max((len(base.name) for base in bases.at_hand), default=0)
    for base in bases.at_hand:
        size = amount(base.size) if base.size else ""
        used = "<- used when none is named" if base.name == bases.default else ""
        told = "   ".join(part for part in (base.kind, base.note, used) if part)
        yield f"{base.name:{width}}  {size:>9}  {told}", None if base.ready else "yellow"
    off = "--base and a folder; HF_HUB_OFFLINE switches the Hub off"
    yield f"others: {off if settings.hub_offline else '--base org/model, from the Hub, or a folder'}", None


def _settings(settings: Settings) -> Iterator[Line]:
    for name, value in settings.variables.items():
        yield f"{name:24} {value}", None
    token = "none" if settings.hub_token == "none" else f"from {settings.hub_token} (not shown)"
    yield f"{'token for the Hub':24} {token}", None


def _extras(software: Software) -> Iterator[Line]:
    width = max((len(extra.purpose) for extra in software.extras), default=0)
    for extra in software.extras:
        yield f"{extra.name:5} {extra.purpose:{width}}  {extra.command or 'there'}", None


def _self_test(test: SelfTest | None) -> Iterator[Line]:
    if test is None:
        yield "left out (--no-self-test)", None
        return
    for check in test.checks:
        mark, style = ("ok  ", "green") if check.passed else ("FAIL", "red")
        found = textwrap.shorten(check.found, 65, placeholder=" ...")  # in full among the problems
        yield f"{mark} {check.what:11} {found:65} {check.seconds:5.1f} s", style
    verdict = f"{'passed' if test.passed else 'failed'} in {test.seconds:.1f} s"
    yield verdict, "green" if test.passed else "red"


def _problems(problems: tuple[Problem, ...]) -> Iterator[Line]:
    if not problems:
        yield "nothing wrong found", "green"
    for number, problem in enumerate(problems, 1):
        yield from ((line, "yellow") for line in _wrapped(f"{number}. ", problem.what))
        yield from ((line, None) for line in _wrapped("   ", problem.next_step))


def _wrapped(start: str, text: str) -> list[str]:
    """Sentences are wrapped, at spaces only: what is copied stays whole."""
    return textwrap.wrap(
        text,
        WIDTH - 2,
        initial_indent=start,
        subsequent_indent="   ",
        break_long_words=False,
        break_on_hyphens=False,
    )
