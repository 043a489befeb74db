"""Reports are pasted in public: no user's name, no host's name, no token."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

T = TypeVar("T")

TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_END = r"""(?=[\\/\s"':;,)\]]|$)"""
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}")


def private(value: T) -> T:
    """The same data with every text cleaned: the home folder is `~`, a user's name in a path `<user>`.

    Everything that leaves the doctor goes through here once, so that no room has to remember it, and so that
    the messages of strangers' errors are covered too.
    """
    return cast(T, _each(value, cleaner()))


def cleaner() -> Callable[[str], str]:
    """A function that cleans one text, for this user on this machine."""
    rules = [(re.compile(pattern), put) for pattern, put in _rules()]

    def clean(text: str) -> str:
        for pattern, put in rules:
            text = pattern.sub(put, text)
        return _HUB_TOKEN.sub("<token>", text)

    return clean


def _rules() -> list[tuple[str, str]]:
    """(pattern, what stands there instead); the home folder before the names that it holds."""
    rules = [(re.escape(secret), "<token>") for name in TOKENS if len(secret := os.environ.get(name, "")) > 3]
    home = Path.home()
    if home != Path(home.anchor):  # some containers have "/" for a home, and every path starts with it
        spellings = {str(home), home.as_posix(), str(home).replace("\\", "\\\\"), str(home.resolve())}
        rules += [(re.escape(spelt) + _END, "~") for spelt in sorted(spellings, key=len, reverse=True)]
    rules += [(rf"(?<=[\\/]){re.escape(name)}{_END}", "<user>") for name in sorted(_user_names(home))]
    host = socket.gethostname()
    for name in (host, host.split(".")[0]):  # in full first
        if name not in ("", "localhost"):
            rules.append((rf"(?<![\w-]){re.escape(name)}(?![\w-])", "<host>"))
    return rules


def _user_names(home: Path) -> set[str]:
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without a name
        user = ""
    return {user, home.name} - {""}


def _each(value: object, clean: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, tuple):
        return tuple(_each(item, clean) for item in cast("tuple[object, ...]", value))
    if isinstance(value, Mapping):
        return {key: _each(item, clean) for key, item in cast("Mapping[str, object]", value).items()}
    if is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: _each(getattr(value, f.name), clean) for f in fields(value)}
        return replace(cast(Any, value), **changed)
    return value
