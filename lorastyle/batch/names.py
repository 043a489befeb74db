"""File names from prompts and seeds, that every system takes and that lead nowhere else."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable

from lorastyle.errors import ConfigError, near_miss, shortened
from lorastyle.generate import GenerateRequest, slug

DEFAULT = "{index:05}-{seed}-{prompt}"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_RESERVED = re.compile(
    r"(contact-sheet|grid)(-\d{1,4})?\.\w+"
)  # what a batch writes itself beside the pictures
MOST_BYTES = 180  # of one part of a path; systems allow 255
_LONGEST = 48  # letters of a text in a name
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?")
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')

_Field = Callable[[int, GenerateRequest, str], object]
FIELDS: dict[str, _Field] = {
    "index": lambda index, request, key: index,
    "seed": lambda index, request, key: request.seed,
    "prompt": lambda index, request, key: request.prompt,
    "negative": lambda index, request, key: request.negative_prompt or "none",
    "adapters": lambda index, request, key: _stack(request),
    "steps": lambda index, request, key: request.steps,
    "guidance": lambda index, request, key: "own" if request.guidance is None else f"{request.guidance:g}",
    "width": lambda index, request, key: request.width or "own",
    "height": lambda index, request, key: request.height or "own",
    "scheduler": lambda index, request, key: request.scheduler or "own",
    "base": lambda index, request, key: _stem(request.base or "own"),
    "hash": lambda index, request, key: key[:8],
}
_TEXTS = frozenset(
    {"prompt", "negative", "scheduler", "base"}
)  # the others are numbers, and made of safe letters


class Template:
    """A pattern for file names: `{index:05}-{seed}-{prompt}`, `{adapters}/{prompt:20}-{hash}`.

    Fields are those of `FIELDS`. A number after the colon is a width for numbers (with zeros where it begins
    with one) and the most letters for text; `/` makes folders. There are no attributes, indices or
    conversions: a pattern may come from a stranger.

    Raises:
        ConfigError: another field, or a pattern that leads out of the folder.
    """

    def __init__(self, pattern: object = DEFAULT) -> None:
        if not isinstance(pattern, str) or not pattern.strip():
            raise ConfigError(f"name is {shortened(pattern)}; text is needed, such as {DEFAULT}.")
        try:
            parts = list(string.Formatter().parse(pattern))
        except ValueError as error:
            raise ConfigError(f"name: {shortened(pattern)} is no template: {error}.") from error
        for _, field, spec, conversion in parts:
            if field is None:
                continue
            if field not in FIELDS or conversion:
                what = f"name: {shortened(pattern)} has the field {shortened(field)}; there are "
                raise ConfigError(f"{what}{', '.join(FIELDS)}.{near_miss(field[:50], FIELDS)}")
            if not re.fullmatch(r"0?\d{0,3}", spec or ""):
                raise ConfigError(f"name: {shortened(pattern)}: {shortened(spec)} is no width; such as :05.")
        self._parts = [(text, field, spec or "") for text, field, spec, _ in parts]
        shape = "".join(text + ("" if field is None else "x") for text, field, _ in self._parts)
        if not is_inside(shape) or "\\" in shape:
            raise ConfigError(
                f"name: {shortened(pattern)} leads out of the folder of the pictures; use / for folders in "
                "it, and neither .. nor drives."
            )

    def fill(self, index: int, request: GenerateRequest, key: str) -> str:
        """The name of one picture, with its suffix: a relative path, its parts separated by `/`."""
        filled = "".join(
            text + ("" if field is None else _written(field, FIELDS[field](index, request, key), spec))
            for text, field, spec in self._parts
        )
        *folders, last = [safe_part(part) for part in filled.split("/") if part.strip()] or ["picture"]
        # A folder is not named as a picture, so that no picture can be in its way.
        folders = [f"{part}_" if part.lower().endswith(SUFFIXES) else part for part in folders]
        stem, dot, suffix = last.rpartition(".")
        if not stem or f".{suffix.lower()}" not in SUFFIXES:
            stem, dot, suffix = last, ".", "png"
        return "/".join([*folders, f"{_cut(stem) or 'picture'}{dot}{suffix.lower()}"])


class Names:
    """Gives each picture its name, and a second one of the same name the letters of its hash."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._own: dict[str, Template] = {}
        self._taken: set[str] = set()

    def template(self, pattern: object) -> Template:
        """The template of an item's own `name`; None is the batch's. Raises ConfigError."""
        if pattern is None:
            return self._template
        if not isinstance(pattern, str) or pattern not in self._own:
            self._own[str(pattern)] = Template(pattern)
        return self._own[str(pattern)]

    def take(self, pattern: object, index: int, request: GenerateRequest, key: str) -> str:
        """A name by `pattern` that no picture has yet."""
        name = self.template(pattern).fill(index, request, key)
        for more in (key[:8], str(index)):
            if self._is_taken(name):
                name = with_suffix(name, more)
        self._taken.add(_folded(name))
        return name

    def _is_taken(self, name: str) -> bool:
        return _folded(name) in self._taken or _RESERVED.fullmatch(_folded(name)) is not None


def with_suffix(name: str, more: str) -> str:
    """`cats/a.png`, `1f` -> `cats/a-1f.png`."""
    stem, _, suffix = name.rpartition(".")
    return f"{stem}-{more}.{suffix}"


def safe_part(text: str) -> str:
    """One part of a path as every system takes it."""
    text = _FORBIDDEN.sub("-", unicodedata.normalize("NFC", text)).strip(" ").strip(".").strip(" ")
    text = _cut(text) or "picture"
    return f"{text}_" if _DEVICES.fullmatch(text) else text


def is_inside(name: str) -> bool:
    """Whether a relative path stays in its folder, on every system."""
    parts = re.split(r"[/\\]", name)
    return (
        bool(name)
        and ".." not in parts
        and parts[0] != ""
        and "\0" not in name
        and not re.match("[A-Za-z]:", name)
    )


def _written(field: str, value: object, spec: str) -> str:
    if isinstance(value, int):
        return str(value).zfill(int(spec or 0))
    return slug(str(value), int(spec or 0) or _LONGEST) if field in _TEXTS else str(value)


def _stack(request: GenerateRequest) -> str:
    uses = [f"{slug(_stem(use.name), 16)}-{use.scale:g}" for use in request.adapters]
    return "+".join(uses[:4]) if uses else "none"


def _stem(path: str) -> str:
    return re.split(r"[/\\]", path)[-1].removesuffix(".safetensors")


def _cut(text: str) -> str:
    return text.encode()[:MOST_BYTES].decode(errors="ignore").rstrip(" .")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
