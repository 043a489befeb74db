"""Prompts as the text encoders read them with the adapters at hand, each read once.

What a text encoder makes of a prompt depends on the prompt, the clip skip, the adapters that act on the
encoder and the words that adapters bring. As long as these are the same, so is the reading: new scales on the
UNet read nothing anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import cast

import torch

from lorastyle.bank import AdapterBank
from lorastyle.bases import StableDiffusion

from .conditioning import Script, Words
from .prompt_plan import Plan, Texts
from .prompt_syntax import compose
from .request import GenerateRequest
from .sampling import steps_taken
from .schedulers import build_scheduler

MOST_BYTES = 64_000_000  # of readings that are kept; 100 of SDXL, 280 of SD 1.5


class Readings:
    """Reads prompts, and remembers the last ones."""

    def __init__(self, base: StableDiffusion, bank: AdapterBank) -> None:
        self._base, self._bank = base, bank
        self._known: dict[object, Script] = {}  # in the order of last use
        self._bytes = 0

    @torch.no_grad()
    def read(self, request: GenerateRequest, brought: object) -> Script:
        """A batch of one.

        Args:
            request: with nothing left open.
            brought: what tells the words that adapters bring from others.

        Raises:
            ConfigError: as `Plan.of`.
        """
        return self._read(self._plan(request), request.clip_skip, brought, ())

    @torch.no_grad()
    def apart(self, request: GenerateRequest, brought: object, regional: Sequence[str]) -> list[Script]:
        """One reading without any of the adapters of `regional`, and one for each with it alone of them.

        Raises:
            ConfigError: as `Plan.of`.
        """
        plan = self._plan(request)
        silent = [regional, *([other for other in regional if other != name] for name in regional)]
        return [self._read(plan, request.clip_skip, brought, names) for names in silent]

    def _plan(self, request: GenerateRequest) -> Plan:
        heeded = cast(float, request.guidance) > 1 or len(compose(request.prompt)) > 1
        return Plan.of(
            request.prompt, request.negative_prompt if heeded else "", lambda: self._steps(request)
        )

    def _steps(self, request: GenerateRequest) -> list[int]:
        """How many steps each pass takes. As in A1111, a step of a second-order scheduler counts twice: it
        calls the UNet twice.
        """
        order = int(build_scheduler(request.scheduler, self._base.pipe.scheduler).order)
        strengths = [1.0 if request.init is None else request.strength]
        if request.hires != 1:
            strengths.append(request.hires_strength)
        return [max(1, steps_taken(request.steps, cast(float, share)) * order) for share in strengths]

    def _read(self, plan: Plan, clip_skip: int, brought: object, silent: Sequence[str]) -> Script:
        """
        Args:
            silent: adapters that the text encoders are read without.
        """
        off = {name: dict.fromkeys(self._base.text_encoders, 0.0) for name in silent}
        with self._bank.scaled(off) if off else nullcontext():
            setting = self._bank.setting_of(self._base.text_encoders)
            key = plan, clip_skip, brought, setting
            script = None if setting is None else self._known.pop(key, None)
            if script is None:
                script = self._encoded(plan, clip_skip)
                self._bytes += script.nbytes if setting is not None else 0
        if setting is not None:
            self._known[key] = script
            while self._bytes > MOST_BYTES and len(self._known) > 1:
                self._bytes -= self._known.pop(next(iter(self._known))).nbytes
        return script

    def _encoded(self, plan: Plan, clip_skip: int) -> Script:
        """The embeddings of a plan. What is read at one step has as many chunks as its longest text, whatever
        is read at the others; a text is encoded once for each number of chunks that it is needed in.
        """
        groups: dict[int, list[Texts]] = {}
        for texts in plan.texts:
            alone = len(plan.texts) == 1  # then it need not be known how many chunks there are
            chunks = 0 if alone else max(map(self._base.chunks, {*texts.prompts, texts.negative}))
            groups.setdefault(chunks, []).append(texts)
        words: dict[Texts, Words] = {}
        for group in groups.values():
            prompts = list(dict.fromkeys(prompt for texts in group for prompt in texts.prompts))
            negatives = list(dict.fromkeys(texts.negative for texts in group))
            read = self._base.read(prompts, negatives, clip_skip=clip_skip)
            wanted = {text: read[0][i : i + 1] for i, text in enumerate(prompts)}
            unwanted = {text: read[1][i : i + 1] for i, text in enumerate(negatives)}
            for texts in group:
                each = tuple(wanted[prompt] for prompt in texts.prompts)
                words[texts] = Words(each, unwanted[texts.negative], plan.weights)
        return Script(tuple(tuple(words[texts] for texts in steps) for steps in plan.passes))
