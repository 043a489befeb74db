"""Words for pictures: in file names, and how the trigger gets into a prompt."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Caption:
    """Words for one picture.

    Attributes:
        text: one line; empty where there are none.
        source: where they were found: "cat.txt", "metadata.jsonl", "file name" or, for none, "".
        notes: what a person should know about how they were read.
    """

    text: str = ""
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def described(self) -> str:
        """The text as part of a sentence: names of files get an article, what a person wrote is kept."""
        return noun_phrase(self.text) if self.source == "file name" else self.text


# What cameras, phones, programs and downloads call their files.
_NO_NAMES = frozenset(
    """
    img imgs image images imagen bild bilder picture pictures pic pics photo photos foto fotos dsc dscn
    dscf pxl mvimg mvi vid gopr dji scan scanned screenshot screen shot capture snapshot whatsapp signal
    telegram received attachment untitled unnamed unknown default temp tmp test new neu copy kopie final
    edit edited crop cropped resized upscaled small large full hd hq jpg jpeg png webp file download
    export output render frame page sample original at am pm and of the in mp
    """.split()
)
_STOCK_SITES = frozenset("pexels unsplash shutterstock istock pixabay freepik adobestock gettyimages".split())
_HASH = re.compile(r"[0-9a-f]{8,}", re.IGNORECASE)
_LONG_ID = re.compile(r"(?=\w*\d)(?=\w*[a-z])\w{6,}", re.IGNORECASE)
_COUNTER = re.compile(r"\(?\d+\)?|\d+px|\d+x\d+|v\d+", re.IGNORECASE)
_COUNTER_IN_FRONT = re.compile(r"0\d*|\d{2,}")
_REPEATS = re.compile(r"(\d+)_(.+)")
# Folder names that say nothing of what is in them.
_NO_TRIGGERS = _NO_NAMES | frozenset(
    """
    data dataset datasets train training input inputs raw source folder desktop documents downloads home class
    reg style styles subject concept my
    """.split()
)


def words_of(stem: str) -> str:
    """The words in a file's name, or nothing: `red-apple` has some, `IMG_1234`, dates and hashes do not."""
    if _HASH.fullmatch(stem.replace("-", "")) and any(c.isdigit() for c in stem):
        return ""
    words = re.split(r"[\s_+.\-]+", unicodedata.normalize("NFC", stem).strip(" _-+."))
    while words and (_COUNTER.fullmatch(words[-1]) or words[-1].lower() in ("copy", "kopie", "final")):
        words.pop()
    while words and _COUNTER_IN_FRONT.fullmatch(words[0]):
        words.pop(0)
    if not words or words[0].lower() in _STOCK_SITES or any(map(_LONG_ID.fullmatch, words)):
        return ""
    said = [word for word in words if any(map(str.isalpha, word)) and word.lower() not in _NO_NAMES]
    return clean(" ".join(words)) if any(map(_is_word, said)) else ""


def _is_word(word: str) -> bool:
    """Three letters with a vowel, or any letter of another script."""
    if not word.isascii():
        return True
    return sum(map(str.isalpha, word)) >= 3 and re.search("[aeiouy]", word, re.IGNORECASE) is not None


def clean(text: str) -> str:
    """One line, single spaces, no control characters, no punctuation left over at the ends."""
    printable = "".join(c if c.isprintable() else " " for c in unicodedata.normalize("NFC", text))
    return " ".join(printable.split()).strip(" ,;")


def repeats_of(folder: str) -> tuple[int, str] | None:
    """(10, "cat") of `10_cat`, the way kohya's trainer wants folders named; None for other names."""
    found = _REPEATS.fullmatch(folder)
    return (int(found[1]), found[2]) if found else None


def default_trigger(folder: Path) -> str:
    """One lower-case word from the folder's name: `My Cat (2)` is mycat2, `images` says nothing: mystyle."""
    name = folder.resolve().name
    name = (repeats_of(name) or (0, name))[1]
    word = "".join(c for c in unicodedata.normalize("NFKC", name).lower() if c.isalnum())[:32]
    word = word.removesuffix("style") or word  # "ink style style" reads badly
    return word if any(map(str.isalpha, word)) and word not in _NO_TRIGGERS else "mystyle"


def has_word(text: str, word: str) -> bool:
    """Whether `text` says `word`, as a word of its own, in capitals or not."""
    return _found(word).search(text) is not None


def _found(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)


_DETERMINED = re.compile(
    r"(an?|the|some|my|his|her|its|our|their|this|one|two|three|four|five|\d+)\b", re.IGNORECASE
)
_SOUNDS_AS_YOU = re.compile(r"(uni([^nm]|$)|use|usu|eu|ufo|one|once|ukulele|ute)", re.IGNORECASE)
_SILENT_H = re.compile(r"(hour|honest|honou?r|heir)", re.IGNORECASE)
_PLURAL = re.compile(r"\w+[^siu\W]s", re.IGNORECASE)  # not glass, iris, cactus


def article(words: str) -> str:
    """`an apple`, `a cat`; words that bring their own article or number keep it."""
    if _DETERMINED.match(words):
        return words
    vowel = words[:1].lower() in "aeiou" and not _SOUNDS_AS_YOU.match(words)
    return f"{'an' if vowel or _SILENT_H.match(words) else 'a'} {words}"


def noun_phrase(words: str) -> str:
    """`article`, but plurals have none: `grapes`, `scissors on a table`."""
    head = re.split(r"\s(?:of|on|in|at|with|behind|under|over|and|near)\s", words, maxsplit=1)[0]
    return words if _PLURAL.fullmatch(head.split(" ")[-1]) else article(words)


def style_prompt(caption: str, trigger: str) -> str:
    """`a red apple, ink style`; a caption that says the trigger is left alone."""
    if not caption:
        return f"{trigger} style"
    return caption if has_word(caption, trigger) else f"{caption}, {trigger} style"


def subject_prompt(caption: str, trigger: str, class_name: str) -> str:
    """`a blobby face`; with a caption of its own, `a blobby face on a sofa` or `a blobby face, smiling`.

    The trigger goes before the class where the caption names it, else in front. A caption that says the
    trigger is left alone.
    """
    name = f"{trigger} {class_name}".strip()
    if not caption:
        return article(name)
    if has_word(caption, trigger):
        return caption
    if class_name and (found := _found(class_name).search(caption)):
        return _agree(f"{caption[: found.start()]}{trigger} {caption[found.start() :]}", trigger)
    return f"{article(name)}, {caption}"


def without_trigger(text: str, trigger: str) -> str:
    """What is left of a caption for a base that does not know the trigger: `a cat` of `a cat, ink style`."""
    word = re.escape(trigger)
    phrase = rf"(?:,\s*)?(?:\bin\s+(?:the\s+)?)?(?<!\w){word}\s+style(?!\w)"
    rest = re.sub(phrase, "", text, flags=re.IGNORECASE)
    rest = re.sub(rf"\ban?\s+{word}\s+(\w+)", lambda found: article(found[1]), rest, flags=re.IGNORECASE)
    rest = re.sub(rf"(?:\b(?:an?|the|of|by)\s+)*(?<!\w){word}(?!\w)", "", rest, flags=re.IGNORECASE)
    return clean(re.sub(r"\s+,", ",", re.sub(r"(,\s*)+", ", ", rest)))


def _agree(text: str, word: str) -> str:
    """`an` or `a` in front of `word`, as it sounds."""
    pattern = rf"\b(a)n?\s+({re.escape(word)})(?!\w)"
    return re.sub(pattern, lambda f: f[1] + article(f[2])[1:], text, count=1, flags=re.IGNORECASE)
