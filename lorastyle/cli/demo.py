"""`lorastyle demo`: the whole path on a shipped sample."""

from __future__ import annotations

from pathlib import Path

from .console import INTERRUPTED, say
from .names import Whole, check_out, near


def demo(*, out: Path = Path("lorastyle-demo"), steps: Whole | None = None) -> int:
    """Train on the sticker sample and draw with the result: the whole thing in two minutes.

    Args:
        out: the folder for everything that is made.
        steps: training steps; fewer are quicker and worse.
    """
    check_out(out / "pictures")
    from lorastyle.bases import FOR_TRAINING, default_base, default_memory, load_base
    from lorastyle.generate import AdapterUse, Engine, GenerateRequest
    from lorastyle.samples import folder
    from lorastyle.train import TrainConfig

    from .generate import draw
    from .training import next_command, run_training

    config = TrainConfig(
        images=str(folder("sticker")),
        out=str(out / "sticker.safetensors"),
        base=default_base(),
        steps=steps,
        memory=default_memory(FOR_TRAINING),
    )
    result, plan = run_training(config)
    sheet = result.sheet
    if sheet is None:  # stopped on the way
        return INTERRUPTED
    engine = Engine(load_base(config.base, memory=default_memory()))
    uses = (AdapterUse(near(result.adapter)),)
    for prompt in plan.sample_prompts[:3]:
        draw(engine, GenerateRequest(prompt, adapters=uses, seed=plan.seed + 100), out / "pictures")
    say()
    say(f"Look at {near(sheet)}: the same prompts and seeds, without and with the adapter.")
    say(f"Draw more:             {next_command(result, plan)}")
    say("Train on your pictures: lorastyle train --images ./my-pictures")
    return 0
