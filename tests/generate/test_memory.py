"""Where memory runs out, half as many images are drawn at once, and they are the same."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lorastyle.bases import StableDiffusion, is_out_of_memory, load_base, needs, open_pipeline
from lorastyle.errors import BaseError
from lorastyle.generate import AdapterUse, Engine, GenerateRequest, Picture
from lorastyle.generate.batches import BatchSizes
from lorastyle.notes import collecting
from tests.tiny import tiny_pipeline

MakeAdapter = Callable[..., Path]
REQUEST = GenerateRequest("a cat", seed=7, steps=2, guidance=3.0, number=4)
CPU_FULL = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")


class Small:
    """A base whose UNet takes so many rows at once."""

    def __init__(self, base: StableDiffusion, error: Exception) -> None:
        self.base, self.error, self.most = base, error, 1_000
        self.sizes: list[int] = []
        self._predict, self._decode = base.predict, base.pipe.vae.decode
        base.predict = self.predict  # type: ignore[method-assign]

    def predict(self, noisy: torch.Tensor, *args: Any, **settings: Any) -> torch.Tensor:
        self.sizes.append(len(noisy))
        if len(noisy) > self.most:
            raise self.error
        return self._predict(noisy, *args, **settings)


@pytest.fixture(params=[torch.OutOfMemoryError("CUDA out of memory"), CPU_FULL, MemoryError()], ids=repr)
def error(request: pytest.FixtureRequest) -> Exception:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def small(base: StableDiffusion) -> Generator[Small]:
    predict = base.predict
    yield Small(base, torch.OutOfMemoryError("CUDA out of memory"))
    base.predict = predict  # type: ignore[method-assign]


def apart(pictures: list[Picture], others: list[Picture]) -> int:
    arrays = [np.stack([np.asarray(p.image).astype(int) for p in some]) for some in (pictures, others)]
    return int(np.abs(arrays[0] - arrays[1]).max())


def test_halved_and_the_same(engine: Engine, small: Small, error: Exception, cat: AdapterUse) -> None:
    request = replace(REQUEST, number=5, adapters=(cat,))
    whole = engine.generate(request)
    small.error, small.most = error, 4  # two images with guidance
    small.sizes.clear()
    steps: list[tuple[int, int]] = []
    told: list[int | None] = []
    halved = engine.generate(
        request,
        on_step=lambda done, total: steps.append((done, total)),
        on_picture=lambda picture: told.append(picture.request.seed),
    )
    assert small.sizes == [8, 4, 4, 4, 4, 2, 2]
    assert told == [p.request.seed for p in halved] == [7, 8, 9, 10, 11]
    assert [p.request for p in halved] == [p.request for p in whole] and apart(whole, halved) <= 2
    assert apart(whole, engine.generate(replace(request, seed=8))) > 10
    assert steps == [(i, 6) for i in range(1, 7)]


def test_the_size_that_fits_is_remembered(engine: Engine, small: Small) -> None:
    small.most = 4
    engine.generate(REQUEST)
    small.sizes.clear()
    engine.generate(REQUEST)
    engine.generate(replace(REQUEST, width=96))  # larger ones do not fit either
    engine.generate_many([REQUEST, replace(REQUEST, seed=1)])
    assert set(small.sizes) == {4}
    engine.generate(replace(REQUEST, width=32, height=32, guidance=1.0))  # of smaller ones more may
    assert small.sizes[-1] == 4
    small.sizes.clear()
    small.most = 1_000
    engine.generate(replace(REQUEST, width=32, height=32))
    assert set(small.sizes) == {8}


def test_steps_that_were_lost_stay_counted(engine: Engine, small: Small) -> None:
    seen: list[tuple[int, int]] = []

    def count(done: int, total: int) -> None:
        seen.append((done, total))
        small.most = 4 if done == 1 else small.most  # memory runs out at the second step

    engine.generate(REQUEST, on_step=count)
    assert seen == [(1, 2), (2, 5), (3, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({"combine": "composite"}, 4),  # two adapters: one image is four rows
        ({"masks": ("left", "right")}, 4),
        ({"masks": ("left", None)}, 4),
        ({"hires": 1.5, "hires_strength": 0.5}, 4),
        ({"guidance": 1.0}, 1),
        ({"scheduler": "euler a"}, 2),
    ],
    ids=str,
)
def test_with_whatever_else_is_asked_for(
    engine: Engine, small: Small, cat: AdapterUse, dog: AdapterUse, changes: dict[str, Any], most: int
) -> None:
    masks = changes.pop("masks", (None, None))
    uses = tuple(replace(use, mask=mask) for use, mask in zip((cat, dog), masks, strict=True))
    request = replace(REQUEST, adapters=uses, **changes)
    whole = engine.generate(request)
    small.sizes.clear()
    small.most = most
    halved = engine.generate(request)
    assert max(small.sizes) > most and min(small.sizes) <= most
    assert [p.request for p in halved] == [p.request for p in whole] and apart(whole, halved) <= 2


def test_fused_too(base: StableDiffusion, small: Small, cat: AdapterUse) -> None:
    engine = Engine(base, mode="fused")
    try:
        request = replace(REQUEST, adapters=(cat,))
        whole = engine.generate(request)
        small.most = 2
        halved = engine.generate(request)
        assert apart(whole, halved) <= 2 and not engine.bank.is_fused
    finally:
        engine.bank.detach()


def test_no_memory_to_fuse(base: StableDiffusion, cat: AdapterUse, monkeypatch: pytest.MonkeyPatch) -> None:
    request = replace(REQUEST, adapters=(cat,), steps=8)
    engine = Engine(base)
    try:
        fused = engine.generate(request)

        def full(*_: object) -> torch.Tensor:
            raise CPU_FULL

        monkeypatch.setattr("lorastyle.bank.mixing.fused_weight", full)
        with collecting() as notes:
            beside = engine.generate(request)
        assert apart(fused, beside) <= 2 and not engine.bank.is_fused
        assert [note for note in notes if "too little memory to fuse" in note]
        engine.mode = "fused"
        with pytest.raises(BaseError, match=r'or try with less: .*mode "bank"'):
            engine.generate(request)
    finally:
        engine.bank.detach()


def test_an_image_that_does_not_fit_beside_fused_weights_is_drawn_without(
    base: StableDiffusion, small: Small, cat: AdapterUse
) -> None:
    engine = Engine(base)
    predict = small.predict

    def fits_unless_fused(*args: Any, **settings: Any) -> torch.Tensor:
        small.most = 0 if engine.bank.is_fused else 1_000
        return predict(*args, **settings)

    base.predict = fits_unless_fused  # type: ignore[method-assign]
    try:
        with collecting() as notes:
            assert len(engine.generate(replace(REQUEST, adapters=(cat,), steps=8))) == 4
        assert [note for note in notes if "too little memory for fused adapters" in note]
    finally:
        engine.bank.detach()


@pytest.mark.parametrize(
    ("changes", "less"),
    [
        ({}, r"a smaller size such as 72x48"),
        ({"hires": 2.0, "hires_strength": 0.5}, "no hires pass"),
        ({"combine": "composite"}, "no combine"),
        ({"width": 64, "height": 64}, r"too small for one image of 64x64 pixels\. Close what else"),
    ],
    ids=str,
)
def test_one_alone_that_does_not_fit_is_told_with_what_needs_less(
    engine: Engine,
    small: Small,
    error: Exception,
    cat: AdapterUse,
    dog: AdapterUse,
    changes: dict[str, Any],
    less: str,
) -> None:
    small.error, small.most = error, 0
    request = replace(REQUEST, width=96, height=64, adapters=(cat, dog))
    told: list[Picture] = []
    with pytest.raises(BaseError, match=less) as raised:
        engine.generate(replace(request, **changes), on_picture=told.append)
    assert not told and "memory of cpu is too small" in str(raised.value)
    assert isinstance(raised.value, torch.OutOfMemoryError)
    small.most = 1_000
    assert len(engine.generate(replace(REQUEST, number=1))) == 1, "the engine is free, and all is as before"


def test_other_errors_are_not_taken_for_full_memory(engine: Engine, small: Small) -> None:
    small.error, small.most = RuntimeError("shapes cannot be multiplied"), 0
    with pytest.raises(RuntimeError, match="shapes"):
        engine.generate(REQUEST)
    assert small.sizes == [8]


def test_what_filled_the_memory_is_let_go_before_it_goes_on(
    engine: Engine, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    import weakref

    kept: list[weakref.ref[torch.Tensor]] = []
    predict = small.predict

    def watched(noisy: torch.Tensor, *args: Any, **settings: Any) -> torch.Tensor:
        if len(noisy) == 8:
            filling = torch.zeros(8)
            kept.append(weakref.ref(filling))
            raise torch.OutOfMemoryError("full")
        assert kept and kept[0]() is None
        return predict(noisy, *args, **settings)

    monkeypatch.setattr(engine.base, "predict", watched)
    assert len(engine.generate(REQUEST)) == 4 and len(kept) == 1


def test_previews_that_do_not_fit_are_left_out(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = engine.generate(REQUEST)

    def full(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr("lorastyle.generate.sampling._estimate", full)
    seen: list[object] = []
    with collecting() as notes:
        pictures = engine.generate(REQUEST, on_preview=seen.append)
    assert apart(whole, pictures) == 0 and not seen
    assert notes == ["There is too little memory for previews: the images are drawn without."]


@pytest.mark.parametrize("most", [1, 2])
def test_decoding_is_halved_without_drawing_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception, most: int
) -> None:
    whole = engine.generate(REQUEST)
    vae, calls = engine.base.pipe.vae, list[int]()
    decode = vae.decode

    def small(latents: torch.Tensor) -> Any:
        calls.append(len(latents))
        if len(latents) > most:
            raise error
        return decode(latents)

    monkeypatch.setattr(vae, "decode", small)
    steps: list[int] = []
    halved = engine.generate(REQUEST, on_step=lambda done, total: steps.append(total))
    assert steps == [2, 2] and apart(whole, halved) <= 2
    assert calls == ([4, 2, 2] if most == 2 else [4, 2, 1, 1, 1, 1])


def test_one_that_cannot_be_decoded_whole_is_decoded_in_tiles() -> None:
    base = open_pipeline(tiny_pipeline(), name="tiny", dtype=torch.float32)
    vae = base.pipe.vae
    latents = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(0))
    whole = base.decode(latents)
    decode = vae._decode

    def small(z: torch.Tensor, **settings: Any) -> Any:
        if not vae.use_tiling and z.shape[-1] > 8:
            raise torch.OutOfMemoryError("full")
        return decode(z, **settings)

    vae._decode = small
    with collecting() as notes:
        tiled = base.decode(latents)
    assert tiled.shape == whole.shape and float((tiled - whole).abs().mean()) < 0.2
    assert len(notes) == 1 and "decoded in tiles" in notes[0] and not vae.use_tiling

    def never(z: torch.Tensor, **settings: Any) -> Any:
        raise CPU_FULL

    vae._decode = never
    with pytest.raises(RuntimeError, match="allocate") as raised:
        base.decode(latents[..., :8, :8])
    assert is_out_of_memory(raised.value)


def test_batch_sizes() -> None:
    sizes = BatchSizes()
    assert sizes.at_most(100, 4) == 4
    sizes.did_not_fit(100, 4)
    assert [sizes.at_most(load, 4) for load in (99, 100, 101)] == [4, 2, 2]
    sizes.did_not_fit(100, 2)
    sizes.did_not_fit(50, 4)
    assert [sizes.at_most(load, 8) for load in (49, 50, 99, 100, 1_000)] == [8, 2, 2, 1, 1]
    sizes.did_not_fit(10, 1)
    assert sizes.at_most(10, 4) == 1


@pytest.mark.parametrize(("gigabytes", "most"), [(64, 4), (0.0, 1)])
@pytest.mark.parametrize("memory", ["auto", "fast"])
def test_an_engine_draws_as_many_at_once_as_fit(
    monkeypatch: pytest.MonkeyPatch, gigabytes: float, most: int, memory: str
) -> None:
    monkeypatch.setattr(needs, "host_memory", lambda: (int(gigabytes * 1e9), 0))
    base = load_base("embedded", device="cpu", memory=memory)
    assert base.images_at_once == most
    engine = Engine(base)
    assert engine.batch_size == most
    engine.bank.detach()
    assert Engine(base, batch_size=3).batch_size == 3


@pytest.mark.parametrize(
    ("free", "mode", "images"), [(1.0, "fast", 4), (0.5, "fast", 2), (0.3, "fast", 1), (1.0, "offload", 4)]
)
def test_how_many_fit_a_card(
    base: StableDiffusion, monkeypatch: pytest.MonkeyPatch, free: float, mode: str, images: int
) -> None:
    four, two, one = (needs.drawing_bytes(base, needs.MODES[mode], 4096, n) for n in (4, 2, 1))
    monkeypatch.setattr(base, "device", torch.device("cuda"))
    share = {1.0: four, 0.5: two, 0.3: one - 1}[free]
    monkeypatch.setattr(needs, "free_memory", lambda _: int(share / needs.SPARE) + 1)  # pyright: ignore[reportUnknownLambdaType]
    choice = needs.choose_for_drawing(base, mode=mode)
    assert (choice.mode, choice.pictures) == (mode, images)
