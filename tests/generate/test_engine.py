from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from lorastyle.adapters import load_adapter
from lorastyle.bank import attach
from lorastyle.bases import StableDiffusion
from lorastyle.errors import AdapterError, BaseError, BaseMismatchError, ConfigError
from lorastyle.generate import (
    AdapterUse,
    Engine,
    GenerateRequest,
    Picture,
    portable_request,
    read_request,
    save_picture,
)
from lorastyle.generate.conditioning import rescaled
from lorastyle.generate.levels import to_image
from tests.tiny import tiny_pipeline

MakeAdapter = Callable[..., Path]
REQUEST = GenerateRequest("a cat", negative_prompt="rain", seed=7, steps=3)


def pixels(picture: Picture) -> npt.NDArray[Any]:
    return np.asarray(picture.image)


def same(one: Picture, other: Picture) -> bool:
    return one.image.tobytes() == other.image.tobytes()


def using(path: Path, scale: float = 1.0) -> GenerateRequest:
    return replace(REQUEST, adapters=(AdapterUse(str(path), scale),))


def by_the_pipeline(**options: float) -> npt.NDArray[Any]:
    """REQUEST as diffusers' own pipeline draws it, in 0..1."""
    pipe: Any = tiny_pipeline()
    return pipe(
        "a cat",
        negative_prompt="rain",
        num_inference_steps=3,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(7),
        output_type="np",
        **options,
    ).images[0]


def test_a_picture_is_what_the_pipeline_draws(engine: Engine) -> None:
    ours = engine.generate(REQUEST)[0]
    theirs = by_the_pipeline()
    assert np.abs(pixels(ours).astype(float) - theirs * 255).max() <= 1
    assert np.ptp(pixels(ours)) > 50


@pytest.mark.parametrize("share", [0.0, 0.4, 0.7])
def test_guidance_is_rescaled_as_the_pipeline_and_the_samples_do(engine: Engine, share: float) -> None:
    ours = engine.generate(replace(REQUEST, guidance_rescale=share))[0]
    theirs = by_the_pipeline(guidance_rescale=share)
    assert np.abs(pixels(ours).astype(float) - theirs * 255).max() <= 1
    guided, plain = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    answer = plain + 5 * (guided - plain)
    expected = rescale_noise_cfg(answer, guided, share)
    torch.testing.assert_close(rescaled(answer, guided, share), expected)
    assert share == 0 or not torch.allclose(expected, answer, atol=0.1)


def test_bases_that_end_in_pure_noise_ask_for_rescaling(engine: Engine) -> None:
    pipe = tiny_pipeline()
    assert StableDiffusion(pipe).guidance_rescale == 0
    pipe.scheduler.register_to_config(rescale_betas_zero_snr=True)
    base = StableDiffusion(pipe, name="zero", dtype=torch.float32)
    assert base.guidance_rescale == 0.7
    asked = Engine(base)
    try:
        own, named, none = (
            asked.generate(replace(REQUEST, guidance_rescale=share))[0] for share in (None, 0.7, 0.0)
        )
    finally:
        asked.bank.detach()
    assert same(own, named) and not same(own, none)
    assert own.request.guidance_rescale == 0.7


def test_the_same_request_is_the_same_picture_after_the_file(
    engine: Engine, tmp_path: Path, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = engine.generate(using(make_adapter(), 0.7))[0]
    request = read_request(save_picture(first, tmp_path / "a.png"))
    assert request == portable_request(first.request)
    monkeypatch.chdir(tmp_path)  # a name is looked up here too
    assert same(engine.generate(request)[0], first)
    for change in (
        {"seed": 8},
        {"prompt": "a dog"},
        {"guidance": 2.0},
        {"guidance_rescale": 0.9},
        {"clip_skip": 2},
        {"adapters": ()},
        {"negative_prompt": ""},
    ):
        assert not same(engine.generate(replace(request, **change))[0], first), change  # pyright: ignore


def test_nothing_is_left_open_in_a_pictures_request(engine: Engine, make_adapter: MakeAdapter) -> None:
    request = engine.generate(replace(using(make_adapter()), seed=None, number=2))[1].request
    assert isinstance(request.seed, int)
    assert (request.width, request.height, request.number) == (64, 64, 1)
    assert (request.scheduler, request.base) == ("ddim", "tiny")
    assert len(request.adapters[0].hash or "") == 12


def test_random_seeds_differ(engine: Engine) -> None:
    drawn = [engine.generate(replace(REQUEST, seed=None, steps=1))[0] for _ in range(2)]
    assert drawn[0].request.seed != drawn[1].request.seed
    assert not same(*drawn)


def test_a_batch_is_its_single_pictures(base: StableDiffusion, make_adapter: MakeAdapter) -> None:
    engine = Engine(base, batch_size=4)
    try:
        batch = engine.generate(replace(using(make_adapter(), 0.5), number=5, scheduler="euler a"))
        assert [picture.request.seed for picture in batch] == [7, 8, 9, 10, 11]
        for picture in batch:
            single = engine.generate(picture.request)[0]
            assert np.abs(pixels(single).astype(int) - pixels(picture)).max() <= 1
        assert np.abs(pixels(batch[0]).astype(int) - pixels(batch[1])).max() > 10
    finally:
        engine.bank.detach()


def test_scale_zero_changes_no_bit_and_scale_one_does(engine: Engine, make_adapter: MakeAdapter) -> None:
    path = make_adapter()
    plain = engine.generate(REQUEST)[0]
    assert same(engine.generate(using(path, 0.0))[0], plain)
    assert not same(engine.generate(using(path, 1.0))[0], plain)
    assert same(engine.generate(REQUEST)[0], plain)


def test_adapters_stack(engine: Engine, make_adapter: MakeAdapter) -> None:
    cat, ink = make_adapter("cat"), make_adapter("ink", seed=1)
    both = replace(REQUEST, adapters=(AdapterUse(str(cat)), AdapterUse(str(ink), -0.5)))
    drawn = [engine.generate(request)[0] for request in (both, using(cat), using(ink, -0.5))]
    assert not any(same(drawn[i], drawn[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    swapped = engine.generate(replace(both, adapters=both.adapters[::-1]))[0]
    assert np.abs(pixels(swapped).astype(int) - pixels(drawn[0])).max() <= 1


def test_adapters_of_another_family_are_refused_before_drawing(
    engine: Engine, make_adapter: MakeAdapter
) -> None:
    steps: list[int] = []
    with pytest.raises(BaseMismatchError, match=r"made for Stable Diffusion 1\.x; the base"):
        engine.generate(using(make_adapter(family="sd1")), on_step=lambda done, _: steps.append(done))
    assert steps == []
    assert engine.bank.names == ()


def test_unused_adapters_stay_as_long_as_there_is_room(
    base: StableDiffusion, make_adapter: MakeAdapter
) -> None:
    paths = [make_adapter(name, seed=i) for i, name in enumerate("abc")]
    engine = Engine(base, keep_bytes=2 * paths[0].stat().st_size + 500)
    try:
        for path in paths:
            engine.generate(replace(using(path), steps=1))
        assert engine.bank.names == ("b", "c")
        engine.generate(replace(using(paths[1]), steps=1))
        engine.generate(replace(using(paths[0]), steps=1))
        assert set(engine.bank.names) == {"a", "b"}
    finally:
        engine.bank.detach()


def test_a_file_written_anew_is_read_anew(engine: Engine, make_adapter: MakeAdapter) -> None:
    path = make_adapter(seed=0)
    first = engine.generate(using(path))[0]
    make_adapter(seed=1)
    os.utime(path, ns=(1, 1))
    with pytest.warns(UserWarning, match="the picture will differ"):
        second = engine.generate(first.request)[0]
    assert not same(first, second)
    assert first.request.adapters[0].hash != second.request.adapters[0].hash


def test_two_files_of_one_name(engine: Engine, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Path(shutil.move(make_adapter(seed=1), tmp_path / "other"))
    cat = make_adapter(seed=0)
    both = replace(REQUEST, adapters=(AdapterUse(str(cat)), AdapterUse(str(other))))
    assert not same(engine.generate(both)[0], engine.generate(using(cat))[0])
    assert engine.bank.names == ("cat", "cat-2")


def test_the_same_content_is_attached_once(engine: Engine, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    cat = make_adapter(seed=0)
    copy = Path(shutil.copy(cat, tmp_path / "copy.safetensors"))
    first, second = (engine.generate(using(path))[0] for path in (cat, copy))
    assert same(first, second) and engine.bank.names == ("cat",)
    assert [picture.request.adapters[0].name for picture in (first, second)] == [str(cat), str(copy)]
    with pytest.raises(ConfigError, match="a copy of the other"):
        engine.generate(replace(REQUEST, adapters=(AdapterUse(str(cat)), AdapterUse(str(copy)))))
    make_adapter("copy", seed=1)
    os.utime(copy, ns=(1, 1))
    assert not same(engine.generate(using(copy))[0], first)
    assert engine.bank.names == ("cat", "copy")


def test_one_file_by_two_names_is_an_error(engine: Engine, make_adapter: MakeAdapter) -> None:
    path = make_adapter()
    twice = (AdapterUse(str(path)), AdapterUse(f"{path.parent}/./{path.name}"))
    with pytest.raises(ConfigError, match="are the same file"):
        engine.generate(replace(REQUEST, adapters=twice))


def test_names_are_looked_up(
    engine: Engine, make_adapter: MakeAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, here = tmp_path / "home" / "adapters", tmp_path / "here" / "adapters"
    home.mkdir(parents=True)
    here.mkdir(parents=True)
    monkeypatch.setenv("LORASTYLE_HOME", str(home.parent))
    monkeypatch.chdir(here.parent)
    shutil.move(make_adapter("sticker"), home)
    shutil.move(make_adapter("ink", seed=1), here)
    plain = engine.generate(REQUEST)[0]
    for name in ("sticker", "sticker.safetensors", "ink"):
        assert not same(engine.generate(replace(REQUEST, adapters=(AdapterUse(name),)))[0], plain)
    with pytest.raises(
        AdapterError, match=r'no adapter "stiker" \(weights 0123456789ab\).*ink, sticker.*"sticker"'
    ):
        engine.generate(replace(REQUEST, adapters=(AdapterUse("stiker", hash="0123456789ab"),)))
    with pytest.raises(AdapterError, match=r'no adapter "adapters/inc.safetensors".*mean "ink"'):
        engine.generate(replace(REQUEST, adapters=(AdapterUse("adapters/inc.safetensors"),)))
    with pytest.raises(AdapterError, match="is a folder"):
        engine.generate(replace(REQUEST, adapters=(AdapterUse(str(home)),)))


def test_progress_counts_over_all_batches(base: StableDiffusion) -> None:
    calls: list[tuple[int, int]] = []
    seen: list[int] = []
    engine = Engine(base, batch_size=2)
    pictures = engine.generate(
        replace(REQUEST, number=3),
        on_step=lambda done, total: calls.append((done, total)),
        on_picture=lambda picture: seen.append(len(calls)),
    )
    assert calls == [(i, 6) for i in range(1, 7)]
    assert seen == [3, 3, 6]
    assert len(pictures) == 3


def test_an_interrupted_request_leaves_the_base_as_it_was(base: StableDiffusion, engine: Engine) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    scheduler, before = base.pipe.scheduler, engine.generate(REQUEST)[0]
    with pytest.raises(KeyboardInterrupt):
        engine.generate(replace(REQUEST, scheduler="unipc"), on_step=stop)
    assert base.pipe.scheduler is scheduler
    assert "forward" not in vars(base.pipe.unet)
    assert same(engine.generate(REQUEST)[0], before)


def test_a_negative_is_not_read_without_guidance(engine: Engine) -> None:
    plain, long = (
        engine.generate(replace(REQUEST, guidance=1.0, negative_prompt=text))[0] for text in ("", "a " * 60)
    )
    assert same(plain, long)
    guided = engine.generate(replace(REQUEST, guidance=2.0, negative_prompt="a " * 60))[0]
    assert not same(guided, engine.generate(replace(REQUEST, guidance=2.0, negative_prompt=""))[0])


def test_size_and_guidance_off(engine: Engine) -> None:
    picture = engine.generate(replace(REQUEST, width=96, height=32, guidance=1.0))[0]
    assert picture.image.size == (96, 32)


def test_bfloat16_is_near_float32(base: StableDiffusion, engine: Engine) -> None:
    exact = engine.generate(REQUEST)[0]
    rounded = Engine(StableDiffusion(base.pipe, name="tiny", dtype=torch.bfloat16)).generate(REQUEST)[0]
    assert not same(exact, rounded)
    assert np.abs(pixels(exact).astype(int) - pixels(rounded)).mean() < 4


def test_nan_raises_instead_of_a_black_picture() -> None:
    pipe = tiny_pipeline()
    pipe.unet.conv_out.bias.data.fill_(float("nan"))
    with pytest.raises(BaseError, match="not finite"):
        Engine(StableDiffusion(pipe, dtype=torch.float32)).generate(REQUEST)


def test_another_base_is_an_error(engine: Engine) -> None:
    with pytest.raises(ConfigError, match='"tiny", the request names "embedded"'):
        engine.generate(replace(REQUEST, base="embedded"))


def test_a_second_engine_on_an_attached_base_needs_the_bank(
    engine: Engine, make_adapter: MakeAdapter
) -> None:
    drawn = engine.generate(using(make_adapter()))[0]
    with pytest.raises(AdapterError, match=r"another bank|attached already"):
        Engine(engine.base)
    shared = Engine(engine.base, bank=engine.bank)
    assert same(shared.generate(REQUEST)[0], drawn)  # the bank's own adapters act on every request


def test_attach_works_on_a_pipeline_of_ones_own(make_adapter: MakeAdapter, base: StableDiffusion) -> None:
    pipe: Any = tiny_pipeline()

    def draw() -> npt.NDArray[Any]:
        generator = torch.Generator().manual_seed(0)
        return pipe("a cat", num_inference_steps=2, generator=generator, output_type="np").images

    before = draw()
    bank = attach(pipe)
    bank.add(load_adapter(make_adapter(), base.module_shapes()), scale=1.0)
    assert not np.array_equal(draw(), before)
    bank.detach()
    assert np.array_equal(draw(), before)


def test_threads_share_an_engine(engine: Engine, make_adapter: MakeAdapter) -> None:
    """Each gets the picture of its own request, whoever else draws."""
    paths = [make_adapter(name, seed=i) for i, name in enumerate(("one", "two", "three"))]
    requests = [using(path, 0.5 + i) for i, path in enumerate(paths)]
    alone = [engine.generate(request)[0] for request in requests]
    assert len({pixels(picture).tobytes() for picture in alone}) == 3

    def draw(request: GenerateRequest) -> Picture:
        return engine.generate(request)[0]

    with ThreadPoolExecutor(3) as pool:
        drawn = list(pool.map(draw, requests * 4))
    for i, picture in enumerate(drawn):
        assert same(picture, alone[i % 3])


def test_a_callback_that_draws_is_told_and_not_waited_for(engine: Engine) -> None:
    def again(_: Picture) -> None:
        engine.generate(REQUEST)

    with pytest.raises(ConfigError, match="callback cannot draw"):
        engine.generate(REQUEST, on_picture=again)
    assert len(engine.generate(REQUEST)) == 1, "the engine is free again"


def test_the_pipelines_own_progress_bar_comes_back(base: StableDiffusion, engine: Engine) -> None:
    base.pipe.set_progress_bar_config(disable=False, leave=False)
    try:
        engine.generate(REQUEST)
        assert base.pipe._progress_bar_config == {"disable": False, "leave": False}
    finally:
        del base.pipe._progress_bar_config


def test_levels_are_rounded_not_cut() -> None:
    levels = torch.tensor([0.0, 127.4, 127.6, 254.6]).view(1, 1, 4).expand(3, 1, 4)
    picture = to_image(levels / 127.5 - 1)
    assert [picture.getpixel((x, 0))[0] for x in range(4)] == [0, 127, 128, 255]  # type: ignore[index]
