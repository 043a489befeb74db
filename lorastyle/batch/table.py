"""Manifests from a spreadsheet: a header of keys, and a row for each item.

Commas, semicolons or tabs are told apart by the header. An empty cell is a value that is not given.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import partial
from io import StringIO

from lorastyle.errors import ConfigError, shortened
from lorastyle.notes import note

from .entries import Entry, make_entry
from .keys import SWITCHES, is_key, takes_ranges, unknown
from .places import Misplaced, Place, Problem
from .ranges import number_or_text
from .text import check_letters

_WITH_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_GROUPS = re.compile(r"(?<=\d)[ '\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_MONTH = (  # as spreadsheets write them in English, German, French, Spanish, Portuguese, Italian, Dutch
    r"(?:jan|feb|fév|fev|mar|mär|mrz|maa|mrt|apr|avr|abr|mai|may|mag|maj|mei|jun|juin|giu|jul|juil|lug|aug|aoû|"
    r"ago|set|sep|oct|okt|out|ott|nov|dec|dez|déc|dic|ene|gen)[a-zéû]*\.?"
)
_DATE = re.compile(
    r"\d{4}-\d\d?-\d\d?(?:[ T].*)?|\d\d?[./-]\d\d?[./-](?:\d\d){1,2}|"
    rf"\d\d?[-. ]*{_MONTH}(?:[- ]\d{{2,4}})?|{_MONTH}[- ]\d{{2,4}}",
    re.IGNORECASE,
)
_ROUNDED = re.compile(r"\d(?:\.(\d+))?[eE]\+?(\d+)")
_TRUE = frozenset("true wahr vrai verdadero verdadeiro vero waar prawda yes on 1".split())
_FALSE = frozenset("false falsch faux falso onwaar fałsz no off 0".split())


def read_table(text: str) -> Iterator[Entry | Problem]:
    """The entries in order; a row that cannot be read is a problem, and the others go on.

    Raises:
        ConfigError: the header has a column that no item has, or one twice.
    """
    skipped, delimiter = 0, _delimiter(text.split("\n", 1)[0])
    if text[:4].lower() == "sep=":  # Excel's own hint
        text, skipped = text.partition("\n")[2], 1
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1 + skipped
        try:
            row = next(reader)
            if header is None:
                header = _header(row, line) if any(row) else None
            elif any(cell.strip() for cell in row):
                yield _entry(row, header, line, decimal_comma=delimiter == ";")
        except StopIteration:
            return
        except csv.Error as error:
            why = "a quotation mark is not closed" if "unexpected end" in str(error) else str(error)
            yield Problem(Place(line, 1), f"this row cannot be read: {why}.")
        except Misplaced as error:
            yield error.problem


def _delimiter(first: str) -> str:
    """The mark between the columns, from the first line."""
    if first[:4].lower() == "sep=":
        return first[4:5].strip() or "\t"
    return max(",;\t", key=first.count)


def _header(row: list[str], line: int) -> list[str]:
    names = [cell.strip() for cell in row]
    while names and not names[-1]:
        names.pop()
    names = [name if is_key(name) else re.sub(r"[\s-]+", "_", name.lower()) for name in names]
    problems = [
        f"{Place(line, i)}: {unknown(name) if name else 'a column without a name; name it, or remove it.'}"
        for i, name in enumerate(names, 1)
        if not is_key(name)
    ]
    problems += [
        f"{Place(line, i)}: the column {shortened(name)} is there twice. Keep one."
        for i, name in enumerate(names, 1)
        if name in names[: i - 1] and name
    ]
    if problems:
        raise ConfigError(problems)
    return names


def _entry(row: list[str], header: list[str], line: int, *, decimal_comma: bool) -> Entry:
    find = partial(_find, header, line)
    check_letters(",".join(row), line)
    if any(cell.strip() for cell in row[len(header) :]):
        what = f"this row has {len(row)} cells, the header names {len(header)}. Quote text that has commas."
        raise Misplaced(Place(line, len(header) + 1), what)
    values = {
        key: _value(key, cell, decimal_comma, Place(line, column))
        for column, (key, cell) in enumerate(zip(header, row, strict=False), 1)
        if cell.strip()
    }
    return make_entry(values, find, defaults={})


def _value(key: str, cell: str, decimal_comma: bool, place: Place) -> object:
    """A cell as its key takes it, whatever a spreadsheet made of the number.

    Raises:
        Misplaced: a spreadsheet made a date of it.
    """
    text = cell.strip()
    if key in SWITCHES:
        word = text.lower()
        return True if word in _TRUE else False if word in _FALSE else text
    if not takes_ranges(key) and key != "number":
        return cell
    text = _GROUPS.sub("", text.replace("\u2212", "-"))
    if decimal_comma and _WITH_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    if _DATE.fullmatch(text):
        raise Misplaced(
            place,
            f"{key} is {shortened(cell)}, a date. Spreadsheets make dates of numbers and ranges: format the "
            "column as text, and write the value again.",
        )
    if key == "seed" and (found := _ROUNDED.fullmatch(text)) and int(found[2]) > max(len(found[1] or ""), 5):
        note(f"{place}: seed is {text}, which a spreadsheet has rounded. Format the column as a number.")
    return number_or_text(text)


def _find(header: list[str], line: int, path: tuple[str | int, ...]) -> Place:
    """Columns are those of the spreadsheet."""
    return Place(line, header.index(str(path[0])) + 1 if path and path[0] in header else 1)
