"""Prompt weighting as A1111 and ComfyUI write it: `a (red:1.3) cat`, `((bold))`, `[faint]`."""

from __future__ import annotations

import re
from dataclasses import dataclass

STEP = 1.1  # a bare pair of round brackets multiplies by this, square ones divide
LIMIT = 10.0

_TOKEN = re.compile(r"\\[\\()\[\]:|]|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|[()\[\]]|[^\\()\[\]:]+|.", re.DOTALL)


_ESCAPED = re.compile(r"\\([\\()\[\]:|])")
_SPECIAL = re.compile(r"[\\()\[\]:|]")


def plain_text(prompt: str) -> str:
    """What a text with backslashes before brackets, colons and bars says: `hero (one)` for `hero \\(one\\)`.

    This is how captions are read, which have no weights: there `(one)` is the same as `\\(one\\)`.
    """
    return _ESCAPED.sub(r"\1", prompt)


def as_prompt(text: str) -> str:
    """The inverse of `plain_text`: a prompt whose words are exactly these."""
    return _SPECIAL.sub(lambda found: f"\\{found[0]}", text)


@dataclass(frozen=True)
class Span:
    """A piece of a prompt, and how much its words count: 1 is as they are, 0 is as if they were not there."""

    text: str
    weight: float = 1.0


def spans(prompt: str) -> list[Span]:
    """Split a prompt into pieces of one weight each.

    `(x:1.3)` multiplies by 1.3, `(x)` by 1.1, `[x]` by 1 / 1.1, and brackets nest. A bracket, colon or bar
    after a backslash is text, and so is a bracket without its partner. Weights are kept within -10..10.
    """
    words = [(found[0], found[1]) for found in _TOKEN.finditer(prompt)]
    factors, closing = _pairs(words)
    weights, pieces = [1.0], list[Span]()
    for i, (word, _) in enumerate(words):
        if i in factors:
            weights.append(max(-LIMIT, min(LIMIT, weights[-1] * factors[i])))
        elif i in closing:
            weights.pop()
        else:
            pieces.append(Span(word[1] if len(word) == 2 and word[0] == "\\" else word, weights[-1]))
    return _joined(pieces)


def _pairs(words: list[tuple[str, str | None]]) -> tuple[dict[int, float], set[int]]:
    """Brackets that belong together: {place of the opening one: its factor}, places of the closing."""
    opened, factors, closing = list[int](), dict[int, float](), set[int]()
    for i, (word, number) in enumerate(words):
        if word in ("(", "["):
            opened.append(i)
        elif word in (")", "]") or number is not None:
            bracket = "[" if word == "]" else "("
            if opened and words[opened[-1]][0] == bracket:
                step = STEP if bracket == "(" else 1 / STEP
                factors[opened.pop()] = step if number is None else float(number)
                closing.add(i)
    return factors, closing


def _joined(pieces: list[Span]) -> list[Span]:
    """Neighbours of one weight as one piece, so that words are never cut where no bracket is."""
    joined: list[Span] = []
    for piece in pieces:
        if not piece.text:
            continue
        if joined and joined[-1].weight == piece.weight:
            joined[-1] = Span(joined[-1].text + piece.text, piece.weight)
        else:
            joined.append(piece)
    return joined
