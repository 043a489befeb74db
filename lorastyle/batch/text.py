"""The letters of a manifest, whichever editor or spreadsheet saved it."""

from __future__ import annotations

from pathlib import Path

from lorastyle.errors import ConfigError, is_unicode, near_miss
from lorastyle.notes import note
from lorastyle.text_files import decode_text

from .places import Misplaced, Place

MAX_BYTES = 64 * 1024 * 1024


def read_text(path: Path) -> str:
    """The text of a file, with "\\n" at the end of each line; see `decode_text`.

    Where even Windows-1252 is unlikely, bytes that are no UTF-8 become halves of characters, which
    `check_letters` finds, so that only the lines they are in are lost.

    Raises:
        ConfigError: there is no such file, it cannot be read, or it is far too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ConfigError(f"{path}: there is no such manifest.{near_miss(path.name, beside)}") from None
    except OSError as error:
        why = "it is a folder" if path.is_dir() else error.strerror or error
        raise ConfigError(f"{path} cannot be read ({why}). Name a .jsonl, .csv or .yaml file.") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES >> 20} MB. Split it into several manifests.")
    decoded = decode_text(data)
    if decoded.doubtful:
        return data.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    if decoded.note:
        note(f"{path}, line {decoded.line}: the file {decoded.note}.")
    return decoded.text


def check_letters(text: str, line: int) -> None:
    """Raises Misplaced at the first byte that is no UTF-8; `text` begins at `line`."""
    if is_unicode(text):
        return
    at = next(i for i, letter in enumerate(text) if not is_unicode(letter))
    before = text[:at]
    place = Place(line + before.count("\n"), at - before.rfind("\n"))
    raise Misplaced(place, 'this is not UTF-8. Save the file as UTF-8; in Excel, as "CSV UTF-8".')
