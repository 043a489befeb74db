"""One adapter of a request: which, how strongly, where in the base, and at which steps."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from lorastyle.adapters import BlockWeights
from lorastyle.errors import AdapterError, ConfigError, is_unicode, near_miss, shortened
from lorastyle.library import find_adapter

from .region import Region
from .schedule import Schedule
from .use_syntax import NUMBERS, OPTIONS, read_use, written_name

MAX_TEXT = 10_000


@dataclass(frozen=True)
class AdapterUse:
    """One adapter of a request, written "path-or-name:scale", with options behind it:
    "cat:0.8:te=0.5:start=0.2:stop=0.7:blocks=IN:0,MID:0.5".

    Raises:
        ConfigError: an empty name, a scale that is no finite number, or an option that makes no sense.
    """

    name: str
    """A path, or the name of a file in ./adapters or LORASTYLE_HOME/adapters."""
    scale: float = 1.0
    """The multiplier: 0 is off, 1 as trained; negative and larger values are allowed."""
    hash: str | None = None
    """First 12 hex digits of the weights' sha256, recorded when a picture is drawn."""
    te: float | None = None
    """The multiplier for the text encoders, where it is not `scale`."""
    unet: float | None = None
    """The multiplier for the UNet, where it is not `scale`."""
    start: float = 0.0
    """The share of the steps that is drawn without it on the UNet."""
    stop: float = 1.0
    """The share of the steps after which the UNet goes on without it."""
    blocks: str | None = None
    """Factors by block: "IN:0.5,MID:0,down_blocks.1:0.2", or a list of 12, 17, 20 or 26 numbers."""
    schedule: str | None = None
    """Factors by step on the UNet: "0@0.2,1@0.6", "cosine ...", "hold ...", "turn 1/2"; see `Schedule`."""
    mask: str | None = None
    """The part of the picture that it is confined to: "left", "0,0,0.5,1", "face.png"; see `Region`."""
    words: str | None = None
    """Experimental: words of the prompt, such as "cat"; it acts where the picture attends to them."""
    mask_hash: str | None = None
    """First 12 hex digits of that picture's sha256, recorded when a picture is drawn."""
    file: Path | None = field(default=None, repr=False)
    """Where its file is, for whoever knows; `name` is then only what it is called. Never recorded."""

    def __post_init__(self) -> None:
        problems = use_problems({f.name: getattr(self, f.name) for f in fields(self)})
        if problems:
            raise ConfigError(problems)
        for key in ("scale", *NUMBERS):
            if getattr(self, key) is not None:
                object.__setattr__(self, key, float(getattr(self, key)))

    @classmethod
    def parse(cls, text: str, steps: int | None = None) -> AdapterUse:
        """Read "cat", "cat:0.8", "C:\\cats\\cat.safetensors:-1" or "cat:0@0.2,1@0.6:te=0"; see `use_syntax`.

        Args:
            steps: of the request, where places may be given in steps.

        Raises:
            ConfigError: an unknown option, one that is there twice, or a scale that is no finite number.
        """
        return cls(**read_use(text, steps))

    def __str__(self) -> str:
        options = "".join(f":{key}={_plain(value)}" for key, value in self.options().items())
        return f"{written_name(self.name)}:{self.scale!r}{options}"

    def options(self) -> dict[str, float | str]:
        """Everything but name, scale and hashes that is not as it would be anyway."""
        own = {f.name: (getattr(self, f.name), f.default) for f in fields(self) if f.name in OPTIONS}
        return {key: own[key][0] for key in OPTIONS if own[key][0] != own[key][1]}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> AdapterUse:
        """The inverse of `to_dict`; unknown keys are errors."""
        allowed = [f.name for f in fields(cls) if f.name != "file"]
        problems = [
            f"adapters: unknown key {shortened(key)}.{near_miss(str(key)[:100], allowed)} "
            f"Allowed are {', '.join(allowed)}."
            for key in [key for key in values if key not in allowed][:20]
        ]
        problems += use_problems(values)
        if problems:
            raise ConfigError(problems)
        return cls(**cast("dict[str, Any]", values))

    def find(self) -> Path:
        """Its file: the one that is known, else what the name means here.

        Raises:
            AdapterError: there is none.
        """
        if self.file is None:
            return find_adapter(self.name, self.hash)
        if not self.file.exists():
            raise AdapterError.at(self.file, "the adapter is no longer there.")
        return self.file

    def to_dict(self) -> dict[str, object]:
        """Plain values; hashes only where they are known, options only where they are used."""
        known: dict[str, object] = {"name": self.name, "scale": self.scale}
        hashes = {"hash": self.hash, "mask_hash": self.mask_hash}
        known |= {key: digest for key, digest in hashes.items() if digest is not None}
        return {**known, **self.options()}

    def scale_on(self, component: str) -> float:
        """The multiplier for "unet" or a text encoder."""
        own = self.unet if component == "unet" else self.te
        return self.scale if own is None else own

    @property
    def is_used(self) -> bool:
        """Whether it changes anything at all."""
        return any(self.scale_on(component) != 0 for component in ("unet", "text_encoder"))

    @property
    def by_step(self) -> bool:
        """Whether its strength is another from step to step."""
        return self.schedule is not None or self.start > 0 or self.stop < 1

    def factor(self, step: int, steps: int) -> float:
        """What its scale on the UNet is multiplied by at step `step` of `steps`, the first being 0."""
        if not self.start <= step / steps < self.stop:
            return 0.0
        return 1.0 if self.schedule is None else Schedule.parse(self.schedule).at(step, steps)

    @property
    def region(self) -> Region | None:
        """The part of the picture that it acts in; None is all of it."""
        return None if self.mask is None else Region.parse(self.mask)

    def weights(self, family: str | None = None) -> BlockWeights | None:
        """Its factors by block.

        Raises:
            ConfigError: `blocks` is a list of numbers for another family.
        """
        return None if self.blocks is None else BlockWeights.parse(self.blocks, family)


def use_problems(values: Mapping[str, object]) -> list[str]:
    """What is wrong with the fields of an `AdapterUse`."""
    name, scale, digest = values.get("name"), values.get("scale", 1.0), values.get("hash")
    problems: list[str] = []
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        problems.append(f"adapters: the name is {shortened(name)}; a path or a name is needed.")
    elif len(name) > MAX_TEXT:
        problems.append(f"adapters: a name of {len(name):,} letters; at most {MAX_TEXT:,} are allowed.")
    elif not is_unicode(name):
        problems.append(f"adapters: the name {shortened(name)} is no text in UTF-8.")
    if not is_number(scale):
        problems.append(
            f"adapters: the scale of {shortened(name)} is {shortened(scale)}; a finite number is needed, "
            "1 is as trained."
        )
    for what, digits in (("hash", digest), ("mask_hash", values.get("mask_hash"))):
        if digits is not None and not (isinstance(digits, str) and re.fullmatch("[0-9a-f]{12}", digits)):
            problems.append(
                f"adapters: the {what} of {shortened(name)} is {shortened(digits)}; 12 hex digits are needed."
            )
    return problems + _option_problems(name, values)


def _option_problems(name: object, values: Mapping[str, object]) -> list[str]:
    problems: list[str] = []
    for key in ("te", "unet"):
        if values.get(key) is not None and not is_number(values[key]):
            problems.append(
                f"adapters: {key} of {shortened(name)} is {shortened(values[key])}; a finite number is "
                "needed."
            )
    start, stop = values.get("start", 0.0), values.get("stop", 1.0)
    if not (is_number(start) and is_number(stop) and 0 <= cast(float, start) < cast(float, stop) <= 1):
        problems.append(
            f"adapters: {shortened(name)} starts at {shortened(start)} and stops at {shortened(stop)}; "
            "shares of the steps from 0 to 1 are needed, the start before the stop."
        )
    readers = {"blocks": BlockWeights.parse, "schedule": Schedule.parse, "mask": Region.parse}
    for key, parse in readers.items():
        text = values.get(key)
        if text is None:
            continue
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            problems.append(f"adapters: {key} of {shortened(name)} is {shortened(text)}; text is needed.")
            continue
        try:
            parse(text)
        except ConfigError as error:
            problems += [f"adapters: {shortened(name)}: {problem}" for problem in error.problems]
    words = values.get("words")
    if words is not None and not (
        isinstance(words, str) and words.strip() and not set(words) & set(":<>[]\0")
    ):
        problems.append(
            f"adapters: words of {shortened(name)} is {shortened(words)}; words of the prompt are needed, "
            "without colons and brackets."
        )
    elif words is not None and values.get("mask") is not None:
        problems.append(f"adapters: {shortened(name)} has words and a mask: take one of them out.")
    return problems


def is_number(value: object) -> bool:
    """Finite, and not a whole number beyond what a float holds."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else repr(value)
