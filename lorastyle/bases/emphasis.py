"""Prompt weighting as A1111 and ComfyUI write it: `a (red:1.3) cat`, `((bold))`, `[faint]`."""

from __future__ import annotations

import re
from dataclasses import dataclass

STEP = 1.1  # a bare pair of round brackets multiplies by this, square ones divide
LIMIT = 10.0

_TOKEN = re.compile(r"\\[\\()\[\]]|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|[()\[\]]|[^\\()\[\]:]+|.", re.DOTALL)


@dataclass(frozen=True)
class Span:
    """A piece of a prompt, and how much its words count: 1 is as they are, 0 is as if they were not there."""

    text: str
    weight: float = 1.0


def spans(prompt: str) -> list[Span]:
    """Split a prompt into pieces of one weight each.

    `(x:1.3)` multiplies by 1.3, `(x)` by 1.1, `[x]` by 1 / 1.1, and brackets nest. A backslash makes a
    bracket a letter, and so is one that nothing closes or opens. Weights are kept within -10..10.
    """
    pieces: list[Span] = []
    opened: list[tuple[str, int]] = []  # bracket, and the piece that it stands in
    for found in _TOKEN.finditer(prompt):
        word = found[0]
        if word in ("(", "["):
            opened.append((word, len(pieces)))
            pieces.append(Span(word))  # a letter until it is closed
        elif word in (")", "]") or found[1] is not None:
            bracket = "[" if word == "]" else "("
            if opened and opened[-1][0] == bracket:
                factor = float(found[1]) if found[1] is not None else STEP if bracket == "(" else 1 / STEP
                _close(pieces, opened.pop()[1], factor)
            else:
                pieces.append(Span(word))
        else:
            pieces.append(Span(word[1] if len(word) == 2 and word[0] == "\\" else word))
    return _joined(pieces)


def _close(pieces: list[Span], start: int, factor: float) -> None:
    pieces[start] = Span("")
    for i in range(start + 1, len(pieces)):
        weight = max(-LIMIT, min(LIMIT, pieces[i].weight * factor))
        pieces[i] = Span(pieces[i].text, weight)


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
