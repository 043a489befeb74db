"""`lorastyle train`: an adapter from a folder of images. Its flags are the settings of `TrainConfig`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from .console import INTERRUPTED, say
from .names import Whole

_MORE = Parameter(group=Group("More settings", sort_key=1))
_MANY = Parameter(consume_multiple=True, negative="")
_FLAG = Parameter(negative="")


def train(
    *,
    images: str | None = None,
    out: Annotated[str | None, Parameter(("--out", "-o"))] = None,
    base: str | None = None,
    name: str | None = None,
    trigger: str | None = None,
    class_name: Annotated[str | None, Parameter("--class")] = None,
    steps: Whole | None = None,
    rank: Whole | None = None,
    alpha: float | None = None,
    lr: float | None = None,
    text_encoder_lr: float | None = None,
    resolution: Whole | None = None,
    batch_size: Whole | None = None,
    targets: Annotated[tuple[str, ...] | None, _MANY] = None,
    prior: float | None = None,
    seed: Whole | None = None,
    config: Path | None = None,
    resume: Annotated[bool, _FLAG] = False,
    kind: Annotated[Literal["style", "subject"] | None, _MORE] = None,
    rslora: Annotated[bool | None, _MORE] = None,
    dropout: Annotated[float | None, _MORE] = None,
    clip_skip: Annotated[Whole | None, _MORE] = None,
    weight_decay: Annotated[float | None, _MORE] = None,
    min_snr_gamma: Annotated[float | None, _MORE] = None,
    prior_images: Annotated[Whole | None, _MORE] = None,
    prior_folder: Annotated[str | None, _MORE] = None,
    sample_prompts: Annotated[tuple[str, ...] | None, _MANY, _MORE] = None,
    sheet: Annotated[bool | None, _MORE] = None,
    sidecars: Annotated[bool | None, _MORE] = None,
    sample_every: Annotated[Whole | None, _MORE] = None,
    save_every: Annotated[Whole | None, _MORE] = None,
    gradient_checkpointing: Annotated[bool | None, _MORE] = None,
    precision: Annotated[Literal["auto", "float32", "bfloat16", "fp32", "bf16"] | None, _MORE] = None,
    memory: Annotated[Literal["auto", "fast", "offload", "int8", "nf4"] | None, _MORE] = None,
    background: Annotated[str | None, _MORE] = None,
) -> int:
    """Make an adapter from a folder of images.

        lorastyle train --images ./my-pictures

    Only --images is needed; what is left out is decided from the base and the pictures, and shown before it
    starts. Ctrl-C saves what there is. The settings are written beside the file, as TOML for --config.

    Args:
        images: the folder of pictures, with captions in .txt files beside them or in the file names.
        out: the adapter's file; adapters/NAME.safetensors if left out.
        base: "embedded", a checkpoint file, a folder, or a Hub id such as org/model.
        name: the adapter's name; the trigger if left out.
        trigger: the word that calls the adapter; the folder's name if left out.
        class_name: what the pictures show, when they show one thing: cat, face.
        steps: training steps; from the number of pictures if left out.
        rank: how much the adapter can hold; its file grows with it.
        alpha: the adapter is scaled by alpha / rank; the rank if left out.
        lr: learning rate.
        text_encoder_lr: learning rate of the text encoder; 0 leaves it alone.
        resolution: pixels a side; the base's own if left out.
        batch_size: pictures a step.
        targets: which layers: attention, attention+ff, all, or names.
        prior: weight of prior preservation, with class pictures drawn first; keeps the rest from drifting.
        seed: the same seed trains the same adapter.
        config: a TOML file of settings; flags win over it.
        resume: go on from where the run stopped.
        kind: style (the trigger names how things look) or subject (it names one thing).
        rslora: scale by alpha / sqrt(rank) instead.
        dropout: of the adapter's inputs, in training.
        clip_skip: which text layer is read: 1 is the last, 2 the one before.
        weight_decay: of AdamW.
        min_snr_gamma: weighting of the noise levels; 0 turns it off.
        prior_images: how many class pictures.
        prior_folder: where class pictures are kept; the cache if left out.
        sample_prompts: what the samples and the sheet draw; {trigger} is filled in.
        sheet: draw the before/after sheet at the end.
        sidecars: write a .json and a .png beside the file, which A1111, Forge and InvokeAI show of it.
        sample_every: steps between sample pictures; 0 is none.
        save_every: steps between checkpoints.
        gradient_checkpointing: less memory for more time.
        precision: of the base; the adapter is always float32.
        memory: how the base is kept, each with less memory: fast, offload, int8, nf4; the first that fits if
            left out.
        background: the colour behind transparent pictures.
    """
    given = {key: value for key, value in locals().items() if value is not None}
    for key in ("config", "resume"):
        given.pop(key, None)
    if class_name is not None:
        given["class"] = given.pop("class_name")

    from lorastyle.bases import FOR_TRAINING, default_base, default_memory
    from lorastyle.train import TrainConfig

    from .training import next_command, run_training

    defaults = {"base": default_base(), "memory": default_memory(FOR_TRAINING)}
    if config is not None:
        settings = TrainConfig.from_toml(config, given, defaults=defaults)
    else:
        settings = TrainConfig.from_mapping({**defaults, **given})
    result, plan = run_training(settings, resume=resume)
    if result.interrupted:
        return INTERRUPTED
    say(f"next: {next_command(result, plan)}")
    return 0
