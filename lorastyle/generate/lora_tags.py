"""Tags that name adapters in a prompt, `<lora:cat:0.8>`: one reader for typed prompts and for images.

The names are read and nothing is looked for: the page finds them among its own adapters alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from lorastyle.errors import ConfigError, shortened
from lorastyle.notes import collecting, note

from .uses import AdapterUse

ADAPTER_TAGS = ("lora", "lyco", "locon", "lycoris", "loractl")
_KNOWN = (*ADAPTER_TAGS, "hypernet", "hypernetwork")
# A tag as A1111 finds it, with room for spaces; an open one ends where the next begins, or the text does.
_TAG = re.compile(r"<\s*([A-Za-z]\w*)\s*:([^<>]*)(>|(?=<)|\Z)")
_WITHOUT_COLON = re.compile(rf"<\s*(?:{'|'.join(_KNOWN)})\b[^<>:]*>", re.IGNORECASE)
_BODY = re.compile(r"[^\s,<>]*(?:,[^\s,<>]+)*")  # of a tag without an end: what follows are words again
_REST_OF_OUTER = re.compile(r"\s*:[^\s<>]*>")
_OPTION = re.compile(r":(?=\s*[A-Za-z_]+\s*=)")
_TE = re.compile(r":\s*te\s*=[^:@~]*(?=:|\Z)", re.IGNORECASE)
_UNET = re.compile(r":\s*unet\s*=", re.IGNORECASE)
_MOST_OPTIONS = 16  # that are tried one by one


@dataclass(frozen=True)
class TaggedText:
    """A prompt, taken apart.

    Attributes:
        text: without its tags.
        uses: of the adapters that they name, in order.
        problems: a sentence for each tag that cannot be read. It is not in `text` either.
        left_out: what of each problem's tag is left out, so that `uses` holds the rest: the same number of
            sentences.
        elsewhere: what other programs read in another way.
    """

    text: str
    uses: tuple[AdapterUse, ...] = ()
    problems: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()


def read_lora_tags(prompt: str, steps: int | None = None) -> TaggedText:
    """The adapters that a prompt's tags name, and the prompt without tags.

    Notes say what of a tag cannot be done, and which tags are of another kind: these are left out, as A1111
    leaves out what it does not know.

    Args:
        steps: of the request, for places that are given in steps.
    """
    reader = _Reader(steps)
    text = reader.read(prompt)
    if text != prompt and any(_is_tag(found) for found in _TAG.finditer(text)):
        # or what is left would be read as an adapter the next time
        text = _without(text)
        reader.report(
            "prompt: what is left without the tags has a tag inside of it. Write one after another."
        )
    return TaggedText(
        text, tuple(reader.uses), tuple(reader.problems), tuple(reader.left_out), tuple(reader.elsewhere)
    )


class _Reader:
    def __init__(self, steps: int | None) -> None:
        self._steps = steps
        self.uses: list[AdapterUse] = []
        self.problems: list[str] = []
        self.left_out: list[str] = []
        self.elsewhere: list[str] = []

    def report(self, problem: str, left_out: str = "The tag is left out.") -> None:
        self.problems.append(problem)
        self.left_out.append(left_out)

    def read(self, prompt: str) -> str:
        kept: list[str] = []
        at, around, seen, depth = 0, 0, 0, 0
        for tag in _TAG.finditer(prompt):
            kind, body, shown = tag[1].lower(), tag[2], shortened(tag[0], 60)
            if not _is_tag(tag):
                continue  # 3 <x: y
            kept.append(prompt[at : tag.start()].rstrip())
            depth, seen = _depth(prompt[seen : tag.start()], depth), tag.end()
            at = tag.end()
            if not tag[3]:
                if prompt.startswith("<", at) and _TAG.match(prompt, at):
                    around += 1
                    self.report(f"prompt: {shown} has a tag inside of it. Write one after another.")
                else:
                    found = _BODY.match(body)
                    at = tag.start(2) + (found.end() if found else 0)
                    shown = shortened(prompt[tag.start() : at], 60)
                    self.report(f"prompt: the tag {shown} has no > at its end.")
            elif kind in ADAPTER_TAGS:
                if depth:
                    note(
                        f"The tag {shown} acts at all steps, whatever brackets it stands in. To switch "
                        "adapters, use start=, stop= or a schedule."
                    )
                self._read_adapter(body, shown)
            elif kind.startswith("hypernet"):
                note(f"The tag {shown} names a hypernetwork, which lorastyle does not use. It is left out.")
            else:
                note(f"lorastyle does not know tags such as {shown}. It is left out.")
            if tag[3] and around and (rest := _REST_OF_OUTER.match(prompt, at)):
                around, at = around - 1, rest.end()
        text = "".join([*kept, prompt[at:]])
        for tag in _WITHOUT_COLON.findall(text):
            note(f"The tag {shortened(tag, 60)} is not written as <lora:name:scale>. It is left out.")
        text = _cut(text, _WITHOUT_COLON)
        return text if text == prompt else text.strip()

    def _read_adapter(self, body: str, shown: str) -> None:
        try:
            use = AdapterUse.parse(body, self._steps)
        except ConfigError as error:
            rest = _without_what_fails(body, self._steps)
            for problem in error.problems:
                self.report(problem, "That part is left out." if rest else "The tag is left out.")
            if rest is None:
                return
            use = rest
        self.uses.append(replace(use, name=use.name.strip()))
        if use.te not in (None, use.scale) and _TE.search(body) and not _UNET.search(body):
            self.elsewhere.append(
                f"The tag {shown} has te= without unet=: here the UNet has {use.scale:g}, in A1111 it has "
                f"te's {use.te:g}. If A1111 drew the image, add unet={use.te:g}."
            )


def _without_what_fails(body: str, steps: int | None) -> AdapterUse | None:
    """The use with as many of a tag's options as can be read; None where its name or scale cannot be."""
    head, *options = _OPTION.split(body)
    if len(options) > _MOST_OPTIONS:
        return None
    for option in ("", *options):
        written = f"{head}:{option}" if option else head
        try:
            with collecting():  # the last word on what is kept comes below
                AdapterUse.parse(written, steps)
        except ConfigError:
            if not option:
                return None
        else:
            head = written
    return AdapterUse.parse(head, steps)


def without_tags_in_negative(negative: str) -> str:
    """A negative prompt without tags, which act in the prompt only; a note names them."""
    tags = [tag[0] for tag in _TAG.finditer(negative) if _is_tag(tag) and tag[3]]
    tags += [tag[0] for tag in _TAG.finditer(negative) if _is_tag(tag) and not tag[3]]
    tags += _WITHOUT_COLON.findall(negative)
    for tag in tags:
        note(f"The tag {shortened(tag, 60)} in the negative prompt has no effect. It is left out.")
    return _without(negative) if tags else negative


def _is_tag(found: re.Match[str]) -> bool:
    return bool(found[3]) or found[1].lower() in _KNOWN


def _without(text: str) -> str:
    """The text without tags; of one that has no end, its words stay."""
    return _cut(_cut(text, _TAG), _WITHOUT_COLON).strip()


def _cut(text: str, pattern: re.Pattern[str]) -> str:
    """The text without what a pattern finds, and without the spaces in front of that."""
    kept: list[str] = []
    at = 0
    for found in pattern.finditer(text):
        if pattern is _TAG and not _is_tag(found):
            continue
        kept.append(text[at : found.start()].rstrip())
        at = found.end()
        if pattern is _TAG and not found[3] and (body := _BODY.match(found[2])):
            at = found.start(2) + body.end()
    return "".join([*kept, text[at:]])


def _depth(text: str, depth: int) -> int:
    """How many square brackets are open at the end of a text, where `depth` are open at its start."""
    for found in re.finditer(r"\\.|[\[\]]", text):
        depth = depth + 1 if found[0] == "[" else max(0, depth - 1) if found[0] == "]" else depth
    return depth
