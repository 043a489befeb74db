"""How the use of an adapter is written: in `-a`, in a tag, in a manifest, in other programs' images.

    cat                         at its full strength
    cat:0.8                     at a scale of 0.8
    cat:0.5:0.8                 A1111's: 0.5 on the text encoders, 0.8 on the UNet
    cat:0.8:te=0.5:start=0.2    with options, the fields of `AdapterUse`
    cat:0@0.2,1@0.6             scales by step, as in sd-webui-loractl; `te=`, `unet=` and `hr=` as well
    cat:1:lbw=OUTALL:step=5-10  as in sd-webui-lora-block-weight; also `cat:1:OUTALL` and `cat:1:1,0,0,...`

What lorastyle cannot do is left out with a note that names it; what cannot be understood is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from lorastyle.adapters import SPLITS
from lorastyle.errors import ConfigError, near_miss, shortened
from lorastyle.notes import note

from .schedule import Schedule
from .step_points import FLOAT, POINTS, in_shares

NUMBERS = ("te", "unet", "start", "stop")
OPTIONS = (*NUMBERS, "blocks", "schedule", "mask", "words")
# What other programs call them: hako-mikan's LoRA Block Weight, A1111 and loractl.
_ALIASES = {"lbw": "blocks", "w": "blocks"}
_FOREIGN = {
    "dyn": "limits its rank",
    **dict.fromkeys(("hr", "hrte", "hrunet"), "is a scale for the hires pass alone"),
    "lbwe": "weights single layers",
    "x": "fills in weights that are written as X",
    "module": "names one of several models of a pipeline",
}
_SIDES = {"in": "IN", "mid": "MID", "out": "OUT"}  # SD.Next's scales of the UNet's blocks
# The presets that LoRA Block Weight comes with, for the 17 blocks of Stable Diffusion 1.x and 2.x.
PRESETS: Mapping[str, str] = {
    name: ",".join(weights)
    for name, weights in {
        "NONE": ["0"] * 17,
        "ALL": ["1"] * 17,
        "INS": ["1"] * 4 + ["0"] * 13,
        "IND": ["1"] + ["0"] * 3 + ["1"] * 3 + ["0"] * 10,
        "INALL": ["1"] * 7 + ["0"] * 10,
        "MIDD": ["1"] + ["0"] * 3 + ["1"] * 8 + ["0"] * 5,
        "OUTD": ["1"] + ["0"] * 7 + ["1"] * 4 + ["0"] * 5,
        "OUTS": ["1"] + ["0"] * 11 + ["1"] * 5,
        "OUTALL": ["1"] + ["0"] * 7 + ["1"] * 9,
        "ALL0.5": ["0.5"] * 17,
    }.items()
}

_OPTION = re.compile(r":\s*([A-Za-z_]+)\s*=")
_NUMBER = re.compile(rf"\s*{FLOAT}\s*")
_LIST = re.compile(rf"\s*{FLOAT}(?:\s*,\s*{FLOAT}){{11,}}\s*")
# With weights that LoRA Block Weight draws at random (R, U) or takes from elsewhere in the tag (X, X+0.1).
_LIST_TO_FILL = re.compile(rf"\s*(?:{FLOAT}|[RUX][-+.\d]*)(?:\s*,\s*(?:{FLOAT}|[RUX][-+.\d]*)){{11,}}\s*")
_PRESET = re.compile(r"\s*[A-Za-z][\w.+;=-]*\s*")
# What was meant as a number: nan, inf, nothing at all, 0,8, 1/2, 0.8.1, 80%.
_NEARLY = re.compile(r"\s*(?:[+-]?(?:nan|inf|infinity)|[+-]?[\d.,]*[\d%/ ]*|)\s*", re.IGNORECASE)
_STEPS = re.compile(r"\s*(\d+)\s*-\s*(\d+)\s*")
_MOST_POSITIONAL = 4


class _Steps(float):
    """A place that is counted in steps."""


def read_use(text: str, steps: int | None = None) -> dict[str, Any]:
    """The fields of the `AdapterUse` that `text` stands for.

    Only what follows a colon and is a number, points of a schedule, a list of twelve numbers or more, or the
    name of a preset belongs to the scale; the rest is the name, so paths may hold colons.

    Args:
        steps: of the request, where places in steps are to be turned into shares of them: `start=10`,
            `step=5-10` and `1@10`.

    Raises:
        ConfigError: an unknown option, one that is there twice, or a scale that is no finite number.
    """
    marks = list(_OPTION.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    options: dict[str, str] = {}
    aliased: set[str] = set()
    for mark, end in zip(marks, ends, strict=False):  # of no mark there is one end too many
        key = _ALIASES.get(mark[1].lower(), mark[1].lower())
        if key in options or key not in (*OPTIONS, *_FOREIGN, *_SIDES, "step"):
            again = " again" if key in options else ""
            raise ConfigError(
                f"adapters: {shortened(text)} has {mark[1]}={again}; allowed are "
                f"{', '.join(f'{o}=' for o in OPTIONS)}, each once.{near_miss(mark[1], OPTIONS)}"
            )
        options[key] = text[mark.end() : end].strip()
        if mark[1].lower() in _ALIASES:
            aliased.add(key)
    name, written = _positional(text[: marks[0].start()] if marks else text)
    values: dict[str, Any] = {"name": _unquoted(name)}
    values |= _scales(values["name"], written, options, steps)
    if "blocks" in aliased:
        weights = _foreign_weights(values["name"], "lbw=", options.pop("blocks"))
        values |= {"blocks": weights} if weights is not None else {}
    values |= _options(values["name"], options, values, steps)
    return _places(values, steps)


def _positional(head: str) -> tuple[str, list[str]]:
    """The name, and what stands behind it between colons, in order."""
    written: list[str] = []
    while len(written) < _MOST_POSITIONAL and ":" in head:
        rest, _, last = head.rpartition(":")
        # a name that stands behind a number is that of a preset: cat:0.7:FACE
        behind = ":" in rest and _NUMBER.fullmatch(rest.rpartition(":")[2])
        if not _is_value(last) and not (behind and _PRESET.fullmatch(last)):
            break
        head = rest
        written.insert(0, last.strip())
    return head, written


def _is_value(text: str) -> bool:
    return bool(
        _NUMBER.fullmatch(text)
        or POINTS.fullmatch(text)
        or _LIST_TO_FILL.fullmatch(text)
        or text.strip() in PRESETS
        or _NEARLY.fullmatch(text)
    )


def _scales(name: str, written: list[str], options: Mapping[str, str], steps: int | None) -> dict[str, Any]:
    """The values of what has no name: numbers, a schedule, weights of blocks."""
    values: dict[str, Any] = {}
    numbers: list[float] = []
    weighed = False
    for item in written:
        if _is_weights(item):
            weighed = True
            if "blocks" in options or "blocks" in values:
                raise ConfigError(f"adapters: {shortened(name)} has weights of blocks twice. Keep one.")
            weights = _foreign_weights(name, "", item)
            values |= {"blocks": weights} if weights is not None else {}
        elif POINTS.fullmatch(item):
            if "schedule" in options or "schedule" in values:
                raise ConfigError(f"adapters: {shortened(name)} has scales by step twice. Keep one.")
            values["schedule"] = item
        elif weighed:
            _leave_out(name, f"{item} behind the weights of blocks", _FOREIGN["x"])
        else:
            numbers.append(_finite(name, item))
    if len(numbers) > 3:
        raise ConfigError(
            f"adapters: {shortened(name)} has {len(numbers)} numbers; one is the scale, of two the first is "
            "for the text encoders and the second for the UNet."
        )
    if len(numbers) == 3:
        _leave_out(name, f"the third number, {numbers[2]:g},", _FOREIGN["dyn"])
    if numbers and "schedule" in values:
        if POINTS.fullmatch(written[0]):  # of the text encoders, and the number is the UNet's
            te = _first_of(name, values.pop("schedule"), steps)
            return {**values, "scale": numbers[0], **({"te": te} if te != numbers[0] else {})}
        return {**values, "te": numbers[0]}
    if len(numbers) > 1:
        te, unet = numbers[:2]
        return {**values, "scale": unet, **({"te": te} if te != unet else {})}
    return {**values, **({"scale": numbers[0]} if numbers else {})}


def _is_weights(item: str) -> bool:
    """Weights of blocks, or the name of some."""
    return bool(_LIST_TO_FILL.fullmatch(item) or item.strip() in PRESETS or _is_preset(item))


def _is_preset(item: str) -> bool:
    return bool(_PRESET.fullmatch(item)) and not _NEARLY.fullmatch(item) and not POINTS.fullmatch(item)


def _foreign_weights(name: str, key: str, written: str) -> str | None:
    """Weights of blocks as LoRA Block Weight reads them; None, and a note, where they are not known."""
    if written in PRESETS:
        return PRESETS[written]
    shown = f"{key}{shortened(written, 40)}"
    if _LIST_TO_FILL.fullmatch(written) and not _LIST.fullmatch(written):
        _leave_out(name, shown, "has weights that are random or stand elsewhere (R, U, X)")
        return None
    if _is_preset(written) and written.lower() not in SPLITS:
        note(
            f"The adapter {shortened(name)}: {shown} is none of the presets that lorastyle knows "
            f"({', '.join(PRESETS)}).{near_miss(written, PRESETS)} It is left out: all blocks act in full."
        )
        return None
    return written


def _options(
    name: str, options: Mapping[str, str], before: Mapping[str, Any], steps: int | None
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, written in options.items():
        if key in _FOREIGN:
            _leave_out(name, f"{key}={shortened(written, 40)}", _FOREIGN[key])
        elif key == "unet" and POINTS.fullmatch(written):
            values |= {"schedule": written, "scale": 1.0}
            if "te" not in options:
                values["te"] = before.get("te", before.get("scale", 1.0))
        elif key == "te" and POINTS.fullmatch(written):
            values["te"] = _first_of(name, written, steps)
        elif key == "step":
            if not (found := _STEPS.fullmatch(written)):
                raise ConfigError(
                    f"adapters: step of {shortened(name)} is {shortened(written)}; two step numbers are "
                    "needed, such as step=5-10."
                )
            values |= {"start": _Steps(found[1]), "stop": _Steps(found[2])}
        elif key not in _SIDES:
            values[key] = _number(written) if key in NUMBERS else written
    sides = {key: written for key, written in options.items() if key in _SIDES}
    return values | (_sides(name, sides, {**before, **values}) if sides else {})


def _sides(name: str, sides: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, str]:
    """`in=0.2:out=1`, scales of the UNet's blocks in the place of its own, as factors of it."""
    unet = values.get("unet", values.get("scale", 1.0))
    if "blocks" in values or not isinstance(unet, float) or not unet:
        shown = ":".join(f"{key}={written}" for key, written in sides.items())
        _leave_out(name, shown, "is beside other weights of blocks, or a scale of 0")
        return {}
    factors = {_SIDES[key]: _finite(name, written) / unet for key, written in sides.items()}
    return {"blocks": ",".join(f"{block}:{factor:g}" for block, factor in factors.items())}


def _first_of(name: str, written: str, steps: int | None) -> float:
    """What a schedule for the text encoders begins with."""
    first = Schedule.parse(in_shares(written, steps)).at(0, 1)
    note(
        f"The adapter {shortened(name)} has te={shortened(written, 40)}. The prompt is encoded once, so the "
        f"text encoders use {first:g} at all steps."
    )
    return first


def _places(values: dict[str, Any], steps: int | None) -> dict[str, Any]:
    """Places in steps as shares of all steps."""
    for key in ("start", "stop"):
        value = values.get(key)
        in_steps = isinstance(value, _Steps)
        if in_steps and steps is None:
            raise ConfigError(
                f"adapters: {shortened(values['name'])} has step=; without the number of steps, write "
                "start= and stop= as shares of them, from 0 to 1."
            )
        counted = in_steps or (isinstance(value, float) and value > 1 and value.is_integer())
        if counted and steps is not None and isinstance(value, float):
            values[key] = min(1.0, float(value) / steps)
    schedule = values.get("schedule")
    if isinstance(schedule, str):
        values["schedule"] = in_shares(schedule, steps)
    return values


def _finite(name: str, written: str) -> float:
    value = _number(written)
    if not isinstance(value, float) or not math.isfinite(value):
        hint = f" Write {written.replace(',', '.')}." if re.fullmatch(r"[+-]?\d+,\d+", written) else ""
        raise ConfigError(
            f"adapters: the scale of {shortened(name)} is {shortened(written) if written else 'missing'}; a "
            f"finite number is needed, 1 is as trained.{hint}"
        )
    return value


def _number(written: str) -> float | str:
    """What a text says; what is no number is left for the checks to complain about."""
    return float(written) if _NUMBER.fullmatch(written) else written


def _unquoted(name: str) -> str:
    """`"my cat"` as LoRA Block Weight's documentation writes names."""
    plain = name.strip()
    return plain[1:-1] if len(plain) > 2 and plain[0] == plain[-1] == '"' else name


def written_name(name: str) -> str:
    """A name as `read_use` takes it: in quotes where its end would be read as a scale."""
    head, written = _positional(name)
    return f'"{name}"' if written or _unquoted(head) != name else name


def _leave_out(name: str, what: str, why: str) -> None:
    note(f"The adapter {shortened(name)}: {what} {why}, which lorastyle cannot do. It is left out.")
