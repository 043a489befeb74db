"""TrainConfig: every setting of a training run. Flags, TOML keys and this class are views of one thing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import tomli_w
from PIL import ImageColor

from lorastyle.adapters import atomic_write
from lorastyle.bases import AUTO, FOR_TRAINING, toml_advice
from lorastyle.errors import ConfigError, near_miss
from lorastyle.notes import note
from lorastyle.pictures import SUFFIXES
from lorastyle.text_files import decode_text

from .settings import Setting, number, path, shown, switch, text, texts, whole

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KINDS = ("style", "subject")
PRECISIONS = ("auto", "float32", "bfloat16")
KEYS = {"class_name": "class"}
"""Field -> TOML key and flag, where they differ: `class` is a word of Python's."""

_OTHER_FILES = frozenset({".pt", ".pth", ".ckpt", ".bin", ".safetensors", *SUFFIXES})
"""Endings that are no part of an adapter's name: those of other weights, and of pictures."""
_ALSO = {"fp32": "float32", "bf16": "bfloat16"}  # what other trainers call them
_HEADER = "# Settings of a lorastyle training run. Run it again: lorastyle train --config this-file.toml\n"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run. Only `images` is needed; None means that the plan decides, from base and pictures.

    Paths may start with ~ and are made absolute at once, so that they mean the same later and elsewhere.

    Raises:
        ConfigError: values of a wrong type or out of range; `.problems` has one sentence for each of them.
    """

    images: str = path()
    """The folder of pictures."""
    out: str | None = path(None)
    """The adapter's file, ending in .safetensors; None: adapters/<name>.safetensors."""
    base: str = text("embedded")
    """The word "embedded", a Hub id, or a checkpoint or folder (absolute, or starting with . or ~)."""
    name: str | None = text(None)
    """The adapter's name; None: the file's or the trigger."""
    trigger: str | None = text(None)
    """The word that calls the adapter; None: the folder's name."""
    class_name: str | None = text(None)
    """What the pictures show, when they show one thing: "cat", "face". In TOML and flags: `class`."""
    kind: str | None = text(None, KINDS)
    """What the trigger names: a "style", or one "subject"; None: by whether captions differ."""
    steps: int | None = whole(None, 1, 1_000_000, such_as=600)
    """Optimiser steps; None: from the number of pictures."""
    batch_size: int | None = whole(None, 1, 1024, such_as=4)
    """Pictures a step (class pictures of `prior` come on top); None: what fits the base and the machine."""
    resolution: int | None = whole(None, 64, 4096, such_as=512)
    """Pixels a side, a multiple of 8; None: the base's own."""
    rank: int | None = whole(None, 1, 4096, such_as=16)
    """Of the low-rank updates; None: from the base."""
    alpha: float | None = number(None, 1e-6, 1e6, such_as=16)
    """The update is scaled by alpha / rank; None means rank."""
    rslora: bool = switch(False)
    """Scale by alpha / sqrt(rank) instead (Kalajdzievski 2023, arXiv:2312.03732)."""
    dropout: float = number(0.0, 0, 0.99, such_as=0.1)
    """Probability of dropping an input of the adapter in training."""
    targets: tuple[str, ...] | None = texts(None, such_as="attention+ff")
    """Presets ("attention", "attention+ff", "all"), module names or globs; None: from the base."""
    lr: float | None = number(None, 0, 10, such_as=1e-4)
    """Learning rate of the UNet's part; 0 leaves it alone; None: from the base."""
    text_encoder_lr: float | None = number(None, 0, 10, such_as=5e-5)
    """Learning rate of the text encoder's part; 0 leaves it alone; None: from the base."""
    clip_skip: int = whole(1, 1, 12, such_as=2)
    """Which text layer is read: 1 is the last, 2 the one before (SDXL always leaves out one)."""
    weight_decay: float = number(0.01, 0, 1, such_as=0.01)
    """Of AdamW."""
    min_snr_gamma: float = number(5.0, 0, 1000, such_as=5)
    """Min-SNR weighting (Hang et al. 2023, arXiv:2303.09556); 0 turns it off."""
    prior: float = number(0.0, 0, 100, such_as=1)
    """Weight of prior preservation; 0 or false: none; true: 1."""
    prior_images: int | None = whole(None, 0, 100_000, such_as=50)
    """How many class pictures; None or 0: from the number of pictures."""
    prior_folder: str | None = path(None)
    """Where drawn class pictures are kept; None: the cache folder."""
    seed: int = whole(0, 0, 2**53 - 1, such_as=7)
    """All randomness of a step is a function of (seed, step, picture)."""
    sample_prompts: tuple[str, ...] | None = texts(None, such_as="a {trigger} on a beach")
    """What the samples and the sheet draw; "{trigger}" is filled in. None: prompts that suit the kind."""
    sheet: bool = switch(True)
    """Draw the before/after sheet at the end."""
    sidecars: bool = switch(False)
    """Write <name>.json and <name>.png beside the adapter, which A1111, Forge and InvokeAI show of it."""
    sample_every: int | None = whole(None, 0, 1_000_000, such_as=100)
    """Steps between sample pictures; 0: none."""
    save_every: int | None = whole(None, 1, 1_000_000, such_as=100)
    """Steps between checkpoints."""
    gradient_checkpointing: bool | None = switch(None)
    """Less memory for more time; None: where memory is short."""
    precision: str = text("auto", PRECISIONS)
    """Of the base: "auto", "float32" or "bfloat16" (or "bf16"); the adapter is always float32."""
    memory: str = text(AUTO, FOR_TRAINING)
    """How the base is kept: "fast", "offload", "int8" or "nf4", each with less memory than the one before;
    "auto": the first that fits."""
    background: str = text("white")
    """What shows through transparent parts: a colour's name or #rrggbb."""

    def __post_init__(self) -> None:
        problems: list[str] = []
        for f in fields(self):
            setting, value = cast(Setting, f.metadata["setting"]), cast(object, getattr(self, f.name))
            if f.name == "prior" and isinstance(value, bool):
                value = float(value)
            if f.name == "precision" and isinstance(value, str):
                value = _ALSO.get(value, value)
            if value == "" and f.default is None:
                value = None  # left empty in a form: the same as not given
            if value is None and f.default is None:
                checked: object = None
            else:
                try:
                    checked = setting.read(KEYS.get(f.name, f.name), value)
                except ValueError as error:
                    problems.append(str(error))
                    continue
            object.__setattr__(self, f.name, checked)
        if problems := [*problems, *self._more_problems()]:
            raise ConfigError(problems)
        if self.base.startswith((f".{os.sep}", "./", f"..{os.sep}", "../", "~")) or _is_there(self.base):
            object.__setattr__(self, "base", os.path.abspath(os.path.expanduser(self.base)))

    def _more_problems(self) -> Iterable[str]:
        """What a type and a range do not say."""
        resolution = cast(object, self.resolution)
        if isinstance(resolution, int) and 64 <= resolution <= 4096 and resolution % 8:
            near = round(resolution / 8) * 8
            yield f"resolution = {resolution}: must be a multiple of 8; the nearest is {near}."
        if (out := self._text("out")) and Path(out).suffix != ".safetensors":
            stem, ending = os.path.splitext(out)
            better = (stem if ending.lower() in _OTHER_FILES else out) + ".safetensors"
            if not Path(better).stem.strip("."):
                better = "adapters/mine.safetensors"
            yield f'out = {shown(out)}: must end in .safetensors; try "{better}".'
        if set(name := self._text("name")) & set("/\\"):
            yield f"name = {shown(name)}: a name has no slashes; `out` says where the file goes."
        elif name and not name.strip(". "):
            yield f"name = {shown(name)}: a name has a letter or a digit in it."
        if "," in (trigger := self._text("trigger")):
            yield f"trigger = {shown(trigger)}: must have no commas."
        if background := self._text("background"):
            try:
                ImageColor.getrgb(background)
            except ValueError:
                given = shown(background)
                yield f'background = {given}: no such colour; try "white", "black" or "#e0e0e0".'

    def _text(self, name: str) -> str:
        """A text, or nothing where there is another kind of value, which was complained about already."""
        value = cast(object, getattr(self, name))
        return value if isinstance(value, str) else ""

    @classmethod
    def from_mapping(cls, values: Mapping[str, object], *, source: str = "") -> TrainConfig:
        """A config of TOML keys (`class`, not `class_name`).

        Args:
            source: where the values are from, put before each problem.

        Raises:
            ConfigError: unknown keys, with near misses, and every value that does not fit.
        """
        problems, made = cls._try(values)
        if made is None:
            raise ConfigError([f"{source}: {problem}" if source else problem for _, problem in problems])
        return made

    @classmethod
    def _try(cls, values: Mapping[str, object]) -> tuple[list[tuple[str, str]], TrainConfig | None]:
        """([(key, problem)], the config where there is no problem)."""
        names = {KEYS.get(f.name, f.name): f.name for f in fields(cls)}
        problems = [(key, _unknown(key, value, names)) for key, value in values.items() if key not in names]
        known: dict[str, Any] = {"images": ""}
        known.update((names[key], value) for key, value in values.items() if key in names)
        try:
            made = cls(**known)
        except ConfigError as error:
            return [*problems, *((problem.split(" ", 1)[0], problem) for problem in error.problems)], None
        return problems, None if problems else made

    @classmethod
    def from_toml(
        cls,
        path: str | Path,
        overrides: Mapping[str, object] | None = None,
        *,
        defaults: Mapping[str, object] | None = None,
    ) -> TrainConfig:
        """Read a TOML file; `overrides` (TOML keys) win over it, and it over `defaults`.

        Relative paths in the file start at its folder.

        Raises:
            ConfigError: the file is missing or no TOML, or as `from_mapping`.
        """
        path = Path(path).expanduser()
        text = _toml_text(path)
        try:
            values: dict[str, object] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f'config: "{path}" is not valid TOML: {toml_advice(error)}') from None
        except (ValueError, RecursionError):  # the parser's own limits: it does not say where
            raise ConfigError(
                f'config: "{path}" holds a number of thousands of digits, or lists in lists hundreds deep. '
                "No setting needs that: take it out."
            ) from None
        home = Path(os.path.abspath(path)).parent
        for key in _PATHS:
            value = values.get(key)
            if isinstance(value, str) and value:
                values[key] = str(home / Path(value).expanduser())
        base = values.get("base")
        if isinstance(base, str) and base.startswith(("./", "../", ".\\", "..\\")):
            values["base"] = str(home / base)
        given = overrides or {}
        problems, made = cls._try({**(defaults or {}), **values, **given})
        if made is None:
            raise ConfigError(
                [problem if key in given else f"{path.name}: {problem}" for key, problem in problems]
            )
        return made

    def to_toml(self, path: str | Path | None = None) -> str:
        """The settings that are set, as TOML that is itself a valid `--config`.

        Args:
            path: write it there too, atomically; paths inside that file's folder are then written relative to
                it, so that the folder can be moved. All others are absolute.
        """
        home = None if path is None else Path(os.path.abspath(Path(path).expanduser())).parent
        values: dict[str, object] = {}
        for f in fields(self):
            value: object = getattr(self, f.name)
            if value is None:
                continue
            if isinstance(value, str) and (f.name in _PATHS or (f.name == "base" and os.path.isabs(value))):
                value = _from(home, value, here="./" if f.name == "base" else "")
            values[KEYS.get(f.name, f.name)] = (
                list(cast("tuple[str, ...]", value)) if isinstance(value, tuple) else value
            )
        toml = _HEADER + tomli_w.dumps(values)
        if home is not None and path is not None:
            atomic_write(home / Path(path).name, toml.encode())
        return toml


def _toml_text(path: Path) -> str:
    """The text of a settings file, with a note where its encoding had to be guessed.

    Raises:
        ConfigError: it cannot be read, or is in an encoding that cannot be guessed.
    """
    try:
        decoded = decode_text(path.read_bytes())
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(f'config: "{path}" cannot be read ({why}). Check the path.') from None
    if decoded.doubtful:
        raise ConfigError(f'config: "{path}" is not text in UTF-8. Save it as plain text in UTF-8.')
    if decoded.note:
        note(f"{path}, line {decoded.line}: the file {decoded.note}.")
    return decoded.text


_PATHS = tuple(f.name for f in fields(TrainConfig) if f.metadata["setting"].kind == "path")


def _is_there(base: str) -> bool:
    """Whether it is a file or folder, which comes before a Hub id of that name, as for `load_base`."""
    try:
        return base != "embedded" and os.path.exists(base)
    except ValueError:  # a name that no file can have
        return False


def _from(home: Path | None, value: str, here: str) -> str:
    """`value` as seen from the folder `home` where it is inside; else as it is."""
    if home is None or not Path(value).is_relative_to(home):
        return value
    return here + Path(value).relative_to(home).as_posix()


def _unknown(key: str, value: object, names: Iterable[str]) -> str:
    if isinstance(value, Mapping):
        return f"{key} is a table; settings stand at the top of the file, without [{key}]."
    return f"{key} is no setting.{near_miss(key, names) or ' Settings are ' + ', '.join(names) + '.'}"
