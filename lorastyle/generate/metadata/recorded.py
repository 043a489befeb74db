"""What a picture records, read and made safe, before anything is looked for on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from lorastyle.errors import shortened

from ..request import CLIP_SKIP, GUIDANCE, MAX_HIRES, MAX_SEED, SIZES, STEPS, GenerateRequest

_MOST_REMARKS = 20
_WHOLE = {"steps": STEPS, "clip_skip": CLIP_SKIP}
_SHARES = ("strength", "hires_strength")
_REAL = {"guidance": GUIDANCE, "guidance_rescale": (0.0, 1.0), "hires": (1.0, MAX_HIRES)}


@dataclass(frozen=True)
class Recorded:
    """The request as a picture has it.

    Attributes:
        request: names instead of paths, numbers within bounds, `number` 1.
        remarks: a sentence for all that was changed or not understood.
        strength: of a picture it started from that is not named; a request cannot hold one without the other.
        digests: hashes of adapters, by name, that are not of the 12 digits that a request keeps.
        model: the model's name, with its hash, where the picture names no base of ours.
        foreign: another tool drew it, so the same seed is not the same noise.
    """

    request: GenerateRequest
    remarks: tuple[str, ...] = ()
    strength: float | None = None
    digests: Mapping[str, str] = field(default_factory=dict[str, str])
    model: str | None = None
    foreign: bool = False


def fewer(remarks: Iterable[str]) -> tuple[str, ...]:
    """Each remark once, and no more of them than people read."""
    unique = tuple(dict.fromkeys(remarks))
    if len(unique) <= _MOST_REMARKS:
        return unique
    return (*unique[:_MOST_REMARKS], f"And {len(unique) - _MOST_REMARKS:,} more.")


def clamped(values: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """The values of a request with numbers moved into bounds, and what was moved. What is no number, and none
    where one is needed, is left as it is, for the request to complain about.
    """
    found, remarks = dict(values), list[str]()
    for key, value in values.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value != value:
            continue
        new = _clamp(key, value)
        if new != value:
            used = "it is left open" if new is None else f"{new} is used"
            remarks.append(f"{key} is {shortened(value, 30)} in the picture: {used}.")
        if new is None:
            del found[key]
        else:
            found[key] = new
    return found, remarks


def _clamp(key: str, value: float) -> float | None:
    if key in ("width", "height"):
        return clamp_size(value)
    if key in _WHOLE:
        return int(clamp(value, *_WHOLE[key]))
    if key in _REAL:
        return clamp(value, *_REAL[key])
    if key in _SHARES:
        return min(value, 1.0) if value > 0 else None
    if key == "seed" and isinstance(value, int) and not 0 <= value <= MAX_SEED:
        return None
    return value


def clamp(value: float, low: float, high: float) -> float:
    """`value`, or the bound it is beyond."""
    return min(max(value, low), high)


def clamp_size(pixels: float) -> int:
    """The nearest size that is allowed: within bounds, a multiple of 8."""
    return int(clamp(pixels, *SIZES)) // 8 * 8


def known_only(
    values: Mapping[str, object], known: Iterable[str], what: str
) -> tuple[dict[str, object], list[str]]:
    """`values` without keys that nobody here knows, and a remark that names them."""
    kept = {key: values[key] for key in known if key in values}
    strange = [key for key in values if key not in kept]
    if not strange:
        return kept, []
    named = ", ".join(shortened(key, 40) for key in strange[:5])
    more = f" and {len(strange) - 5:,} more" if len(strange) > 5 else ""
    return kept, [f"{what} has {named}{more}, which this lorastyle does not know: left out."]


def as_table(value: object) -> dict[str, object] | None:
    """JSON's own objects, and nothing else."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else None
