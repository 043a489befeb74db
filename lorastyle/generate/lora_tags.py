"""Tags that name adapters in a prompt, `<lora:cat:0.8>`: one reader for typed prompts and for images.

The names are read and nothing is looked for: the page finds them among its own adapters alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from lorastyle.errors import ConfigError, shortened
from lorastyle.notes import note

from .uses import AdapterUse

ADAPTER_TAGS = ("lora", "lyco", "locon", "lycoris")
# A tag as A1111 finds it, with room for spaces; an open one ends where the next begins, or the text does.
_TAG = re.compile(r"\s*<\s*([A-Za-z]\w*)\s*:([^<>]*)(>|(?=<)|\Z)")
_KNOWN = (*ADAPTER_TAGS, "hypernet", "hypernetwork")


@dataclass(frozen=True)
class TaggedText:
    """A prompt, taken apart.

    Attributes:
        text: without its tags.
        uses: of the adapters that they name, in order.
        problems: a sentence for each tag that cannot be read. It is not in `text` either.
    """

    text: str
    uses: tuple[AdapterUse, ...] = ()
    problems: tuple[str, ...] = ()


def read_lora_tags(prompt: str, steps: int | None = None) -> TaggedText:
    """The adapters that a prompt's tags name, and the prompt without tags.

    Notes say what of a tag cannot be done, and which tags are of another kind: these are left out, as A1111
    leaves out what it does not know.

    Args:
        steps: of the request, for places that are given in steps.
    """
    uses: list[AdapterUse] = []
    problems: list[str] = []
    kept: list[str] = []
    at = 0
    for tag in _TAG.finditer(prompt):
        kind, body, end = tag[1].lower(), tag[2], tag[3]
        shown = shortened(tag[0].strip(), 60)
        if not end:
            if kind not in _KNOWN:
                continue  # 3 <x: y
            inside = prompt[tag.end() :].startswith("<")
            problems.append(
                f"prompt: {shown} has a tag inside of it. Write one after another."
                if inside and _TAG.match(prompt, tag.end())
                else f"prompt: the tag {shown} has no > at its end."
            )
        elif kind in ADAPTER_TAGS:
            if _in_brackets(prompt[: tag.start()]):
                note(
                    f"The tag {shown} acts at all steps, whatever brackets it stands in. To switch adapters, "
                    "use start=, stop= or a schedule."
                )
            try:
                use = AdapterUse.parse(body, steps)
                uses.append(replace(use, name=use.name.strip()))
            except ConfigError as error:
                problems += error.problems
        elif kind.startswith("hypernet"):
            note(f"The tag {shown} names a hypernetwork, which lorastyle does not use. It is left out.")
        else:
            note(f"lorastyle does not know tags such as {shown}. It is left out.")
        kept.append(prompt[at : tag.start()])
        at = tag.end()
    text = "".join([*kept, prompt[at:]])
    return TaggedText(text.strip() if kept else prompt, tuple(uses), tuple(problems))


def without_tags_in_negative(negative: str) -> str:
    """A negative prompt without tags, which act in the prompt only; a note names them."""
    tags = [tag for tag in _TAG.finditer(negative) if tag[3] and tag[1].lower() in _KNOWN]
    for tag in tags:
        note(f"The tag {shortened(tag[0].strip(), 60)} in the negative prompt has no effect. It is left out.")
    for tag in reversed(tags):
        negative = negative[: tag.start()] + negative[tag.end() :]
    return negative.strip() if tags else negative


def _in_brackets(before: str) -> bool:
    """Whether a square bracket is open at the end of a text."""
    depth = 0
    for found in re.finditer(r"\\.|[\[\]]", before):
        depth = depth + 1 if found[0] == "[" else max(0, depth - 1) if found[0] == "]" else depth
    return depth > 0
