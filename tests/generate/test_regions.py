"""Adapters in parts of a picture: what is outside stays to the pixel, as it is without them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lorastyle.adapters import save_adapter
from lorastyle.batch import expand, read_manifest, resolve
from lorastyle.errors import AdapterError, ConfigError, PictureError
from lorastyle.generate import (
    AdapterUse,
    Engine,
    GenerateRequest,
    portable_request,
    read_request,
    read_settings,
    save_picture,
)
from lorastyle.generate.fields import field_of
from lorastyle.generate.region import Region
from tests.generate.drawn import latents_of

MakeAdapter = Callable[..., Path]
REQUEST = GenerateRequest("a cat", negative_prompt="rain", seed=7, steps=3, guidance=3.0)


def latents(engine: Engine, *uses: AdapterUse, **changes: Any) -> Tensor:
    """(c, h, w) of the first picture."""
    return latents_of(engine, replace(REQUEST, adapters=uses, **changes))[0]


def far(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().mean()) > 0.05


def mask_file(folder: Path, name: str = "mask.png", size: tuple[int, int] = (64, 64)) -> str:
    """White on the left."""
    picture = Image.new("RGB", size, "black")
    picture.paste("white", (0, 0, size[0] // 2, size[1]))
    picture.save(folder / name)
    return str(folder / name)


# ---- how they are written ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("left", Region((0, 0, 0.5, 1))),
        ("Top Left", Region((0, 0, 0.5, 0.5))),
        ("centre", Region((0.25, 0.25, 0.75, 0.75))),
        (" 0, 0.5,.75,1 ~0.1", Region((0, 0.5, 0.75, 1), soft=0.1)),
        ("outside right~1", Region((0.5, 0, 1, 1), outside=True, soft=1.0)),
        ("~/masks/face.PNG", Region(None, "~/masks/face.PNG")),
        ("outside C:\\a b\\face.webp ~0.25", Region(None, "C:\\a b\\face.webp", True, 0.25)),
    ],
)
def test_regions_are_read_and_written(text: str, region: Region) -> None:
    assert Region.parse(text) == region
    assert Region.parse(str(region)) == region
    use = AdapterUse.parse(f"cat:0.8:mask={text}:te=0")
    assert use.region == region and use.te == 0
    assert AdapterUse.parse(str(use)) == use == AdapterUse.from_dict(use.to_dict())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("lefft", 'mean "left"'),
        ("left right", "no part"),
        ("left left", "no part"),
        ("", "no part"),
        ("face", "no part"),
        ("0,0,1", "left, top, right and bottom"),
        ("0,0,1,1.5", "from 0 to 1"),
        ("0,0,nan,1", "from 0 to 1"),
        ("0.5,0,0.5,1", "empty"),
        ("left ~2", "at most 1"),
    ],
)
def test_what_is_no_region_is_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        AdapterUse("cat", mask=text)


def test_fields_are_of_the_pictures_size(tmp_path: Path) -> None:
    size = (32, 64)
    boxes = {"left": (16, 1.0), "0,0,0.001,1": (0, 1.0), "outside left": (0, 0.0)}
    for mask, (column, value) in boxes.items():
        _, field = field_of(AdapterUse("a", mask=mask), size)
        assert field.shape == size and float(field[0, column]) == value and 0 < float(field.mean()) < 1
    _, hard = field_of(AdapterUse("a", mask="left"), size)
    _, soft = field_of(AdapterUse("a", mask="left ~0.5"), size)
    assert torch.equal(hard[0] > 0.5, soft[0] > 0.5) and len(set(soft[0].tolist())) > 8
    use, drawn = field_of(AdapterUse("a", mask=mask_file(tmp_path, size=(640, 320))), size)
    assert torch.allclose(hard, drawn, atol=0.5) and (hard - drawn).abs().mean() < 0.05
    assert use.mask_hash is not None


# ---- what they draw --------------------------------------------------------------------------------------


def test_what_is_outside_is_as_without_and_what_is_inside_is_not(engine: Engine, cat: AdapterUse) -> None:
    bare, whole = latents(engine), latents(engine, cat)
    left = latents(engine, replace(cat, mask="left"))
    assert torch.equal(left[..., 4:], bare[..., 4:])
    assert far(left[..., :4], bare[..., :4])
    assert far(whole[..., 4:], bare[..., 4:])


def test_everywhere_is_as_without_a_region(engine: Engine, cat: AdapterUse) -> None:
    whole = latents(engine, cat)
    torch.testing.assert_close(latents(engine, replace(cat, mask="0,0,1,1")), whole, atol=1e-4, rtol=1e-4)
    assert far(latents(engine, replace(cat, mask="left")), whole)


def test_two_side_by_side(engine: Engine, cat: AdapterUse, dog: AdapterUse) -> None:
    both = latents(engine, replace(cat, mask="left"), replace(dog, mask="right"))
    swapped = latents(engine, replace(cat, mask="right"), replace(dog, mask="left"))
    alone = latents(engine, replace(cat, mask="left"))
    assert far(both[..., :4], swapped[..., :4]) and far(both[..., 4:], swapped[..., 4:])
    assert far(both[..., 4:], alone[..., 4:])


@pytest.mark.parametrize(
    "changes",
    [{"hires": 2.0}, {"hires": 1.5, "scheduler": "euler a"}, {"scheduler": "dpm++ 2m"}, {"guidance": 1.0}],
)
def test_other_ways_of_drawing(engine: Engine, cat: AdapterUse, changes: dict[str, Any]) -> None:
    bare, left = latents(engine, **changes), latents(engine, replace(cat, mask="left"), **changes)
    half = bare.shape[-1] // 2
    assert torch.equal(left[..., half:], bare[..., half:])
    assert far(left[..., :half], bare[..., :half])


def test_within_a_picture_to_start_from(engine: Engine, cat: AdapterUse, init: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"init": init, "strength": 0.7, "mask": mask_file(tmp_path)}
    bare, top = latents(engine, **changes), latents(engine, replace(cat, mask="top"), **changes)
    assert torch.equal(top[:, 4:], bare[:, 4:]) and torch.equal(top[..., 4:], bare[..., 4:])
    assert far(top[:, :4, :4], bare[:, :4, :4])


def test_a_batch_is_as_one_by_one_and_steps_are_counted(engine: Engine, cat: AdapterUse) -> None:
    request = replace(REQUEST, adapters=(replace(cat, mask="left", te=0.5, stop=0.7),), number=2)
    seen: list[tuple[int, int]] = []
    both = engine.generate(request, on_step=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 6) for i in range(1, 7)]
    many = engine.generate_many([request, REQUEST])[0]
    for i, picture in enumerate(both):
        alone = engine.generate(replace(request, seed=7 + i, number=1))[0]
        for other in (alone, many[i]):
            assert np.abs(np.asarray(picture.image).astype(int) - np.asarray(other.image)).max() <= 2
            assert picture.request == other.request


def test_each_part_reads_the_words_by_its_own(engine: Engine, cat: AdapterUse, dog: AdapterUse) -> None:
    """An adapter that changes nothing but the text encoder acts in its part, too."""
    bare = latents(engine)
    only_text = replace(cat, unet=0.0, mask="left")
    left = latents(engine, only_text)
    assert torch.equal(left[..., 4:], bare[..., 4:])
    assert far(left[..., :4], bare[..., :4])
    both = latents(engine, only_text, replace(dog, unet=0.0, mask="right"))
    assert far(both[..., 4:], bare[..., 4:])


# ---- what goes wrong ---------------------------------------------------------------------------------------


def test_masks_that_cannot_be_used(engine: Engine, cat: AdapterUse, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "black").save(tmp_path / "black.png")
    Image.new("RGB", (64, 64), "white").save(tmp_path / "white.png")
    (tmp_path / "text.png").write_text("no picture")
    bare = latents(engine)
    for mask, why in (
        (str(tmp_path / "none.png"), "no such picture"),
        (str(tmp_path / "black.png"), "all black"),
        (f"outside {tmp_path / 'white.png'}", "nothing to act on"),
        ("outside 0,0,1,1", "nothing to act on"),
        (str(tmp_path / "text.png"), "cannot be read"),
        (mask_file(tmp_path, "wide.png", (128, 64)), "128 x 64 pixels, the picture 64 x 64"),
    ):
        with pytest.raises(PictureError, match=why):
            latents(engine, replace(cat, mask=mask))
        assert torch.equal(latents(engine), bare)


def test_what_is_not_low_rank_is_refused(engine: Engine, tmp_path: Path, base: Any) -> None:
    from lorastyle.adapters import Adapter, Difference

    path = "mid_block.attentions.0.proj_in"
    shape = engine.base.module_shapes()["unet"][path]
    dense = Adapter("w", {}, dense={"unet": {path: Difference(weight=torch.ones(shape))}})
    file = save_adapter(dense, tmp_path / "w.safetensors", dtype="float32")
    before = latents(engine, AdapterUse(str(file)))
    with pytest.raises(AdapterError, match="low rank"):
        latents(engine, AdapterUse(str(file), mask="left"))
    assert torch.equal(latents(engine, AdapterUse(str(file))), before)
    assert far(latents(engine), before)


# ---- what is recorded --------------------------------------------------------------------------------------


def test_a_picture_names_its_masks_and_finds_them_by_their_hash(
    engine: Engine, cat: AdapterUse, tmp_path: Path
) -> None:
    mask = mask_file(tmp_path)
    (picture,) = engine.generate(replace(REQUEST, adapters=(replace(cat, mask=f"outside {mask} ~0.1"),)))
    file = tmp_path / "picture.png"
    save_picture(picture, file)
    (kept,) = read_request(file).adapters
    assert kept.mask == "outside mask.png ~0.1" and kept.mask_hash is not None
    assert str(tmp_path) not in file.read_bytes().decode("latin1")
    again, _ = read_settings(file)
    assert again.adapters == () or again.adapters[0].mask == f"outside {mask} ~0.1"
    (use,) = portable_request(picture.request).adapters
    assert use.mask == "outside mask.png ~0.1"


def test_a_missing_mask_is_told(
    engine: Engine, cat: AdapterUse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = Path(mask_file(tmp_path))
    monkeypatch.chdir(tmp_path)
    (picture,) = engine.generate(replace(REQUEST, adapters=(replace(cat, mask=str(mask)),)))
    file = tmp_path / "picture.png"
    save_picture(picture, file)
    found, remarks = read_settings(file)
    assert Path(str(found.adapters[0].mask)).samefile(mask)
    assert not any("mask" in remark for remark in remarks)
    Image.new("RGB", (64, 64), "white").save(mask)  # another file of that name
    found, remarks = read_settings(file)
    assert found.adapters[0].mask is None and found.adapters[0].mask_hash is None
    assert any("confined to the mask 'mask.png'" in remark and "mask=" in remark for remark in remarks)
    kept, _ = read_settings(file, keep_missing=True)
    assert kept.adapters[0].mask == "mask.png"


def test_a_manifest_knows_masks_by_what_is_in_them(cat: AdapterUse, tmp_path: Path) -> None:
    def ids() -> list[str]:
        lines = [{"prompt": "a cat", "seed": 1, "adapters": [f"{cat.name}:1:mask={m}"]} for m in masks]
        (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
        expansion = expand(read_manifest(tmp_path / "m.jsonl"), base="embedded")
        jobs, problems = resolve(expansion.items, tmp_path)
        assert not problems
        assert all("/" in str(job.request.adapters[0].mask) for job in jobs[:2])
        return [job.id for job in jobs]

    mask_file(tmp_path, "one.png")
    (tmp_path / "two.png").write_bytes((tmp_path / "one.png").read_bytes())
    masks = ["one.png", "two.png", "left", "right"]
    before = ids()
    assert before[0] == before[1] and len(set(before)) == 3
    mask_file(tmp_path, "two.png", (32, 32))
    assert ids()[0] == before[0] and ids()[1] != before[1]
