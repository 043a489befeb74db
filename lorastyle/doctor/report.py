"""Everything at once, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TypeVar

from . import problems
from .bases import Bases, look_at_bases
from .devices import Hardware, look_at_hardware
from .places import Place, look_at_places
from .private import private
from .problems import Problem
from .selftest import SelfTest, run_self_test
from .settings import Settings, look_at_settings
from .software import Software, look_at_software

T = TypeVar("T")

_STEP = (
    "If a package is at fault, install it again (pip install --force-reinstall NAME); else paste this whole "
    "output into a bug report."
)


@dataclass(frozen=True)
class Report:
    """What was found. It is clean of names and tokens."""

    software: Software
    hardware: Hardware
    places: tuple[Place, ...]
    settings: Settings
    bases: Bases
    self_test: SelfTest | None  # None: it was left out
    problems: tuple[Problem, ...]

    def as_dict(self) -> dict[str, object]:
        """The same for JSON."""
        return asdict(self)


def examine(*, self_test: bool = True, on_look: Callable[[str], None] = lambda what: None) -> Report:
    """Look at everything. A part that cannot be looked at becomes a problem, and the others go on.

    Args:
        self_test: train, reload and compare as well, which takes about ten seconds.
        on_look: called with what is looked at next.
    """
    looks = _Looks(on_look)
    software = looks.at("the software", look_at_software, Software(None, "", ""))
    hardware = looks.at("the devices", look_at_hardware, Hardware())
    places = looks.at("the folders", look_at_places, ())
    settings = looks.at("the settings", look_at_settings, Settings())
    bases = looks.at("the bases", look_at_bases, Bases(""))
    failed = SelfTest(False, 0.0, (), "it ended early", _STEP)
    test = looks.at("the self-test", run_self_test, failed) if self_test else None
    broken = tuple(looks.problems())
    told = test is None or any(test.reason and problem.what.endswith(test.reason) for problem in broken)
    found = (
        *broken,
        *problems.of_software(software),
        *problems.of_hardware(hardware, settings),
        *problems.of_places(places),
        *problems.of_bases(bases, settings),
        *(problems.of_self_test(test) if test is not None and not told else ()),
    )
    return private(Report(software, hardware, places, settings, bases, test, found))


class _Looks:
    """Looks that go on after one that failed."""

    def __init__(self, on_look: Callable[[str], None]) -> None:
        self._on_look = on_look
        self._failed: dict[str, list[str]] = {}  # error -> what it kept from being looked at

    def at(self, what: str, look: Callable[[], T], otherwise: T) -> T:
        self._on_look(what)
        try:
            return look()
        except Exception as error:  # a broken torch raises what it likes, and is what a doctor is called for
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            self._failed.setdefault(text, []).append(what)
            return otherwise

    def problems(self) -> Iterator[Problem]:
        """One for each error, whatever it kept from being looked at."""
        for error, parts in self._failed.items():
            listed = ", ".join(parts[:-1]) + " and " * (len(parts) > 1) + parts[-1]
            yield Problem(f"{listed} cannot be looked at: {error}", _STEP)
