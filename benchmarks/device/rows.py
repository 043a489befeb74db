"""What was measured, row by row: on disk at once, and shown as tables in the end."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from lorastyle.adapters import atomic_write

FILE = "device.json"
_BYTES = ("peak", "reserved", "computed")


@dataclass(frozen=True)
class Row:
    """One contender in one setting.

    Attributes:
        section: the table that it belongs to.
        setting: what was measured, {"model": "sdxl", "batch": 4}.
        figures: {"ms": 71.2, "peak": 9_000_000_000}; None where the device does not tell.
        note: in words; error: what went wrong; skipped: not tried, and the note says why.
    """

    section: str
    setting: Mapping[str, str | int]
    contender: str
    figures: Mapping[str, float | None] = field(default_factory=dict[str, "float | None"])
    note: str = ""
    error: str = ""
    skipped: bool = False

    def __str__(self) -> str:
        told = [f"{key} {value}" for key, value in self.setting.items()]
        told += [f"{key} {shown(key, value)}" for key, value in self.figures.items()]
        told += [part for part in (self.note, self.error and f"ERROR {self.error}") if part]
        return f"{self.section}: {self.contender}: {', '.join(told)}"


class Recorder:
    """Takes rows, and keeps the file up to date.

    Args:
        budget: seconds from now; see `room_for`.
        say: is told of each row.
    """

    def __init__(
        self,
        folder: Path,
        machine: Mapping[str, object],
        budget: float,
        say: Callable[[str], None] = print,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.rows: list[Row] = []
        self._path, self._machine, self._say = folder / FILE, dict(machine), say
        self._start, self._budget = time.monotonic(), budget
        self._write()

    @property
    def failed(self) -> bool:
        return any(row.error for row in self.rows)

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self._budget - (time.monotonic() - self._start)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        self._write()
        self._say(f"[{self._budget - self.left:.0f} s] {row}")

    def room_for(
        self, seconds: float, section: str, setting: Mapping[str, str | int], who: Iterable[str]
    ) -> bool:
        """Whether so many seconds are left; where not, the contenders are rows that say so."""
        if seconds <= self.left:
            return True
        note = f"skipped: about {seconds:.0f} s wanted, {max(0.0, self.left):.0f} s left"
        for contender in who:
            self.add(Row(section, setting, contender, note=note, skipped=True))
        return False

    def _write(self) -> None:
        whole = {
            "machine": self._machine,
            "seconds": round(self._budget - self.left, 1),
            "rows": [asdict(row) for row in self.rows],
        }
        atomic_write(self._path, json.dumps(whole, indent=1).encode())


def told(error: BaseException) -> str:
    """An error in a line: its kind, its first line, and where it was raised."""
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-3:]))
    return f"{type(error).__name__}: {first[:300]} ({where})"


def read_rows(folder: Path) -> tuple[dict[str, Any], list[Row]]:
    """The machine and the rows of a run."""
    whole = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return whole["machine"], [Row(**row) for row in whole["rows"]]


def shown(key: str, value: float | None) -> str:
    """A figure with its unit; "-" where there is none."""
    if value is None:
        return "-"
    if key in _BYTES:
        return f"{value / 1e9:.2f} GB"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def table(rows: Sequence[Row]) -> Table:
    """The rows of one section, as Markdown."""
    settings = list(dict.fromkeys(key for row in rows for key in row.setting))
    figures = list(dict.fromkeys(key for row in rows for key in row.figures))
    made = Table(box=box.MARKDOWN)
    for heading in (*settings, "contender"):
        made.add_column(heading)
    for heading in figures:
        made.add_column(heading, justify="right")
    made.add_column("note")
    for row in rows:
        made.add_row(
            *(str(row.setting.get(key, "")) for key in settings),
            row.contender,
            *(shown(key, row.figures[key]) if key in row.figures else "" for key in figures),
            f"ERROR {row.error}" if row.error else row.note,
        )
    return made


def show(console: Console, machine: Mapping[str, object], rows: Sequence[Row]) -> None:
    """All tables, with the machine above them."""
    console.print(", ".join(f"{key} {value}" for key, value in machine.items()), markup=False)
    for section in dict.fromkeys(row.section for row in rows):
        console.print(f"\n## {section}", markup=False)
        console.print(table([row for row in rows if row.section == section]), markup=False)
