"""Reading the `parameters` text of A1111, Forge and Civitai; `a1111.py` shows what it looks like.

The last line counts as settings where it holds at least three pairs. A1111 takes its noise from elsewhere, so
the same seed is not the same picture; what it has and lorastyle does not is named in a remark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lorastyle.errors import PictureError, shortened
from lorastyle.notes import collecting

from ..lora_tags import read_lora_tags, without_tags_in_negative
from ..request import MAX_SEED, MAX_TEXT, AdapterUse, GenerateRequest
from ..schedulers import scheduler_name
from .a1111 import NEGATIVE, lora_name
from .adapter_fields import is_adapter_field, read_adapter_fields
from .portable import last_part
from .recorded import Recorded, clamped
from .tags import HASH, finite, read_hashes, read_hashes_table, recorded_uses

# Each pattern reads a text once: bounded names, and nothing that could begin in many places.
_PAIR = re.compile(
    r'(?:^|,)[ \t]*(\w[\w \-/]{0,80}?):[ \t]*("(?:\\.|[^\\"])+"|\{[^{}\n]*\}|\[[^\[\]\n]*\]|[^,]*)'
)
_SETTINGS = re.compile(r"(?:^|[\n\s.,])(Steps:[ \t]*\d)")
_NEGATIVE = re.compile(r"(?:^|[\n\s.,])(Negative prompt:)")
MAX_TEXT_READ = 64 * 1024
_UNDERSTOOD = frozenset(
    {
        *(
            "Steps",
            "Sampler",
            "Schedule type",
            "CFG scale",
            "Seed",
            "Size",
            "Clip skip",
            "Model",
            "Model hash",
        ),
        *("Denoising strength", "Hires upscale", "Hires resize", "Hires upscaler", "Lora hashes", "RNG"),
        *("Version", "User", "Hashes", "Created Date", "Civitai resources", "Civitai metadata"),
    }
)
_SPELT = {key.lower(): key for key in _UNDERSTOOD}
# What A1111 takes for a sampler where the text leaves it to the program, from its version 1.9 on.
_AUTOMATIC = {"dpm++ 2m": "dpm++ 2m karras"}


def read_parameters(text: str) -> Recorded:
    """The request that `parameters` text describes, numbers clamped to what is allowed.

    The base is left open: the text names a file, not a base.

    Raises:
        PictureError: no settings in the text, or values that are no numbers.
        ConfigError: values that cannot be used.
    """
    if len(text) > MAX_TEXT_READ:
        raise PictureError(
            f"its `parameters` text has {len(text):,} letters; at most {MAX_TEXT_READ:,} are read."
        )
    prompt, negative, settings = _parts(text.replace("\r\n", "\n").replace("\r", "\n").strip())
    remarks: list[str] = []
    pairs = _pairs(settings, remarks)
    if len(pairs) < 3:
        raise PictureError("its `parameters` text has no line of settings (Steps: ..., Sampler: ..., ...).")
    foreign = not pairs.get("Version", "").startswith("lorastyle")
    values, moved = clamped(_numbers(pairs, remarks))
    digests, model_digest = read_hashes_table(pairs.get("Hashes", ""), remarks)
    digests |= read_hashes(pairs.get("Lora hashes", ""))
    steps = values.get("steps")
    with collecting() as noted:
        tags = read_lora_tags(prompt, steps if isinstance(steps, int) else None)
        negative = without_tags_in_negative(negative)
    uses = recorded_uses(tags.uses, digests, remarks)
    remarks += [*noted, *map(" ".join, zip(tags.problems, tags.left_out, strict=True))]
    remarks += tags.elsewhere if foreign else ()
    if pairs.get("Version", "").startswith("ComfyUI") and any(use.te is not None for use, _ in uses.values()):
        remarks.append(
            "A tag with two numbers is read as A1111's, the text encoders first. ComfyUI's nodes write the "
            "model first: if one of them drew the image, swap the two."
        )
    beside = read_adapter_fields(pairs, digests, uses)
    digests |= beside.digests
    for name, (use, digest) in uses.items():
        uses[name] = use, digest or beside.digests.get(lora_name(name))
    for use, digest in beside.uses:
        uses.setdefault(use.name, (use, digest))
    remarks += [*beside.remarks, *_unused_hashes(digests, uses)]
    strength = values.pop("strength", None)
    request = GenerateRequest.from_dict(
        {
            "prompt": _cut(tags.text.strip(), "prompt", remarks),
            "negative_prompt": _cut(negative.strip(), "negative prompt", remarks),
            "adapters": [replace(use, hash=_of_12(digest)) for use, digest in uses.values()],
            "scheduler": _scheduler(pairs, remarks),
            "base_hash": _of_10(pairs.get("Model hash", "").lower() or model_digest),
            **values,
        }
    )
    remarks += _unknown(pairs)
    return Recorded(
        request,
        (*remarks, *moved),
        strength=strength if isinstance(strength, float) else None,
        digests={name: digest for name, (_, digest) in uses.items() if digest},
        model=_model(pairs),
        foreign=foreign and pairs.get("RNG") != "CPU",
    )


def _pairs(settings: str, remarks: list[str]) -> dict[str, str]:
    """Settings by their names in A1111, whatever their case; remarks say what is not read."""
    pairs: dict[str, str] = {}
    twice: list[str] = []
    for written, value in _PAIR.findall(settings):
        key = _SPELT[low] if (low := written.lower()) in _SPELT else written
        if key in pairs:
            twice.append(key)
        pairs[key] = _unquoted(value.strip())
    if twice:
        named = ", ".join(dict.fromkeys(twice[:5]))
        remarks.append(f"Settings that are there twice: {named}. The last of each is used.")
    rest = [part.strip() for part in _PAIR.sub("", settings).split(",") if part.strip()]
    if rest:
        named = ", ".join(shortened(part, 40) for part in rest[:5]) + ", ..." * (len(rest) > 5)
        remarks.append(f"Parts of its settings that are not understood are left out: {named}.")
    return pairs


def _parts(text: str) -> tuple[str, str, str]:
    """(prompt, negative prompt, settings). The settings are the last line where it has three pairs, else what
    follows the last "Steps:", since some programs write all of it as one line.
    """
    *lines, last = text.split("\n")
    if len(_PAIR.findall(last)) < 3 or (not lines and not last.startswith("Steps:")):
        starts = [found.start(1) for found in _SETTINGS.finditer(text)]
        if not starts:
            return text, "", ""
        before, last = text[: starts[-1]], text[starts[-1] :].replace("\n", ", ")
        marks = list(_NEGATIVE.finditer(before))
        if not marks:
            return before.strip(" \n"), "", last
        negative = before[marks[-1].end() :]
        return before[: marks[-1].start(1)].strip(" \n"), negative.strip(" \n"), last
    while lines and (first := _first_of_settings(lines)) is not None:  # some programs break that line
        lines, last = lines[:first], ", ".join([*lines[first:], last])
    at = next((i for i, line in enumerate(lines) if line.startswith(NEGATIVE)), len(lines))
    return "\n".join(lines[:at]), "\n".join(lines[at:]).removeprefix(NEGATIVE), last


def _first_of_settings(lines: Sequence[str]) -> int | None:
    """Where settings begin that go on to the last of these lines."""
    starts = [i for i, line in enumerate(lines) if re.match(r"Steps:[ \t]*\d", line)]
    return starts[-1] if starts and all(_PAIR.search(line) for line in lines[starts[-1] :]) else None


def _unused_hashes(
    digests: Mapping[str, str], uses: Mapping[str, tuple[AdapterUse, str | None]]
) -> list[str]:
    """Hashes of adapters that no tag names: they were used some other way, which is not recorded."""
    known = {lora_name(name) for name in uses}
    strange = [name for name in digests if name and name not in known]
    if not strange:
        return []
    named = ", ".join(shortened(name, 40) for name in strange[:5]) + ", ..." * (len(strange) > 5)
    return [f"The adapters {named} have hashes, and no tag says at which scale: left out."]


def _numbers(pairs: Mapping[str, str], remarks: list[str]) -> dict[str, object]:
    """Everything that is a number, before it is clamped; `strength` is that of an image to image."""
    values: dict[str, object] = {
        "steps": _number(pairs, "Steps", 30, remarks),
        "guidance": _number(pairs, "CFG scale", 7.0, remarks),
        "clip_skip": abs(_number(pairs, "Clip skip", 1, remarks) or 1),  # ComfyUI counts it from -1
        "seed": _seed(pairs, remarks),
    }
    size = _size(pairs, "Size")
    if size is None and "Size" in pairs:
        remarks.append(f"Size is {shortened(pairs['Size'], 40)} in the image: the base's own is used.")
    values |= {"width": size and size[0], "height": size and size[1]}
    strength = _number(pairs, "Denoising strength", None, remarks)
    hires = _number(pairs, "Hires upscale", None, remarks)
    if (larger := _size(pairs, "Hires resize")) and size and hires is None:
        hires = max(larger[0] / max(size[0], 1), larger[1] / max(size[1], 1))
    if hires is not None and hires > 1:
        values |= {"hires": hires, "hires_strength": strength}
        if not pairs.get("Hires upscaler", "Latent").startswith("Latent"):
            remarks.append(
                f"It was enlarged by {shortened(pairs['Hires upscaler'], 40)}; here latents are enlarged."
            )
    else:
        values["strength"] = strength
    return {key: value for key, value in values.items() if value is not None}


_EMPTY = ("", "none", "null", "undefined")  # what programs write of a value that they do not have


def _number(pairs: Mapping[str, str], key: str, default: float | None, remarks: list[str]) -> float | None:
    if key not in pairs:
        return default
    if pairs[key].lower() in _EMPTY:
        used = "it is left open" if default is None else f"{default:g} is used"
        remarks.append(f"{key} is {shortened(pairs[key], 12)} in the image: {used}.")
        return default
    value = finite(pairs[key])
    if value is None:
        raise PictureError(
            f"its `parameters` text has {key}: {shortened(pairs[key], 40)}, which is no number."
        )
    return value


def _seed(pairs: Mapping[str, str], remarks: list[str]) -> int | None:
    if "Seed" not in pairs:
        return None
    if pairs["Seed"].lower() in _EMPTY:
        remarks.append(f"Seed is {shortened(pairs['Seed'], 12)} in the image: it is left open.")
        return None
    if not (written := re.fullmatch(r"(-?[0-9]{1,20})(?:\.0*)?", pairs["Seed"])):
        raise PictureError(
            f"its `parameters` text has Seed: {shortened(pairs['Seed'], 40)}, which is no number."
        )
    seed = int(written[1])
    if 0 <= seed <= MAX_SEED:
        return seed
    remarks.append(f"seed is {seed} in the picture: it is left open.")
    return None


def _size(pairs: Mapping[str, str], key: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"([0-9]{1,9}) ?[xX\u00d7] ?([0-9]{1,9})", pairs.get(key, ""))
    return (int(found[1]), int(found[2])) if found else None


def _scheduler(pairs: Mapping[str, str], remarks: list[str]) -> str | None:
    """In the new style (sampler and schedule type) or the old one ("DPM++ 2M Karras")."""
    sampler, kind = pairs.get("Sampler", ""), pairs.get("Schedule type", "")
    if not sampler:
        return None
    alone = scheduler_name(sampler)
    if kind == "Automatic":
        return _AUTOMATIC.get(alone or "", alone) or _no_scheduler(sampler, remarks)
    if kind in ("", "Uniform", "Normal"):
        return alone or _no_scheduler(sampler, remarks)
    if found := scheduler_name(f"{sampler} {kind}"):
        return found
    if alone is None:
        return _no_scheduler(f"{sampler} {kind}", remarks)
    remarks.append(f"There is no schedule type {shortened(kind, 40)} for {alone} here: its own is used.")
    return alone


def _no_scheduler(name: str, remarks: list[str]) -> None:
    remarks.append(f"There is no scheduler {shortened(name, 60)} here: the base's own is used.")


def _of_12(digest: str | None) -> str | None:
    """What a request keeps of a hash; shorter ones, and AutoV2 of 10 digits, are only looked for."""
    return digest[:12] if digest and len(digest) >= 12 else None


def _of_10(digest: str) -> str | None:
    """A model's hash as a request keeps it; before 2023 A1111's was another one, of eight digits."""
    return digest if re.fullmatch("[0-9a-f]{10}", digest) else None


def _model(pairs: Mapping[str, str]) -> str | None:
    """`name (hash)`."""
    name, digest = pairs.get("Model", ""), pairs.get("Model hash", "").lower()
    if not name:
        return digest or None
    return f"{last_part(name)} ({digest})" if HASH.fullmatch(digest) else last_part(name)


def _unknown(pairs: Iterable[str]) -> list[str]:
    strange = [key for key in pairs if key not in _UNDERSTOOD and not is_adapter_field(key)]
    if not strange:
        return []
    more = f" and {len(strange) - 12} more" if len(strange) > 12 else ""
    return [f"Settings that have no counterpart here are left out: {', '.join(strange[:12])}{more}."]


def _cut(text: str, what: str, remarks: list[str]) -> str:
    if len(text) > MAX_TEXT:
        remarks.append(f"The {what} has {len(text):,} letters: the first {MAX_TEXT:,} are used.")
    return text[:MAX_TEXT]


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except (ValueError, RecursionError):  # a value that merely begins with a quotation mark
        return value
