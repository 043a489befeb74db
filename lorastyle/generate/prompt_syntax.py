"""What A1111 writes between the words of a prompt: `[from:to:when]`, `[a|b]` and `AND`.

The rules are those of A1111's wiki ("Prompt editing", "Alternating Words", "Composable Diffusion") and of the
examples in its prompt parser. Weights and `BREAK` are read further on, where a text is encoded (`bases`).

No text is an error: brackets that do not pair up, or that hold something else, are text. Reading takes time
in proportion to the length, however deeply brackets nest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MOST_WEIGHT = 100.0  # of a prompt joined by AND

_TOKEN = re.compile(r"(?:\\.|[^\\\[\]():|])+|.", re.DOTALL)
_WHEN = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")
_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"\s*([+-]?(?:[0-9]+\.?|[0-9]*\.[0-9]+))\s*")
_OPERATOR = re.compile(r"\b(?:AND|BREAK)\b")
# what is an escape already; a backslash that would make one; a weight; a mark
_BACKSLASH = re.compile(r"(\\[\\()\[\]])|\\(?=[:|])")
_MARK = re.compile(rf"{_BACKSLASH.pattern}|(:\s*[+-]?[.\d]+\s*\))|[:|]")
_CLOSES = {")": "(", "]": "["}


@dataclass(frozen=True, slots=True)
class Edit:
    """`[before:after:when]`: one text up to a step, another from then on.

    Attributes:
        when: as written; see `switch`.
    """

    before: tuple[Node, ...]
    after: tuple[Node, ...]
    when: str

    def switch(self, steps: int, first_pass: int | None) -> int:
        """The last step, counted from 1, that reads `before`; 0 or less where none does.

        With a decimal point `when` is a share of the steps, without one it is a step. A hires pass counts on:
        its shares run from 1.0 to 2.0, and its first step is the one after the last of the first pass.

        Args:
            steps: how many the pass takes.
            first_pass: how many the first pass took, in a hires pass; None in the first one.
        """
        when = float(self.when)
        if "." in self.when:
            when = (when - (0 if first_pass is None else 1)) * steps
        else:
            when -= first_pass or 0
        return int(min(max(when, -1.0), float(steps)))


@dataclass(frozen=True, slots=True)
class Alternate:
    """`[a|b|c]`: each step reads the next one, and after the last the first again."""

    options: tuple[tuple[Node, ...], ...]


Node = str | Edit | Alternate | tuple["Node", ...]
"""A piece of a prompt; a tuple is a group in brackets, which weigh its words."""


def parse(text: str) -> tuple[Node, ...]:
    """A text as a tree of what changes in it by step."""
    root: list[Node] = []
    frames: list[tuple[str, list[Node]]] = []  # brackets that are open, each with what it holds so far

    def dissolve() -> None:
        # A bracket without its partner is text, and nothing around it can be more than text.
        for bracket, held in frames:
            root.append(bracket)
            root.extend(held)
        frames.clear()

    for found in _TOKEN.finditer(text):
        token = found[0]
        if token in ("(", "["):
            frames.append((token, []))
        elif token not in _CLOSES:
            (frames[-1][1] if frames else root).append(token)
        elif frames and frames[-1][0] == _CLOSES[token]:
            node = _closed(*frames[-1], token)
            if node is None:
                dissolve()
                root.append(token)
            else:
                frames.pop()
                (frames[-1][1] if frames else root).append(node)
        else:
            dissolve()
            root.append(token)
    dissolve()
    return tuple(root)


def _closed(bracket: str, held: list[Node], closing: str) -> Node | None:
    """What a pair of brackets is; None where it is only text."""
    colons, bars = held.count(":"), held.count("|")
    if bracket == "(":
        return (bracket, *held, closing) if colons <= 1 else None
    if not colons:
        return Alternate(tuple(_split(held, "|"))) if bars else (bracket, *held, closing)
    *texts, last = _split(held, ":")
    when = _WHEN.fullmatch(last[0]) if len(last) == 1 and isinstance(last[0], str) else None
    if when is None or bars or len(texts) > 2:
        return None
    return Edit(texts[0] if len(texts) == 2 else (), texts[-1], when[1])


def _split(held: list[Node], mark: str) -> Iterator[tuple[Node, ...]]:
    start = 0
    for i, node in enumerate(held):
        if node == mark:
            yield tuple(held[start:i])
            start = i + 1
    yield tuple(held[start:])


def walk(nodes: Sequence[Node]) -> Iterator[Edit | Alternate]:
    """Everything in a tree that changes by step."""
    left: list[Node] = list(nodes)
    while left:
        node = left.pop()
        if isinstance(node, tuple):
            left.extend(node)
        elif isinstance(node, Edit):
            yield node
            left.extend((*node.before, *node.after))
        elif isinstance(node, Alternate):
            yield node
            left.extend(node.options)


def text_at(nodes: Sequence[Node], step: int, steps: int, first_pass: int | None = None) -> str:
    """What a tree says at a step, counted from 1."""
    said: list[str] = []
    left: list[Node] = list(reversed(nodes))
    while left:
        node = left.pop()
        if isinstance(node, str):
            said.append(node)
            continue
        if isinstance(node, Edit):
            node = node.before if step <= node.switch(steps, first_pass) else node.after
        elif isinstance(node, Alternate):
            node = node.options[(step - 1) % len(node.options)]
        left.extend(reversed(node))
    return "".join(said)


def schedule(text: str, steps: int, first_pass: int | None = None) -> list[tuple[int, str]]:
    """What a text says in a pass: (the last step that reads it, counted from 1; the text), in order.

    Args:
        steps, first_pass: see `Edit.switch`.
    """
    nodes = parse(text)
    ends = {steps}
    for changing in walk(nodes):
        if isinstance(changing, Alternate):
            ends = set(range(1, steps + 1))
            break
        ends.add(changing.switch(steps, first_pass))
    said: list[tuple[int, str]] = []
    for end in sorted(end for end in ends if end >= 1):
        now = text_at(nodes, end, steps, first_pass)
        if said and said[-1][1] == now:
            said.pop()
        said.append((end, now))
    return said


def compose(prompt: str) -> list[tuple[str, float]]:
    """The prompts that `AND` joins, each with its weight: `a cat :1.2 AND a dog`.

    `AND` is a whole word in capitals, wherever it stands, and a number after a colon at the end of a prompt
    is its weight, from -100 to 100. The same prompt twice is one of both weights. Without an `AND` the prompt
    stays as it is, with a weight of 1: "10:30" is a time of day, although A1111 takes it for a weight of 30.
    """
    parts = _AND.split(prompt)
    if len(parts) == 1:
        return [(prompt, 1.0)]
    weights: dict[str, float] = {}
    for part in parts:
        text = part.rstrip()
        head, colon, number = text.rpartition(":")
        found = _WEIGHT.fullmatch(number) if colon else None
        if found:
            text = head.rstrip()
        weight = float(found[1]) if found else 1.0
        weights[text] = weights.get(text, 0.0) + max(-MOST_WEIGHT, min(MOST_WEIGHT, weight))
    return list(weights.items())


def as_words(text: str) -> str:
    """The text that reads as this one does where only weights are known: with `AND`, `BREAK`, edits and
    alternating words as words. Text encoders make no difference between capitals and small letters.
    """
    text = _OPERATOR.sub(lambda found: found[0].lower(), text)
    if not any(True for _ in walk(parse(text))):
        return _BACKSLASH.sub(lambda found: found[1] or "\\\\", text)
    return _MARK.sub(lambda found: found[1] or found[2] or f"\\{found[0]}", text)
