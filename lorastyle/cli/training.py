"""A training run, told as it goes. `lorastyle train` and `lorastyle demo` share it."""

from __future__ import annotations

import shlex
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from .console import Steps, base_line, duration, file_size, note, say
from .names import near

if TYPE_CHECKING:
    from lorastyle.bases import StableDiffusion
    from lorastyle.train import Event, FitResult, Plan, StepDone, TrainConfig

SMOOTHED = 20  # steps whose mean loss is shown


class Narrator:
    """Tells the events of `fit`. `plan` is there once it was made."""

    def __init__(self, progress: Steps) -> None:
        self.plan: Plan | None = None
        self._progress = progress
        self._losses: deque[float] = deque(maxlen=SMOOTHED)

    def __call__(self, event: Event) -> None:
        from lorastyle.train import PlanReady, Preparing, SampleDrawn, StepDone, Warned

        if isinstance(event, PlanReady):
            self.plan = event.plan
            self._progress.say("\n".join(f"{what:15} {value}" for what, value in event.plan.describe()))
        elif isinstance(event, Preparing):
            self._progress.update(event.what, event.done, event.total)
        elif isinstance(event, StepDone):
            self._losses.append(event.loss)
            self._progress.update("training", event.step, event.steps, self._detail(event))
        elif isinstance(event, SampleDrawn):
            self._progress.say(f"sample {near(event.path)}")
        elif isinstance(event, Warned):
            note(event.text)

    def _detail(self, event: StepDone) -> str:
        parts = [f"loss {sum(self._losses) / len(self._losses):.4f}"]
        if event.images_per_second is not None:
            parts.append(f"{event.images_per_second:.1f} pictures/s")
        if event.seconds_left is not None:
            parts.append(f"{duration(event.seconds_left)} left")
        return "  ".join(parts)


def run_training(
    config: TrainConfig, *, resume: bool = False, base: StableDiffusion | None = None
) -> tuple[FitResult, Plan]:
    """Train, telling the plan, the progress and the files that were made."""
    from lorastyle.train import fit

    say(base_line(config.base))
    with Steps() as progress:
        narrator = Narrator(progress)
        result = fit(config, base=base, on_event=narrator, resume=resume)
    assert narrator.plan is not None  # fit tells the plan before anything else
    say(f"adapter  {near(result.adapter)} ({file_size(result.adapter.stat().st_size)})")
    say(f"settings {near(result.toml)}")
    if result.sheet is not None:
        say(f"sheet    {near(result.sheet)}")
    say(f"{result.steps} steps in {duration(result.seconds)}, loss {result.final_loss:.4f}")
    return result, narrator.plan


def next_command(result: FitResult, plan: Plan) -> str:
    """The line that draws with what was made."""
    from lorastyle.bases import default_base

    # a name alone is looked up in ./adapters
    found_by_name = result.adapter.resolve().parent == Path("adapters").resolve()
    adapter = result.adapter.stem if found_by_name else near(result.adapter)
    prompt = plan.sample_prompts[0] if plan.sample_prompts else plan.trigger
    words = ["lorastyle", "generate", prompt, "-a", adapter]
    if plan.base != default_base():
        words += ["--base", plan.base]
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    """Double quotes where they do, for they work in every shell."""
    plain = shlex.quote(word) == word
    return word if plain else shlex.quote(word) if set(word) & set('"$`\\!') else f'"{word}"'
