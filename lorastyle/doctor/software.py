"""Versions: what is installed, what lorastyle declares that it needs, and which extras are missing."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PURPOSES = {
    "ui": "the page in a browser",
    "quant": "bases in 4 bits (--memory nf4)",
    "dev": "changing lorastyle: its tests and checks",
    "base": "making the embedded base again",
}
"""What an extra is for, those for everybody first. Others that are declared are listed all the same."""


@dataclass(frozen=True)
class Package:
    """One package that lorastyle needs."""

    name: str
    version: str | None  # None: not installed
    needed: str  # as declared: ">=2.6"; empty where any version does
    fits: bool


@dataclass(frozen=True)
class Extra:
    """An optional set of packages."""

    name: str
    purpose: str
    missing: tuple[str, ...]  # requirements, as pip takes them
    command: str  # that adds them; empty where nothing is missing


@dataclass(frozen=True)
class Software:
    """What runs."""

    lorastyle: str | None  # None: it runs from its source without being installed
    python: str
    system: str
    packages: tuple[Package, ...] = ()
    extras: tuple[Extra, ...] = ()


def look_at_software(name: str = "lorastyle") -> Software:
    """Versions of everything that the package `name` declares, in its order."""
    installed = _version(name)
    python, system = platform.python_version(), _system()
    if installed is None:
        return Software(None, python, system)
    declared = _declared(name)
    return Software(
        installed,
        python,
        system,
        tuple(_package(requirement) for requirement in declared if _applies(requirement)),
        tuple(_extras(name, declared)),
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _declared(name: str) -> list[Requirement]:
    from packaging.requirements import Requirement

    return [Requirement(text) for text in requires(name) or ()]


def _applies(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _package(requirement: Requirement) -> Package:
    found = _version(requirement.name)
    # a release candidate of a range is used by people who chose it
    fits = found is not None and requirement.specifier.contains(found, prereleases=True)
    return Package(requirement.name, found, _range(requirement), fits)


def _range(requirement: Requirement) -> str:
    """`>=6.31,<7`, the lower end first."""
    return ",".join(sorted(map(str, requirement.specifier), reverse=True))


def _extras(name: str, declared: list[Requirement]) -> list[Extra]:
    names = list(metadata(name).get_all("Provides-Extra") or ())
    order = [*(n for n in PURPOSES if n in names), *(n for n in names if n not in PURPOSES)]
    return [_extra(extra, declared) for extra in order]


def _extra(name: str, declared: list[Requirement]) -> Extra:
    own = [r for r in declared if not _applies(r) and _applies(r, name)]
    missing = [_spelt(requirement) for requirement in own if not _package(requirement).fits]
    # the packages by name: "lorastyle[ui]" would fetch another lorastyle than one installed from its source
    command = f"pip install {' '.join(map(quoted, missing))}" if missing else ""
    return Extra(name, PURPOSES.get(name, ""), tuple(missing), command)


def _spelt(requirement: Requirement) -> str:
    """As pip takes it: `pyright[nodejs]>=1.1`."""
    own_extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{own_extras}{_range(requirement)}"


def quoted(requirement: str) -> str:
    """As a shell takes it: `"gradio>=6"`, for > and [ have meanings there."""
    return f'"{requirement}"' if set(requirement) & set("<>=![,") else requirement


def _system() -> str:
    """`Debian GNU/Linux 12 (bookworm), Linux-6.1.0-x86_64-with-glibc2.36`: no host name is in it."""
    try:
        named = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:  # not a Linux that says its name
        named = ""
    return ", ".join(part for part in (named, platform.platform()) if part)
