"""Who may open the page: users and passwords, from where other users of the machine cannot read them."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from lorastyle.errors import ConfigError
from lorastyle.notes import note

VARIABLE = "LORASTYLE_AUTH"
MOST_BYTES = 100_000

Logins = tuple[tuple[str, str], ...]


def read_logins(flag: str | None, file: Path | None, environment: Mapping[str, str] = os.environ) -> Logins:
    """(user, password) pairs from `--auth`, else from `--auth-file`, else from LORASTYLE_AUTH.

    Args:
        flag: one "user:password". Everybody on the machine can read a command line, which a note says.
        file: a text file with one "user:password" a line; empty lines and comments (# ...) are skipped.
        environment: where LORASTYLE_AUTH is looked up; empty, it counts as not set.

    Raises:
        ConfigError: `flag` and `file` together, a file that cannot be read, or a line that is no
            "user:password". No message holds a password, nor the line.
    """
    if flag is not None and file is not None:
        raise ConfigError("--auth and --auth-file were both given. Use one of them; the file is safer.")
    if flag is not None:
        found = _parse([("--auth", flag)])
        note(
            "Everybody on this machine can read a password that is part of a command. "
            f"--auth-file or {VARIABLE} keeps it private."
        )
        return found
    if file is not None:
        return _read(file.expanduser())
    if written := environment.get(VARIABLE):
        return _parse(_lines(VARIABLE, written))
    return ()


def _read(file: Path) -> Logins:
    try:
        about = file.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > MOST_BYTES:
            raise ConfigError(f'--auth-file: "{file}" is not a small text file.')
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f'--auth-file: "{file}" cannot be read ({error.strerror or error}).') from error
    except UnicodeDecodeError:  # without its cause, which holds the bytes
        raise ConfigError(f'--auth-file: "{file}" is not text in UTF-8.') from None
    if os.name == "posix" and about.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        note(f'Other users of this machine can read "{file}". To keep it private: chmod 600 {file}')
    logins = _parse(_lines("--auth-file", text))
    if not logins:
        raise ConfigError(f'--auth-file: "{file}" names nobody. Write one user:password a line.')
    return logins


def _lines(source: str, text: str) -> list[tuple[str, str]]:
    """(where, line) of each line that says something."""
    numbered = enumerate(text.splitlines(), 1)
    return [
        (f"{source}, line {number}", line)
        for number, line in numbered
        if line.strip() and not line.lstrip().startswith("#")
    ]


def _parse(lines: Sequence[tuple[str, str]]) -> Logins:
    logins: dict[str, str] = {}
    problems: list[str] = []
    for where, line in lines:
        user, colon, password = line.strip().partition(":")
        if not (user and colon and password):
            problems.append(f'{where}: "user:password" is needed, both of at least one letter.')
        elif user in logins:
            problems.append(f'{where}: the user "{user}" is there twice.')
        else:
            logins[user] = password
    if problems:
        raise ConfigError(problems)
    return tuple(logins.items())
