"""What is in force while a run goes on, and put back when it ends, however it ends."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from lorastyle.bank import GatedLayer
from lorastyle.bases import FOR_TRAINING, StableDiffusion, is_out_of_memory
from lorastyle.errors import TrainingError

from .plan import Plan

FEW_POSITIONS = 32 * 32


@contextmanager
def training(base: StableDiffusion, training: bool) -> Generator[None]:
    """Dropout in the adapter's layers on or off; the base itself stays in eval mode."""
    layers = [m for part in base.components.values() for m in part.modules() if isinstance(m, GatedLayer)]
    before = [layer.training for layer in layers]
    for layer in layers:
        layer.training = training
    try:
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.training = was


@contextmanager
def checkpointing(base: StableDiffusion, enabled: bool) -> Generator[None]:
    """Gradient checkpointing in the UNet: computed twice, kept once (diffusers' own, not reentrant)."""
    unet = base.pipe.unet
    before = bool(unet.is_gradient_checkpointing)
    if enabled and not before:
        unet.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if enabled and not before:
            unet.disable_gradient_checkpointing()


@contextmanager
def quick_attention(base: StableDiffusion, resolution: int) -> Generator[None]:
    """On a CPU, attention over few positions by plain products: the fused kernel's gradient is slow there.

    Over many positions the fused kernel stays, for it does not keep the products. So do processors that
    somebody chose.
    """
    unet, positions = base.pipe.unet, (resolution // base.pixels_per_latent) ** 2
    before = dict(unet.attn_processors)
    usual = all(type(processor) is AttnProcessor2_0 for processor in before.values())
    swap = usual and base.device.type == "cpu" and positions <= FEW_POSITIONS
    if swap:
        unet.set_attn_processor(AttnProcessor())
    try:
        yield
    finally:
        if swap:
            unet.set_attn_processor(before)


@contextmanager
def own_random_state(base: StableDiffusion) -> Generator[None]:
    """Leave the caller's generators as they were: dropout is seeded anew each step."""
    devices = [base.device] if base.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


@contextmanager
def told_short_memory(plan: Plan) -> Generator[None]:
    """Turn full memory, a card's or the machine's, into one sentence with what needs less."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        smaller = FOR_TRAINING[FOR_TRAINING.index(plan.memory) + 1 :] if plan.device != "cpu" else ()
        less = [f"--memory {mode}" for mode in smaller[:1]]
        less += ["--gradient-checkpointing"] * (not plan.gradient_checkpointing)
        less += ["--batch-size 1"] * (plan.batch_size > 1)
        less += ["--text-encoder-lr 0"] * (plan.text_encoder_lr > 0)
        less += [f"--resolution {plan.resolution * 3 // 4 // 64 * 64}"] * (plan.resolution >= 256)
        raise TrainingError(
            f"The memory of {plan.device} is full. Close what else uses it, or train with less: "
            f"{', '.join(less) or 'a smaller --rank'}."
        ) from error
