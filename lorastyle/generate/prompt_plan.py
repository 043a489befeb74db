"""Which texts are read at which step: what `[from:to:when]`, `[a|b]` and `AND` of a request come to."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lorastyle.errors import ConfigError, shortened
from lorastyle.notes import note

from .prompt_syntax import Edit, compose, parse, schedule, text_at, walk

MOST_PROMPTS = 32  # joined by AND: each is one more sample in the UNet's batch
MOST_BREAKS = 100  # each starts a chunk, which every cross-attention reads

_BREAK = re.compile(r"\bBREAK\b")


@dataclass(frozen=True)
class Texts:
    """What is read at one step: the prompts that `AND` joins, and the negative prompt."""

    prompts: tuple[str, ...]
    negative: str


@dataclass(frozen=True)
class Plan:
    """What is read at every step.

    Attributes:
        passes: for each pass its steps, in order. Where nothing changes, there is one pass with one step.
        weights: of the prompts that `AND` joins.
    """

    passes: tuple[tuple[Texts, ...], ...]
    weights: tuple[float, ...] = (1.0,)

    @classmethod
    def of(cls, prompt: str, negative: str, passes: Callable[[], Sequence[int]]) -> Plan:
        """The plan of a prompt and a negative prompt; in the latter, `AND` is only a word.

        Args:
            passes: says how many steps each pass takes; called only where a prompt changes by step.

        Raises:
            ConfigError: `AND` joins more than 32 different prompts, or one has more than 100 `BREAK`s.
        """
        joined = compose(prompt)
        if len(compose(negative)) > 1:
            note("negative_prompt: AND joins prompts in the prompt only; here it is read as a word.")
        if len(joined) > MOST_PROMPTS:
            raise ConfigError(f"prompt: AND joins {len(joined)} prompts; at most {MOST_PROMPTS} are allowed.")
        for key, text in (("prompt", prompt), ("negative_prompt", negative)):
            if (count := len(_BREAK.findall(text))) > MOST_BREAKS:
                raise ConfigError(f"{key}: BREAK occurs {count} times; at most {MOST_BREAKS} are allowed.")
        prompts, weights = tuple(text for text, _ in joined), tuple(weight for _, weight in joined)
        if not any(changes(text) for text in (*prompts, negative)):
            return cls(((Texts(prompts, negative),),), weights)
        first, *hires = passes()
        for what, text in (*(("prompt", text) for text in prompts), ("negative prompt", negative)):
            _note_what_is_never_read(what, text, first, hires)
        planned = [_steps_of(prompts, negative, first, None)]
        planned += [_steps_of(prompts, negative, steps, first) for steps in hires]
        return cls(tuple(planned), weights)

    @property
    def texts(self) -> list[Texts]:
        """What is read, each once."""
        return list(dict.fromkeys(texts for steps in self.passes for texts in steps))


def _steps_of(prompts: Sequence[str], negative: str, steps: int, first_pass: int | None) -> tuple[Texts, ...]:
    each = [_by_step(text, steps, first_pass) for text in prompts]
    unwanted = _by_step(negative, steps, first_pass)
    return tuple(Texts(tuple(said[i] for said in each), unwanted[i]) for i in range(steps))


def _by_step(text: str, steps: int, first_pass: int | None) -> list[str]:
    said: list[str] = []
    for end, now in schedule(text, steps, first_pass):
        said += [now] * (end - len(said))
    return said


def _note_what_is_never_read(what: str, text: str, first: int, hires: Sequence[int]) -> None:
    """Say where a switch comes after the last step: `[10:30]` may be meant as a time of day."""
    for edit in walk(parse(text)):
        if not isinstance(edit, Edit):
            continue
        late = edit.switch(first, None) >= first and all(edit.switch(n, first) >= n for n in hires)
        if late and (never := text_at(edit.after, first, first).strip()):
            note(
                f"{what}: {shortened(never)} is not used: [...:{edit.when}] switches after the last of "
                f"{first + sum(hires)} steps. A number with a decimal point is a share of the steps, a whole "
                "number is a step. For brackets that are text, write \\[ and \\]."
            )


def changes(text: str) -> bool:
    """Whether a text changes by step."""
    return "[" in text and any(True for _ in walk(parse(text)))


def is_plain(prompt: str, negative: str = "") -> bool:
    """Whether one prompt and one negative prompt are read throughout."""
    return compose(prompt) == [(prompt, 1.0)] and not changes(prompt) and not changes(negative)
