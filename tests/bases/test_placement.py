"""Parts that wait elsewhere: what moves when, and that everything is back afterwards."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lorastyle.adapters import Adapter, LowRank
from lorastyle.bank import GatedLayer, attach
from lorastyle.bases import MODES, StableDiffusion, load_base
from lorastyle.errors import BaseError, ConfigError
from lorastyle.generate import Engine, GenerateRequest
from lorastyle.train import draw as draw_module
from lorastyle.train.draw import draw
from tests.tiny import tiny_pipeline, tiny_xl_pipeline
from tests.watched import CARD, HOME, watch

REQUEST = GenerateRequest("a cat", seed=3, steps=3, guidance=3.0, number=2)


def plain(xl: bool = False) -> StableDiffusion:
    from lorastyle.bases import open_pipeline

    return open_pipeline(tiny_xl_pipeline() if xl else tiny_pipeline(), name="tiny", dtype=torch.float32)


def update(base: StableDiffusion) -> Adapter:
    generator = torch.Generator().manual_seed(0)
    components = {
        component: {
            path: LowRank(
                torch.randn((2, shape[1]), generator=generator),
                torch.randn((shape[0], 2), generator=generator),
                2.0,
            )
            for path, shape in shapes.items()
            if path.endswith(("to_q", "q_proj"))
        }
        for component, shapes in base.module_shapes().items()
    }
    return Adapter("loud", components, {})


def drawn(base: StableDiffusion, adapted: bool = False, request: GenerateRequest = REQUEST) -> Any:
    engine = Engine(base)
    if adapted:
        engine.bank.add(update(base))
    try:
        return np.stack([np.asarray(picture.image) for picture in engine.generate(request)])
    finally:
        engine.bank.detach()


@pytest.fixture(autouse=True)
def one_thread() -> Generator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("xl", [False, True])
@pytest.mark.parametrize("adapted", [False, True])
def test_offloaded_it_draws_the_same_bits(xl: bool, adapted: bool) -> None:
    watched = watch(plain(xl))
    assert (watched.base.placement.mode, watched.base.placement.settled) == (MODES["offload"], False)
    offloaded = drawn(watched.base, adapted)
    assert np.array_equal(offloaded, drawn(plain(xl), adapted))
    assert not np.array_equal(offloaded, drawn(plain(xl), not adapted)), "the comparison can fail"
    words = ["text_encoder", "text_encoder_2"] if xl else ["text_encoder"]
    assert watched.home()
    assert [name for name, where in watched.moves if where == "cuda"] == [*words, "unet", "vae"]
    assert len(watched.moves) == 2 * (len(words) + 2), "each there and back once, for all steps"


def test_a_part_that_is_called_where_it_waits_is_noticed() -> None:
    watched = watch(plain())
    with pytest.raises(AssertionError, match="unet was called where it waits"):
        watched.base.pipe.unet(torch.zeros(1, 4, 8, 8), 1, torch.zeros(1, 32, 16))


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_everything_is_back_after_an_error(error: type[BaseException]) -> None:
    watched = watch(plain())

    def fail(done: int, total: int) -> None:
        assert watched.at["unet"] == CARD
        raise error

    with pytest.raises(error):
        Engine(watched.base).generate(REQUEST, on_step=fail)
    assert watched.home() and ("unet", "cuda") in watched.moves
    watched.moves.clear()
    assert drawn(watched.base).shape == (2, 64, 64, 3) and watched.home()


def test_a_card_that_is_full_keeps_nothing() -> None:
    watched = watch(plain())
    watched.full = True
    with pytest.raises(torch.OutOfMemoryError):
        drawn(watched.base)
    assert watched.home() and watched.moves == [("text_encoder", "cuda"), ("text_encoder", "cpu")]


def test_blocks_within_one_another_move_nothing_twice() -> None:
    watched = watch(plain())
    with watched.base.placement.using("unet"):
        with watched.base.placement.using("unet", "vae"):
            assert watched.at == {"unet": CARD, "vae": CARD, "text_encoder": HOME}
        assert watched.at == {"unet": CARD, "vae": HOME, "text_encoder": HOME}
        assert watched.moves.count(("unet", "cuda")) == 1
        with watched.base.placement.using("vae"):
            assert watched.at == {"unet": HOME, "vae": CARD, "text_encoder": HOME}, "it works alone"
        assert watched.at["unet"] == CARD
        with pytest.raises(BaseError, match=r"at work \(unet\)"):
            watched.base.placement.arrange("fast")
    assert watched.home()


def test_what_is_on_the_device_never_moves() -> None:
    watched = watch(plain())
    watched.base.placement.arrange("fast")
    assert watched.base.placement.settled and set(watched.at.values()) == {CARD}
    watched.moves.clear()
    drawn(watched.base)
    assert watched.moves == []
    watched.base.placement.arrange("offload")
    assert watched.home()


def test_the_sheets_way_of_drawing_fetches_parts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw_module, "STEPS", 2)
    watched = watch(plain())
    assert len(draw(watched.base, ["a cat"], [0])) == 1
    assert watched.home() and len(watched.moves) == 6


def test_adapters_travel_with_their_layers() -> None:
    base = plain()
    bank = attach(base.components)
    bank.add(update(base))
    base.pipe.unet.to("meta")
    tensors = [*base.pipe.unet.parameters(), *base.pipe.unet.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert sum(name.endswith((".down", ".up")) for name, _ in base.pipe.unet.named_buffers()) > 8
    assert all(
        layer.device.type == "meta" for layer in base.pipe.unet.modules() if isinstance(layer, GatedLayer)
    )


def test_layer_by_layer_it_draws_the_same_bits(saved: Path) -> None:
    base = load_base(str(saved), device="cpu", dtype=torch.float32)
    unet, weights = base.pipe.unet, {n: p.clone() for n, p in base.pipe.unet.named_parameters()}
    expected = drawn(base, adapted=True)
    base.placement.arrange("sequential")
    assert {p.device.type for p in unet.parameters()} == {"meta"}
    assert np.array_equal(drawn(base, adapted=True), expected)
    assert not np.array_equal(drawn(base), expected)
    base.placement.arrange("fast")
    assert all(torch.equal(p, weights[n]) for n, p in unet.named_parameters())
    assert np.array_equal(drawn(base, adapted=True), expected)


def test_layers_are_not_exchanged_beneath_adapters() -> None:
    base = plain()
    with attach(base.components) as bank:
        bank.add(update(base))
        for mode in ("int8", "sequential"):
            with pytest.raises(BaseError, match="Adapters are attached"):
                base.placement.arrange(mode)
        base.placement.arrange("offload")
    base.placement.arrange("int8")
    assert base.placement.mode is MODES["int8"]
    with pytest.raises(BaseError, match="other weights are gone"):
        base.placement.arrange("fast")


def test_a_mode_that_there_is_not(saved: Path) -> None:
    with pytest.raises(ConfigError, match='Did you mean "offload"'):
        load_base(str(saved), device="cpu", memory="ofload")
    with pytest.raises(ConfigError, match="allowed are auto, fast, offload, int8, nf4, sequential"):
        plain().placement.arrange("low")


def test_a_mode_that_rounds_takes_large_pictures_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    base, sides = plain(), list[tuple[bool, int, int]]()
    vae = base.pipe.vae
    before = vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size
    monkeypatch.setattr("lorastyle.bases.stable_diffusion.WHOLE", 64 * 64)

    def note(*_: object) -> None:
        sides.append((vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size))

    vae.post_quant_conv.register_forward_pre_hook(note)
    for mode, side in (("offload", 16), ("int8", 8), ("int8", 16)):
        base.placement.arrange(mode)
        sides.clear()
        assert base.decode(torch.zeros(1, 4, side, side)).shape == (1, 3, 8 * side, 8 * side)
        assert set(sides) == {(True, 512, 64) if (mode, side) == ("int8", 16) else before}
    assert (vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size) == before != (True, 512, 64)
