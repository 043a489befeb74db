"""Drawing: single calls of the UNet with adapters resident, compiled or not, and whole pictures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from benchmarks.speed import twin, with_peft
from lorastyle.adapters import Adapter
from lorastyle.bank import AdapterBank, attach
from lorastyle.bases import PromptEmbeds, StableDiffusion
from lorastyle.generate import Engine, GenerateRequest

CALLS = "one UNet call with guidance, rank 16 on attention, bfloat16, without gradients"
PICTURE = "one whole picture: words, 25 steps with guidance, autoencoder; an adapter of rank 16 on attention"
STEPS, GUIDANCE = 25, 5.0


@dataclass(frozen=True)
class Inputs:
    """Of a UNet call for b latents: as the base's `predict` takes them, and as diffusers' pipelines do."""

    latents: Tensor
    t: Tensor
    words: PromptEmbeds

    @classmethod
    def of(cls, base: StableDiffusion, batch: int) -> Inputs:
        generator = torch.Generator().manual_seed(0)
        side = base.resolution // base.pixels_per_latent
        latents = torch.randn(batch, base.latent_channels, side, side, generator=generator).to(base.device)
        with torch.no_grad():
            words = base.encode_prompts(["a cat on a beach"]).repeat(batch)
        return cls(latents, torch.full((batch,), 500, device=base.device), words)

    def call(self, unet: Callable[..., Any], dtype: torch.dtype) -> Tensor:
        """The UNet as diffusers' pipelines call it: everything in its dtype, no autocast."""
        more: dict[str, Any] = {}
        if self.words.pooled is not None:
            framed = [[1024.0, 1024.0, 0.0, 0.0, 1024.0, 1024.0]] * len(self.latents)
            time_ids = torch.tensor(framed, device=self.latents.device)
            more = {"added_cond_kwargs": {"text_embeds": self.words.pooled.to(dtype), "time_ids": time_ids}}
        with torch.no_grad():
            answer = unet(
                self.latents.to(dtype), self.t, self.words.tokens.to(dtype), return_dict=False, **more
            )
        return cast(Tensor, answer[0])


@dataclass(frozen=True)
class Caller:
    """A contender: a call of a UNet, and a way to change the first adapter's scale."""

    call: Callable[[Inputs], object]
    set_scale: Callable[[float], object] = lambda scale: None


def bare(base: StableDiffusion, plain: UNet2DConditionModel) -> Generator[Caller]:
    yield Caller(lambda inputs: inputs.call(plain, base.dtype))


def banked(
    base: StableDiffusion, plain: UNet2DConditionModel, adapters: Sequence[Adapter]
) -> Generator[Caller]:
    """lorastyle's bank, called as diffusers' pipelines call a UNet."""
    unet, bank = with_bank(plain, adapters)
    yield Caller(
        lambda inputs: inputs.call(unet, base.dtype), lambda scale: bank.set_scales({adapters[0].name: scale})
    )


def fused(
    base: StableDiffusion, plain: UNet2DConditionModel, adapters: Sequence[Adapter]
) -> Generator[Caller]:
    unet, bank = with_bank(plain, adapters)
    bank.fuse()
    yield Caller(lambda inputs: inputs.call(unet, base.dtype))


def predicted(base: StableDiffusion, adapters: Sequence[Adapter]) -> Generator[Caller]:
    """lorastyle's bank, called as its engine does: by `predict`, under autocast."""
    bank = attach(base.components)
    try:
        for adapter in adapters:
            bank.add(adapter)

        def call(inputs: Inputs) -> Tensor:
            with torch.no_grad():
                return base.predict(inputs.latents, inputs.t, inputs.words)

        yield Caller(call)
    finally:
        bank.detach()


def peft(
    base: StableDiffusion, plain: UNet2DConditionModel, adapters: Sequence[Adapter]
) -> Generator[Caller]:
    unet = resident_peft(base, plain, adapters)
    names = [adapter.name for adapter in adapters]
    others = [1.0] * (len(names) - 1)
    yield Caller(
        lambda inputs: inputs.call(unet, base.dtype),
        lambda scale: unet.set_adapters(names, [scale, *others]),
    )


def with_bank(
    plain: UNet2DConditionModel, adapters: Sequence[Adapter]
) -> tuple[UNet2DConditionModel, AdapterBank]:
    """A twin of the UNet with the adapters in a bank of lorastyle's."""
    unet = twin(plain)
    bank = attach(unet)
    for adapter in adapters:
        bank.add(adapter)
    return unet, bank


def resident_peft(
    base: StableDiffusion, plain: UNet2DConditionModel, adapters: Sequence[Adapter]
) -> UNet2DConditionModel:
    """A twin of the UNet with the adapters in peft."""
    unet = twin(plain)
    with_peft(unet, adapters)
    for name, parameter in unet.named_parameters():
        if "lora_" in name:  # as load_lora_weights leaves them: where the base is, in its dtype
            parameter.data = parameter.data.to(base.device, base.dtype)
    return unet


def calling(
    base: StableDiffusion, plain: UNet2DConditionModel, adapters: Sequence[Adapter]
) -> dict[str, Callable[[], Any]]:
    """The contenders of the section `CALLS`."""
    makers: dict[str, Callable[[], Generator[Caller]]] = {
        "base": partial(bare, base, plain),
        "lorastyle bank": partial(banked, base, plain, adapters),
        "lorastyle fused": partial(fused, base, plain, adapters),
        "lorastyle predict": partial(predicted, base, adapters),
        "peft": partial(peft, base, plain, adapters),
    }
    return {name: contextmanager(make) for name, make in makers.items()}


def drawing(
    base: StableDiffusion, plain: UNet2DConditionModel, adapter: Adapter
) -> dict[str, Callable[[], Any]]:
    """The contenders of the section `PICTURE`."""
    makers: dict[str, Callable[[], Generator[Callable[[], object]]]] = {
        "lorastyle Engine": partial(_engine, base, adapter),
        "diffusers + peft": partial(_pipeline, base, plain, adapter),
    }
    return {name: contextmanager(make) for name, make in makers.items()}


def request(steps: int = STEPS) -> GenerateRequest:
    return GenerateRequest("a cat on a beach", seed=1, steps=steps, guidance=GUIDANCE)


def _engine(base: StableDiffusion, adapter: Adapter) -> Generator[Callable[[], object]]:
    bank = attach(base.components)
    try:
        bank.add(adapter)
        engine = Engine(base, bank=bank, batch_size=1)
        yield lambda: engine.generate(request())
    finally:
        bank.detach()


def _pipeline(
    base: StableDiffusion, plain: UNet2DConditionModel, adapter: Adapter
) -> Generator[Callable[[], object]]:
    """diffusers' pipeline as people load it: all parts in bfloat16, the adapter by peft."""
    parts = dict(base.pipe.components)
    for name in ("vae", *base.text_encoders):
        parts[name] = copy.deepcopy(parts[name]).to(base.dtype)
    parts["unet"] = resident_peft(base, plain, [adapter])
    more = {"add_watermarker": False} if "text_encoder_2" in parts else {"requires_safety_checker": False}
    pipe = type(base.pipe)(**parts, **more)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(1)

    def draw() -> object:
        with torch.no_grad():
            return pipe(
                "a cat on a beach",
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                height=base.resolution,
                width=base.resolution,
                generator=generator,
            )

    yield draw
