"""Drawing with inpainting bases, against diffusers' own pipelines."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_inpaint as sd
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl_inpaint as sdxl
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

from lorastyle.adapters import Adapter, AdapterWarning, LowRank, load_adapter, save_adapter
from lorastyle.bases import StableDiffusion, open_pipeline
from lorastyle.errors import AdapterError, ConfigError
from lorastyle.generate import AdapterUse, Engine, GenerateRequest, Picture
from lorastyle.generate.canvas import load_canvas, strength_for
from lorastyle.generate.sampling import Start, denoise
from lorastyle.generate.schedulers import build_scheduler
from tests.tiny import inpainting, tiny_pipeline, tiny_xl_pipeline, watched

REQUEST = GenerateRequest("a cat", negative_prompt="rain", seed=7, steps=6)
MAKE: dict[str, Callable[..., Any]] = {"sd": tiny_pipeline, "sdxl": tiny_xl_pipeline}


def pixels(picture: Picture) -> npt.NDArray[Any]:
    return np.asarray(picture.image).astype(int)


def differ(one: Picture, other: Picture) -> float:
    return float(np.abs(pixels(one) - pixels(other)).max())


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def nine(request: pytest.FixtureRequest) -> StableDiffusion:
    family = str(request.param)
    return open_pipeline(inpainting(MAKE[family](in_channels=9)), name="nine", dtype=torch.float32)


@pytest.fixture
def engine(nine: StableDiffusion) -> Generator[Engine]:
    made = Engine(nine)
    yield made
    made.bank.detach()


@pytest.fixture
def mask(tmp_path: Path) -> str:
    """Not along the latents' cells, and soft at one edge."""
    picture = Image.new("L", (64, 64), 0)
    ImageDraw.Draw(picture).rectangle((27, 5, 63, 44), fill=255)
    ImageDraw.Draw(picture).rectangle((20, 5, 26, 44), fill=150)
    ImageDraw.Draw(picture).rectangle((10, 5, 19, 44), fill=100)
    picture.save(tmp_path / "mask.png")
    return str(tmp_path / "mask.png")


@pytest.fixture
def certain(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers draws latents of the masked picture by chance; here they are the mean, as ours are."""

    def mean(encoded: Any, generator: object = None, sample_mode: str = "sample") -> Tensor:
        return encoded.latent_dist.mode()

    for module in (sd, sdxl):
        monkeypatch.setattr(module, "retrieve_latents", mean)


def theirs(base: StableDiffusion, request: GenerateRequest, mask: Image.Image) -> Tensor:
    """Latents that diffusers draws for the same request, (n, c, h, w).

    The picture is given as a contiguous tensor: of one in channels_last the autoencoder makes sums in another
    order, and its norms enlarge what that changes where the picture is all grey (to 1e-4).
    """
    assert request.init is not None
    picture = torch.from_numpy(np.array(Image.open(request.init))).permute(2, 0, 1)[None] / 255
    scheduler = build_scheduler(request.scheduler, base.pipe.scheduler)
    pipe = type(base.pipe)(**{**base.pipe.components, "scheduler": scheduler}, **MORE[type(base.pipe)])
    pipe.set_progress_bar_config(disable=True)
    seeds = range(request.seed or 0, (request.seed or 0) + request.number)
    return pipe(
        [request.prompt] * request.number,
        negative_prompt=[request.negative_prompt] * request.number,
        image=picture.contiguous(),
        mask_image=mask,
        height=64,
        width=64,
        strength=request.strength or base.inpainting_strength,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance or base.guidance,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="latent",
    ).images


MORE: dict[type[Any], dict[str, Any]] = {
    sd.StableDiffusionInpaintPipeline: {"requires_safety_checker": False},
    sdxl.StableDiffusionXLInpaintPipeline: {"add_watermarker": False},
}


@pytest.fixture
def latents(nine: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What the engine decodes."""
    seen: list[Tensor] = []
    decode = nine.decode

    def watch(some: Tensor) -> Tensor:
        seen.append(some)
        return decode(some)

    monkeypatch.setattr(nine, "decode", watch)
    return seen


@pytest.mark.usefixtures("certain")
@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpm++ 2m", "euler a"])
@pytest.mark.parametrize(("guidance", "strength"), [(5.0, 1.0), (1.0, 1.0), (5.0, 0.5)])
def test_it_draws_what_the_pipeline_draws(
    nine: StableDiffusion,
    engine: Engine,
    latents: list[Tensor],
    init: str,
    mask: str,
    scheduler: str,
    guidance: float,
    strength: float,
) -> None:
    request = replace(
        REQUEST, init=init, mask=mask, scheduler=scheduler, guidance=guidance, strength=strength, number=2
    )
    engine.generate(request)
    shown = Image.open(mask)
    torch.testing.assert_close(latents[0], theirs(nine, request, shown), atol=1e-4, rtol=0)
    turned = theirs(nine, request, ImageOps.invert(shown))
    assert (latents[0] - turned).abs().max() > 1e-2
    assert (latents[0][0] - latents[0][1]).abs().max() > 1e-2


@pytest.mark.usefixtures("certain")
def test_without_a_picture_all_of_a_grey_one_is_drawn(
    nine: StableDiffusion, engine: Engine, latents: list[Tensor], tmp_path: Path
) -> None:
    """As A1111 does, and as the pipeline does with a white mask, whatever lies under it."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "any.png")
    engine.generate(REQUEST)
    request = replace(REQUEST, init=str(tmp_path / "any.png"), strength=1.0)
    white, black = Image.new("L", (64, 64), 255), Image.new("L", (64, 64), 0)
    torch.testing.assert_close(latents[0], theirs(nine, request, white), atol=1e-4, rtol=0)
    assert (latents[0] - theirs(nine, request, black)).abs().max() > 1e-2


@pytest.mark.usefixtures("certain")
def test_image_to_image_without_a_mask(
    nine: StableDiffusion, engine: Engine, latents: list[Tensor], init: str
) -> None:
    drawn = engine.generate(replace(REQUEST, init=init))[0]
    assert drawn.request.strength == 0.6
    white = Image.new("L", (64, 64), 255)
    torch.testing.assert_close(latents[0], theirs(nine, drawn.request, white), atol=1e-4, rtol=0)
    other = engine.generate(REQUEST)[0]
    assert differ(drawn, other) > 5


def test_a_mask_is_filled_whole_unless_asked_otherwise(
    nine: StableDiffusion, engine: Engine, init: str, mask: str
) -> None:
    request = replace(REQUEST, init=init, mask=mask, steps=10)
    own = nine.inpainting_strength
    assert engine.generate(request)[0].request.strength == own
    assert strength_for(replace(request, strength=0.3), nine) == 0.3
    assert strength_for(replace(request, steps=4), nine) == 1.0  # 0.99 of them would be three
    assert strength_for(replace(request, mask=None), nine) == 0.6
    assert strength_for(replace(request, mask=None, init=None), nine) is None
    four = StableDiffusion(tiny_pipeline(), name="four", dtype=torch.float32)
    assert strength_for(request, four) == 0.6
    assert engine.generate(replace(request, steps=1))[0].request.strength == 1.0
    with pytest.raises(ConfigError, match=r"strength is 0\.6 of 1 steps"):
        Engine(four).generate(replace(request, steps=1))


def test_what_the_mask_leaves_out_stays_pixel_by_pixel(engine: Engine, init: str, mask: str) -> None:
    request = replace(REQUEST, init=init, mask=mask, number=2)
    before = np.asarray(Image.open(init)).astype(int)
    drawn = engine.generate(request)
    for picture in drawn:
        assert np.array_equal(pixels(picture)[46:], before[46:])
        assert np.array_equal(pixels(picture)[:, :10], before[:, :10])
        assert np.abs(pixels(picture)[8:40, 32:] - before[8:40, 32:]).mean() > 5
    assert differ(drawn[0], drawn[1]) > 5
    again = engine.generate(drawn[1].request)[0]
    assert differ(again, drawn[1]) <= 2


def test_the_hires_pass_reads_the_mask_at_its_own_size(
    nine: StableDiffusion, engine: Engine, init: str, mask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor | None] = []
    predict = nine.predict

    def watch(*given: Any, concat: Tensor | None = None) -> Tensor:
        seen.append(concat)
        return predict(*given, concat=concat)

    monkeypatch.setattr(nine, "predict", watch)
    request = replace(REQUEST, init=init, mask=mask, hires=1.5)
    large = engine.generate(request)[0]
    assert large.image.size == (96, 96)
    canvas = load_canvas(replace(request, width=64, height=64))
    assert canvas is not None
    small, larger = canvas.start(nine, 1.0).concat, canvas.resized((96, 96)).start(nine, 1.0).concat
    assert small is not None and larger is not None and larger.shape == (1, 5, 12, 12)
    first = [x for x in seen if x is not None and x.shape[-1] == 8]
    second = [x for x in seen if x is not None and x.shape[-1] == 12]
    assert (len(first), len(second)) == (6, 2)
    assert all(torch.equal(x, small) for x in first) and all(torch.equal(x, larger) for x in second)
    assert len(first) + len(second) == len(seen)
    before = np.asarray(Image.open(init).resize((96, 96))).astype(int)
    assert np.array_equal(pixels(large)[69:], before[69:])
    wide = engine.generate(replace(request, width=96, height=64))[0]
    assert wide.image.size == (144, 96)
    seen.clear()
    engine.generate(replace(REQUEST, hires=1.5))
    last = seen[-1]
    assert last is not None and last.shape == (1, 5, 12, 12) and bool((last[:, 0] == 1).all())


def test_a_mask_darker_than_middle_grey_still_draws(engine: Engine, init: str, tmp_path: Path) -> None:
    """A soft mask is cut at the middle, and one that is nowhere so light at its own."""
    picture = Image.new("L", (64, 64), 0)
    ImageDraw.Draw(picture).rectangle((32, 0, 63, 63), fill=100)
    picture.save(tmp_path / "dark.png")
    canvas = load_canvas(replace(REQUEST, init=init, mask=str(tmp_path / "dark.png"), width=64, height=64))
    assert canvas is not None
    concat = canvas.start(engine.base, 1.0).concat
    assert concat is not None and concat[:, 0].sum() == 32


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_an_adapter_of_the_sibling_acts(family: str, init: str, mask: str, tmp_path: Path) -> None:
    sibling = open_pipeline(MAKE[family](), name="four", family="sd1", dtype=torch.float32)
    base = open_pipeline(inpainting(MAKE[family](in_channels=9)), family="sd1", dtype=torch.float32)
    four, nine = sibling.module_shapes(), base.module_shapes()
    assert {part: {p for p in four[part] if four[part][p] != nine[part][p]} for part in four} == {
        **{part: set[str]() for part in four},
        "unet": {"conv_in"},
    }
    trained = Engine(sibling)
    trained.bank.create("cat", {"unet": tuple(p for p in four["unet"] if p.endswith("to_v"))}, rank=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for factor in trained.bank.parameters("cat"):
            factor.copy_(torch.randn(factor.shape, generator=generator))
    adapter = trained.bank.export("cat", {"lorastyle.base": "sd1"})
    file = save_adapter(adapter, tmp_path / "cat.safetensors", dtype="float32")
    engine = Engine(base)
    request = replace(REQUEST, init=init, mask=mask)
    plain = engine.generate(request)[0]
    assert differ(engine.generate(replace(request, adapters=(AdapterUse(str(file)),)))[0], plain) > 5
    off = replace(request, adapters=(AdapterUse(str(file), 0.0),))
    assert differ(engine.generate(off)[0], plain) == 0


def test_an_adapter_on_the_first_convolution_is_left_out_and_told(
    nine: StableDiffusion, engine: Engine, tmp_path: Path
) -> None:
    conv = LowRank(torch.ones(2, 4, 3, 3), torch.ones(16, 2, 1, 1), 2.0)
    path, shape = next((p, s) for p, s in nine.module_shapes()["unet"].items() if p.endswith("attn1.to_q"))
    query = LowRank(torch.ones(2, shape[1]), torch.ones(shape[0], 2), 2.0)
    only = save_adapter(Adapter("only", {"unet": {"conv_in": conv}}, {}), tmp_path / "only.safetensors")
    both = Adapter("both", {"unet": {"conv_in": conv, path: query}}, {})
    some = save_adapter(both, tmp_path / "both.safetensors")
    with pytest.raises(AdapterError, match=r"conv_in \(file \(16, 4, 3, 3\), model \(16, 9, 3, 3\)\)"):
        engine.generate(replace(REQUEST, adapters=(AdapterUse(str(only)),)))
    with pytest.warns(AdapterWarning, match="1 of 2 modules fit this model; left out: unet conv_in"):
        load_adapter(some, nine.module_shapes())


class TestFourChannels:
    """A base that knows of no mask: the sampling loop keeps what lies outside."""

    @pytest.fixture
    def four(self, base: StableDiffusion) -> Generator[Engine]:
        made = Engine(base)
        yield made
        made.bank.detach()

    @pytest.mark.usefixtures("certain")
    @pytest.mark.parametrize("strength", [0.5, 1.0])
    def test_it_draws_what_the_pipeline_draws(self, init: str, tmp_path: Path, strength: float) -> None:
        """Along the cells, where both see the same mask."""
        base = StableDiffusion(inpainting(tiny_pipeline()), dtype=torch.float32)
        shown = Image.new("L", (64, 64), 0)
        ImageDraw.Draw(shown).rectangle((24, 8, 63, 47), fill=255)
        shown.save(tmp_path / "cells.png")
        request = replace(REQUEST, init=init, mask=str(tmp_path / "cells.png"), strength=strength)
        canvas = load_canvas(replace(request, width=64, height=64))
        assert canvas is not None
        scheduler = build_scheduler(None, base.pipe.scheduler)
        ours = denoise(
            base,
            *base.read(["a cat"], ["rain"]),
            scheduler,
            [torch.Generator().manual_seed(7)],
            (64, 64),
            steps=6,
            guidance=base.guidance,
            start=canvas.start(base, strength),
        )
        torch.testing.assert_close(ours, theirs(base, request, shown), atol=1e-4, rtol=0)
        assert (ours - theirs(base, request, ImageOps.invert(shown))).abs().max() > 1e-2

    def test_the_unet_reads_latents_alone(self, four: Engine, init: str, mask: str) -> None:
        with watched(four.base.pipe.unet) as seen:
            four.generate(replace(REQUEST, init=init, mask=mask, hires=1.5))
        assert {x.shape[1] for x in seen} == {4}

    def test_the_hires_pass_keeps_the_picture_in_the_loop(
        self, four: Engine, init: str, mask: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[Tensor] = []
        decode = four.base.decode

        def watch(some: Tensor) -> Tensor:
            seen.append(some)
            return decode(some)

        monkeypatch.setattr(four.base, "decode", watch)
        request = replace(REQUEST, init=init, mask=mask, hires=2, number=2)
        drawn = four.generate(request)
        canvas = load_canvas(replace(request, width=64, height=64))
        assert canvas is not None
        own = canvas.resized((128, 128)).start(four.base, 1.0)
        assert own.mask is not None
        outside = (own.mask == 0).expand_as(seen[0])
        kept = own.latents.expand_as(seen[0])
        assert torch.equal(seen[0][outside], kept[outside]) and bool(outside.any())
        assert (seen[0][~outside] - kept[~outside]).abs().max() > 0.1
        before = np.asarray(Image.open(init).resize((128, 128))).astype(int)
        assert np.array_equal(pixels(drawn[0])[92:], before[92:])
        seen.clear()
        four.generate(replace(request, mask=None))
        assert (seen[0][outside] - kept[outside]).abs().max() > 0.1  # without a mask nothing is

    def test_image_to_image_hires_draws_as_ever(self, four: Engine, init: str) -> None:
        """What the second pass starts from, by hand."""
        request = replace(REQUEST, init=init, strength=0.5, hires=1.5, hires_strength=0.5)
        drawn = four.generate(request)[0]
        base, canvas = four.base, load_canvas(replace(request, width=64, height=64))
        assert canvas is not None
        words = base.read(["a cat"], ["rain"])
        generators = [torch.Generator().manual_seed(7)]

        def run(size: tuple[int, int], start: Start) -> Tensor:
            scheduler = build_scheduler(None, base.pipe.scheduler)
            return denoise(
                base, *words, scheduler, generators, size, steps=6, guidance=base.guidance, start=start
            )

        first = run((64, 64), canvas.start(base, 0.5))
        enlarged = torch.nn.functional.interpolate(first, size=(12, 12), mode="bicubic", antialias=True)
        second = base.decode(run((96, 96), Start(enlarged, 0.5)))[0]
        expected = ((second / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(int)
        assert np.array_equal(pixels(drawn), expected)
