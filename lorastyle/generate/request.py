"""What to draw: the one schema behind the command line, the Python API, manifests and pictures' metadata."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

from lorastyle.errors import ConfigError, is_unicode, near_miss, shortened

from .schedulers import SCHEDULERS, scheduler_name
from .uses import MAX_TEXT, AdapterUse, is_number

MAX_SEED = 2**53 - 1  # the largest whole number that JSON keeps in every language
SIZES = (16, 4096)
STEPS = (1, 1000)
GUIDANCE = (0.0, 100.0)
NUMBER = (1, 10_000)
CLIP_SKIP = (1, 12)
MAX_HIRES = 4.0
STRENGTH, HIRES_STRENGTH = 0.6, 0.4  # where they are left open
MAX_ADAPTERS = 256
COMBINE = ("composite", "k-lora")
_MOST_PROBLEMS = 20
_WHOLE = ("seed", "steps", "width", "height", "number", "clip_skip")


@dataclass(frozen=True)
class GenerateRequest:
    """What to draw. Every problem with its values is reported at once.

    Raises:
        ConfigError: values that cannot be used; `.problems` has one sentence for each.
    """

    prompt: str
    """What the picture shows, with A1111's weights, `[from:to:when]`, `[a|b]`, `AND` and `BREAK`."""
    negative_prompt: str = ""
    """What it should not show; heeded where guidance is above 1, or `AND` composes prompts."""
    adapters: tuple[AdapterUse, ...] = ()
    """Which adapters, each with its scale."""
    seed: int | None = None
    """Seed of the first picture, each further one takes the next; None draws a random one and records it."""
    steps: int = 30
    """How many denoising steps."""
    guidance: float | None = None
    """How strictly to follow the prompt (classifier-free guidance); 1 and below switch it off. None is the
    base's own."""
    guidance_rescale: float | None = None
    """How far to undo the overexposure of guidance, 0 to 1; None is the base's own."""
    width: int | None = None
    """Pixels, a multiple of 8; None is the base's own size."""
    height: int | None = None
    """Pixels, a multiple of 8; None is the base's own size."""
    init: str | None = None
    """A picture to start from, instead of noise alone."""
    init_hash: str | None = None
    """First 12 hex digits of that file's sha256, recorded when a picture is drawn."""
    strength: float | None = None
    """With `init`: how much is drawn anew, above 0 up to 1; 1 leaves nothing of it, None is 0.6, or
    with a mask an inpainting base's own (1; of SDXL 0.99)."""
    mask: str | None = None
    """With `init`: a picture that is white where it is drawn anew; the rest stays as it is."""
    mask_hash: str | None = None
    """As `init_hash`."""
    hires: float = 1.0
    """Draw at the size asked for, then enlarge that many times and draw the details; 1 is off."""
    hires_strength: float | None = None
    """With `hires`: how much of the enlarged picture is drawn anew, above 0 up to 1; None is 0.4."""
    combine: str | None = None
    """How several adapters act together: None adds them up; "composite" asks the base once with each alone,
    and averages the answers (LoRA Composite, Zhong et al. 2024, arXiv:2402.16843); "k-lora" has each layer of
    the UNet take the first of two, the subject, and from some step on the second, the style (K-LoRA, Ouyang
    et al. 2025, arXiv:2502.18461)."""
    mixture: bool = False
    """Experimental: `[words:adapter]` in the prompt has an adapter act where the picture attends to the
    words. It is read into the adapter's own `words`, which are recorded."""
    number: int = 1
    """How many pictures."""
    clip_skip: int = 1
    """Which text layer is read: 1 is the last, 2 the one before (SDXL always leaves out one)."""
    scheduler: str | None = None
    """One of `SCHEDULERS`: ddim, euler, euler a, dpm++ 2m karras, unipc, lcm, ...; None is the base's own, or
    lcm where an adapter named so is in use."""
    base: str | None = None
    """"embedded", a checkpoint file, a folder or a Hub id; None is LORASTYLE_BASE, else "embedded"."""
    base_hash: str | None = None
    """First 10 hex digits of a checkpoint file's sha256, recorded when a picture is drawn; not of folders."""

    def __post_init__(self) -> None:
        problems = _request_problems({f.name: getattr(self, f.name) for f in fields(self)})
        if problems:
            raise ConfigError(problems)
        for key in ("guidance", "guidance_rescale", "strength", "hires", "hires_strength"):
            if getattr(self, key) is not None:  # 1 and 1.0 are one request: one hash, the same bytes recorded
                object.__setattr__(self, key, float(getattr(self, key)))
        if self.scheduler is not None:
            object.__setattr__(self, "scheduler", scheduler_name(self.scheduler))

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> GenerateRequest:
        """Build a request from plain values: the inverse of `to_dict`.

        An adapter may be a table {name, scale} or the text "name:scale". A whole number may be written as
        20.0, as spreadsheets and some languages do.

        Raises:
            ConfigError: unknown keys, with the nearest known one, and every problem with the values.
        """
        values = dict(values)
        problems = _unknown_keys(values, cls)
        if isinstance(values.get("adapters"), (list, tuple)):
            uses, adapter_problems = _adapter_uses(cast("Sequence[object]", values["adapters"]))
            problems += adapter_problems
            values["adapters"] = uses
        values |= {key: _as_whole(values[key]) for key in _WHOLE if key in values}
        if "prompt" not in values:
            problems.append("prompt is missing: say what to draw.")
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        problems += _request_problems(known)
        if problems:
            raise ConfigError(problems)
        return cls(**cast("dict[str, Any]", known))

    def to_dict(self) -> dict[str, object]:
        """Plain values, ready for JSON or TOML; what is None is left out."""
        values: dict[str, object] = {f.name: getattr(self, f.name) for f in fields(self)}
        values["adapters"] = [use.to_dict() for use in self.adapters]
        if not self.mixture:  # off, it is nothing to record: requests keep the ids that batches gave them
            del values["mixture"]
        return {key: value for key, value in values.items() if value is not None}


def _adapter_uses(items: Sequence[object]) -> tuple[tuple[AdapterUse, ...], list[str]]:
    uses: list[AdapterUse] = []
    problems: list[str] = []
    for item in items:
        try:
            if isinstance(item, AdapterUse):
                uses.append(item)
            elif isinstance(item, str):
                uses.append(AdapterUse.parse(item))
            elif isinstance(item, Mapping):
                uses.append(AdapterUse.from_dict(cast("Mapping[str, object]", item)))
            else:
                what = f"adapters: {shortened(item)} is neither"
                problems.append(f'{what} "name:scale" nor a table of name and scale.')
        except ConfigError as error:
            problems += error.problems
    return tuple(uses), problems


def _unknown_keys(values: Mapping[str, object], schema: type[Any], where: str = "") -> list[str]:
    allowed = [f.name for f in fields(schema)]
    return [
        f"{where}unknown key {shortened(key)}.{near_miss(str(key)[:100], allowed)} "
        f"Allowed are {', '.join(allowed)}."
        for key in [key for key in values if key not in allowed][:_MOST_PROBLEMS]
    ]


def _request_problems(values: Mapping[str, object]) -> list[str]:
    """What is wrong with the values given; a field that is not among them is not judged."""
    problems: list[str] = []

    def judge(key: str, good: bool, needed: str) -> None:
        if not good:
            problems.append(f"{key} is {shortened(values[key])}; {needed}.")

    for key in ("prompt", "negative_prompt"):
        if key in values:
            text = values[key]
            judge(
                key,
                isinstance(text, str) and len(text) <= MAX_TEXT and is_unicode(text),
                f"text of at most {MAX_TEXT:,} letters in UTF-8 is needed",
            )
    for key, (low, high) in (("steps", STEPS), ("number", NUMBER), ("clip_skip", CLIP_SKIP)):
        if key in values:
            judge(key, _is_whole(values[key], low, high), f"a whole number from {low} to {high} is needed")
    for key in ("width", "height"):
        size = values.get(key)
        if size is not None:
            good = _is_whole(size, *SIZES) and cast(int, size) % 8 == 0
            judge(
                key,
                good,
                f"a multiple of 8 from {SIZES[0]} to {SIZES[1]} is needed, or none for the base's own",
            )
    if values.get("guidance") is not None:
        guidance = values["guidance"]
        good = is_number(guidance) and GUIDANCE[0] <= cast(float, guidance) <= GUIDANCE[1]
        needed = f"a number from {GUIDANCE[0]:g} to {GUIDANCE[1]:g} is needed, or none for the base's own"
        judge("guidance", good, needed)
    if values.get("guidance_rescale") is not None:
        rescale = values["guidance_rescale"]
        good = is_number(rescale) and 0 <= cast(float, rescale) <= 1
        judge("guidance_rescale", good, "a number from 0 to 1 is needed, or none for the base's own")
    for key in ("strength", "hires_strength"):
        if values.get(key) is not None:
            good = is_number(values[key]) and 0 < cast(float, values[key]) <= 1
            judge(key, good, "a number above 0 and up to 1 is needed")
    if "hires" in values:
        good = is_number(values["hires"]) and 1 <= cast(float, values["hires"]) <= MAX_HIRES
        judge("hires", good, f"a number from 1 (off) to {MAX_HIRES:g} is needed")
    for key in ("init", "mask"):
        if values.get(key) is not None:
            name = values[key]
            good = isinstance(name, str) and 0 < len(name.strip()) <= MAX_TEXT and is_unicode(name)
            judge(key, good and "\0" not in cast(str, name), "the path of a picture is needed")
            problems += _escapes(key, name)
    if values.get("mask") is not None and values.get("init") is None:
        problems.append("mask is given without init: name the picture it belongs to.")
    if values.get("strength") is not None and values.get("init") is None:
        problems.append("strength is given without init: name the picture to start from.")
    if values.get("hires_strength") is not None and values.get("hires", 1) == 1:
        problems.append("hires_strength is given without hires: say how many times larger, such as 2.")
    for key, count in (("init_hash", 12), ("mask_hash", 12), ("base_hash", 10)):
        if values.get(key) is not None:
            digest = values[key]
            good = isinstance(digest, str) and re.fullmatch(f"[0-9a-f]{{{count}}}", digest) is not None
            judge(key, good, f"{count} hex digits are needed")
    if values.get("combine") is not None:
        word = values["combine"]
        judge("combine", word in COMBINE, f"allowed are {', '.join(COMBINE)}, or none to add adapters up")
        adapters = values.get("adapters")
        uses = cast("tuple[object, ...]", adapters) if isinstance(adapters, tuple) else ()
        if parted := [use for use in uses if isinstance(use, AdapterUse) and (use.mask or use.words)]:
            problems.append(
                f"combine is {shortened(word)}, and the adapter {shortened(parted[0].name)} has "
                f"{'a mask' if parted[0].mask else 'words'}: take one out."
            )
    if "mixture" in values:
        judge("mixture", isinstance(values["mixture"], bool), "true or false is needed")
    problems += _too_few_steps(values)
    if values.get("seed") is not None:
        number = values.get("number", 1)  # each further picture takes the next seed
        last = MAX_SEED - (cast(int, number) - 1 if _is_whole(number, *NUMBER) else 0)
        judge("seed", _is_whole(values["seed"], 0, last), f"a whole number from 0 to {last} is needed")
    if values.get("scheduler") is not None:
        word = values["scheduler"]
        hint = near_miss(word.lower(), SCHEDULERS) if isinstance(word, str) else ""
        good = isinstance(word, str) and scheduler_name(word) is not None
        judge("scheduler", good, f"allowed are {', '.join(SCHEDULERS)}")
        problems[-1:] = [problems[-1] + hint] if problems and not good else problems[-1:]
    if values.get("base") is not None:
        base = values["base"]
        good = isinstance(base, str) and 0 < len(base.strip()) <= MAX_TEXT and is_unicode(base)
        judge("base", good, '"embedded", a checkpoint file, a folder or a Hub id is needed')
        problems += _escapes("base", base)
    return problems + _adapters_problems(values.get("adapters", ()))


def _escapes(key: str, path: object) -> list[str]:
    """A path with a tab or line break in it was written with single backslashes where these begin escapes."""
    if isinstance(path, str) and any(letter in path for letter in "\a\b\t\n\f\r"):
        return [
            f"{key} is {shortened(path)}, with a line break or tab in it. In double quotes a backslash "
            "begins an escape: write two of them, or forward slashes."
        ]
    return []


def _too_few_steps(values: Mapping[str, object]) -> list[str]:
    """A share of the steps that is none at all."""
    steps, problems = values.get("steps", 30), list[str]()
    # within a mask an open strength is the base's to choose, and may be all of it
    own = STRENGTH if values.get("mask") is None else 1.0
    asked = {
        "strength": (values.get("init") is not None, own),
        "hires_strength": (values.get("hires", 1) != 1, HIRES_STRENGTH),
    }
    for key, (used, open_share) in asked.items():
        share = values.get(key) or open_share
        if used and _is_whole(steps, *STEPS) and is_number(share) and 0 < cast(float, share) <= 1:
            if int(cast(int, steps) * cast(float, share) + 1e-9) < 1:
                problems.append(f"{key} is {share} of {steps} steps: not one is taken. Raise either.")
    return problems


def _adapters_problems(adapters: object) -> list[str]:
    uses = cast("tuple[object, ...]", adapters) if isinstance(adapters, tuple) else None
    if uses is None or not all(isinstance(use, AdapterUse) for use in uses):
        what = f"adapters is {shortened(adapters)}"
        return [f'{what}; a tuple is needed, such as (AdapterUse.parse("cat:0.8"),).']
    if len(uses) > MAX_ADAPTERS:
        return [f"adapters: {len(uses):,} of them; at most {MAX_ADAPTERS} are allowed."]
    counts = Counter(cast(AdapterUse, use).name for use in uses)
    return [
        f"adapters: {shortened(name)} is there twice. Name it once, with the sum of the scales."
        for name, count in sorted(counts.items())
        if count > 1
    ]


def _as_whole(value: object) -> object:
    """20 for 20.0; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
