"""One trainable adapter on the tiny pipeline: what a fit relies on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from torch import Tensor, nn

from lorastyle.adapters import Adapter
from lorastyle.bank import AdapterBank, attach
from lorastyle.errors import AdapterError
from tests.bank.adapters import random_adapter, same_bits
from tests.tiny import tiny_pipeline

TARGETS = {"unet": ["all"], "text_encoder": ["attention+ff"]}


@pytest.fixture(params=["float32", "bfloat16 autocast", "bfloat16 base", "bfloat16 base, autocast"])
def precision(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def pipe(precision: str) -> Iterator[StableDiffusionPipeline]:
    pipe = tiny_pipeline()
    if "base" in precision:
        pipe.unet.to(torch.bfloat16)
        pipe.text_encoder.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled="autocast" in precision):
        yield pipe


def predict(pipe: StableDiffusionPipeline) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 200, (2, 8), generator=generator)
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    text = pipe.text_encoder(tokens)[0]
    return pipe.unet(latents.to(pipe.unet.dtype), torch.tensor([10, 900]), text.to(pipe.unet.dtype)).sample


def loss(pipe: StableDiffusionPipeline) -> Tensor:
    return (predict(pipe).float() - 1).square().mean()


def models(pipe: StableDiffusionPipeline) -> list[nn.Module]:
    return [pipe.unet, pipe.text_encoder]


def checkpoint(pipe: StableDiffusionPipeline) -> None:
    pipe.unet.enable_gradient_checkpointing()
    text_encoder = pipe.text_encoder
    # transformers 5 renamed it
    newer = getattr(text_encoder, "activation_checkpointing_enable", None)
    (newer or text_encoder.gradient_checkpointing_enable)()
    for model in models(pipe):
        assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def new_bank(pipe: StableDiffusionPipeline) -> AdapterBank:
    bank = attach(pipe)
    bank.create("new", TARGETS, rank=4, alpha=2.0, seed=7)
    return bank


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a frozen adapter"])
def test_a_fresh_adapter_changes_no_bit(pipe: StableDiffusionPipeline, beside: bool) -> None:
    bank = attach(pipe)
    if beside:
        bank.add(random_adapter("old", {"unet": pipe.unet}))
    before = predict(pipe).detach()
    bank.create("new", TARGETS, rank=4, alpha=2.0)
    fresh = predict(pipe)
    assert fresh.requires_grad and same_bits(fresh.detach(), before)
    with torch.no_grad():
        bank.parameters("new", "unet")[1].add_(0.5)
    assert not same_bits(predict(pipe).detach(), before)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
def test_every_tensor_learns(pipe: StableDiffusionPipeline, checkpointing: bool) -> None:
    bank = new_bank(pipe)
    for model in models(pipe):
        model.train()
    if checkpointing:
        checkpoint(pipe)
    parameters = bank.parameters("new")
    start = [p.detach().clone() for p in parameters]
    assert {p.dtype for p in parameters} == {torch.float32}
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    for step in range(10):
        optimizer.zero_grad()
        loss(pipe).backward()
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in parameters)
        if step == 0:
            assert all((p.grad == 0).all() for p in parameters[::2]), "up is zero, so down waits a step"
        if step == 1:
            assert all((p.grad != 0).any() for p in parameters)
        optimizer.step()
    changed = sum(int((p != s).sum()) for p, s in zip(parameters, start, strict=True))
    assert changed >= 0.99 * sum(p.numel() for p in parameters)
    state = [t for s in optimizer.state.values() for t in s.values() if isinstance(t, Tensor)]
    assert {t.dtype for t in state} == {torch.float32}


@pytest.mark.parametrize("precision", ["float32"], indirect=True)
class TestInFloat32:
    def test_checkpointing_gives_the_same_gradients(self, pipe: StableDiffusionPipeline) -> None:
        bank = new_bank(pipe)
        for factor in (parameters := bank.parameters("new")):
            nn.init.normal_(factor, std=0.1, generator=torch.Generator().manual_seed(factor.numel()))
        for model in models(pipe):
            model.train()
        plain = torch.autograd.grad(loss(pipe), parameters)
        checkpoint(pipe)
        for a, b in zip(plain, torch.autograd.grad(loss(pipe), parameters), strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)
            assert (a != 0).any()

    def test_what_is_trained_is_the_adapter_and_nothing_else(self, pipe: StableDiffusionPipeline) -> None:
        wanted = {id(p) for model in models(pipe) for p in model.parameters() if p.requires_grad}
        assert wanted
        pipe.unet.conv_in.requires_grad_(False)
        before = {id(p) for model in models(pipe) for p in model.parameters() if p.requires_grad}
        bank = new_bank(pipe)
        trained = {id(p) for model in models(pipe) for p in model.parameters() if p.requires_grad}
        assert trained == {id(p) for p in bank.parameters("new")}
        assert len(trained) == 2 * sum(len(m) for m in bank.export("new").components.values())
        parts = [bank.parameters("new", part) for part in TARGETS]
        assert {id(p) for part in parts for p in part} == trained and all(parts)
        bank.remove("new")
        assert before == {id(p) for model in models(pipe) for p in model.parameters() if p.requires_grad}

    def test_what_is_exported_draws_the_same(self, pipe: StableDiffusionPipeline) -> None:
        plain = predict(pipe).detach()
        for rslora in (False, True):
            bank = attach(pipe)
            bank.create("new", TARGETS, rank=4, alpha=3.0, rslora=rslora)
            with torch.no_grad():
                for factor in bank.parameters("new"):
                    factor.add_(0.1)
            trained = predict(pipe).detach()
            adapter = bank.export("new", {"lorastyle.trigger": "x"})
            bank.detach()
            update = next(iter(adapter.components["unet"].values()))
            assert update.scale == pytest.approx(3 / 2 if rslora else 3 / 4)
            assert update.down.dtype == torch.float32 and adapter.metadata == {"lorastyle.trigger": "x"}
            bank.add(adapter)
            torch.testing.assert_close(predict(pipe).detach(), trained, atol=1e-5, rtol=0)
            assert (trained - plain).abs().max() > 1e-3
            bank.detach()

    def test_an_export_is_a_copy(self, pipe: StableDiffusionPipeline) -> None:
        bank = new_bank(pipe)
        adapter = bank.export("new")
        with torch.no_grad():
            bank.parameters("new")[0].add_(1)
        first = next(iter(adapter.components["unet"].values()))
        assert not torch.equal(first.down, bank.parameters("new")[0])

    def test_the_seed_decides(self, pipe: StableDiffusionPipeline) -> None:
        drawn: list[list[Tensor]] = []
        for seed in (7, 7, 8):
            bank = attach(pipe)
            torch.rand(1)  # the global generator has no say
            bank.create("new", TARGETS, rank=4, seed=seed)
            drawn.append([p.detach() for p in bank.parameters("new")])
            bank.detach()
        assert all(same_bits(a, b) for a, b in zip(drawn[0], drawn[1], strict=True))
        assert not same_bits(drawn[0][0], drawn[2][0])
        bound = 1 / drawn[0][0][0].numel() ** 0.5
        assert 0.8 * bound < drawn[0][0].abs().max() <= bound

    def test_fused_in_training_is_refused_and_in_eval_it_is_the_bank(
        self, pipe: StableDiffusionPipeline
    ) -> None:
        bank = new_bank(pipe)
        with torch.no_grad():
            for factor in bank.parameters("new"):
                factor.add_(0.1)
        drawn = predict(pipe).detach()
        with bank.fused():
            torch.testing.assert_close(predict(pipe).detach(), drawn, atol=1e-5, rtol=0)
        pipe.unet.train()
        with pytest.raises(AdapterError, match="is being trained"):
            bank.fuse()
        assert not bank.is_fused
        assert same_bits(predict(pipe.to("cpu")).detach(), drawn)

    def test_frozen_adapters_have_no_parameters_and_two_are_not_trained(
        self, pipe: StableDiffusionPipeline
    ) -> None:
        bank = new_bank(pipe)
        bank.add(Adapter("old", {"unet": random_adapter("old", {"unet": pipe.unet}).components["unet"]}))
        with pytest.raises(AdapterError, match="'old' is frozen and has no parameters"):
            bank.parameters("old")
        with pytest.raises(AdapterError, match="'new' is being trained already"):
            bank.create("newer", TARGETS, rank=4)

    def test_resident_in_inference_mode_trains_afterwards(self, pipe: StableDiffusionPipeline) -> None:
        bank = attach(pipe)
        with torch.inference_mode():
            bank.add(random_adapter("old", {"unet": pipe.unet}))
            bank.create("new", TARGETS, rank=4)
            bank.set_scales({"old": 0.5})
        loss(pipe).backward()
        assert all((p.grad != 0).any() for p in bank.parameters("new")[1::2])  # pyright: ignore[reportOptionalMemberAccess]
