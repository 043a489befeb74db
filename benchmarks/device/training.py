"""Training steps: lorastyle's own trainer, and diffusers with peft as its training scripts do it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn

from benchmarks.speed import twin
from lorastyle.bank import AdapterBank
from lorastyle.bases import StableDiffusion
from lorastyle.train import Plan, TrainConfig, make_plan, scan
from lorastyle.train.batches import Batch, Batches, Picture
from lorastyle.train.cache import PromptEncoder
from lorastyle.train.loop import CLIP, Trainer
from lorastyle.train.modes import checkpointing, quick_attention, training
from lorastyle.train.objective import Objective
from lorastyle.train.pictures import framing

PICTURES = Path(__file__).parents[2] / "samples" / "blob"
RANK = 16
SECTION = "training step, rank 16 on attention and feed-forward, bfloat16"


def plan_of(base: StableDiffusion, *, batch: int = 1, checkpointed: bool = False) -> Plan:
    """The plan that a run with these settings makes; its steps are never all taken here."""
    config = TrainConfig(
        images=str(PICTURES),
        targets=("attention+ff",),
        rank=RANK,
        batch_size=batch,
        steps=1000,
        text_encoder_lr=0,
        gradient_checkpointing=checkpointed,
        sample_every=0,
        sheet=False,
    )
    return make_plan(config, base, scan(config))


def batches_of(plan: Plan, base: StableDiffusion) -> Batches:
    """The folder's prompts and framing, with moments of chance: nothing goes through the autoencoder."""
    generator = torch.Generator().manual_seed(0)
    side = plan.resolution // base.pixels_per_latent
    pictures = [
        Picture(
            sample.name,
            sample.prompt,
            torch.randn(2 * base.latent_channels, side, side, generator=generator),
            False,
            framing(sample.size, plan.resolution),
        )
        for sample in scan(str(PICTURES)).used
    ]
    return Batches(pictures, [], plan.batch_size, plan.seed)


def objective_of(plan: Plan, base: StableDiffusion) -> Objective:
    return Objective(base.alphas_cumprod, base.prediction_type, plan.min_snr_gamma)


@contextmanager
def own_step(base: StableDiffusion, plan: Plan) -> Generator[Callable[[], float]]:
    """`Trainer.learn`, set up as `lorastyle.train.fit` does it."""
    bank = AdapterBank(base.components)
    try:
        bank.create(plan.name, plan.targets, rank=plan.rank, alpha=plan.alpha, seed=plan.seed)
        with checkpointing(base, plan.gradient_checkpointing), base.placement.using("unet"):
            names = [f"{path}.{factor}" for path in plan.targets["unet"] for factor in ("down", "up")]
            parameters = {"unet": dict(zip(names, bank.parameters(plan.name, "unet"), strict=True))}
            batches = batches_of(plan, base)
            trainer = Trainer(plan, base, parameters, batches, objective_of(plan, base), bank.disabled)
            with torch.no_grad(), base.placement.using(*base.text_encoders):
                for prompt in prompts_of(batches):
                    trainer.encode([prompt])
            with training(base, False), quick_attention(base, plan.resolution):
                yield trainer.learn
    finally:
        bank.detach()


def prompts_of(batches: Batches) -> list[str]:
    """All that the first epoch has."""
    return list(dict.fromkeys(prompt for step in range(8) for prompt in batches(step).prompts))


@contextmanager
def peft_step(
    base: StableDiffusion, plain: UNet2DConditionModel, plan: Plan
) -> Generator[Callable[[], float]]:
    """The step of diffusers' `train_text_to_image_lora.py` on cached latents and embeddings: base in
    bfloat16, adapter in float32, autocast, AdamW, gradients clipped, the same modules, loss and weights.

    Args:
        plain: a twin of the base's UNet that nothing is attached to.
    """
    from peft import LoraConfig

    unet, device = twin(plain), base.device
    targets = list(plan.targets["unet"])
    unet.add_adapter(LoraConfig(r=plan.rank, lora_alpha=int(plan.alpha), target_modules=targets))
    parameters = [p for p in unet.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.data = parameter.data.to(device, torch.float32)
    if plan.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    unet.train()
    optimizer = torch.optim.AdamW(parameters, lr=plan.lr, weight_decay=plan.weight_decay)
    objective, batches = objective_of(plan, base), batches_of(plan, base)
    encode = PromptEncoder(base, trained=False)
    with torch.no_grad():
        for prompt in prompts_of(batches):
            encode([prompt])
    done = 0

    def step() -> float:
        nonlocal done
        batch: Batch = batches(done)
        moments = batch.moments.to(device)
        latents = base.latents(moments, torch.randn_like(moments.chunk(2, 1)[0])).to(base.dtype)
        noise = torch.randn_like(latents)
        t = torch.randint(0, len(objective.alphas_cumprod), (len(latents),), device=device)
        noisy = objective.add_noise(latents, noise, t).to(base.dtype)
        words = encode(batch.prompts)
        more: dict[str, Any] = {}
        if words.pooled is not None:
            framed = {"text_embeds": words.pooled.to(base.dtype), "time_ids": batch.time_ids.to(device)}
            more = {"added_cond_kwargs": framed}
        with torch.autocast(device.type, base.dtype):
            answer = unet(noisy, t, words.tokens.to(base.dtype), return_dict=False, **more)[0]
            losses = objective.losses(answer, objective.target(latents, noise, t), t)
            loss = losses.mean()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        done += 1
        return loss.detach().item()

    yield step
