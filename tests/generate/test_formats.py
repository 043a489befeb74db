"""Settings in PNG, JPEG and WebP: kept whole, where other tools look, and without a trace of the machine."""

from __future__ import annotations

import os
import random
import struct
import tracemalloc
import zlib
from dataclasses import replace
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops, JpegImagePlugin

from lorastyle.errors import PictureError
from lorastyle.generate import (
    AdapterUse,
    GenerateRequest,
    Picture,
    portable_request,
    read_request,
    read_settings,
    save_picture,
)
from lorastyle.generate.metadata.a1111 import write_parameters
from lorastyle.generate.metadata.containers import read_texts
from lorastyle.generate.metadata.save import MOST_EXIF
from lorastyle.pictures import open_picture

from .pictures import SUFFIXES, chunk, exif, picture, png, png_of, random_request, with_exif

PARAMETERS = "a 猫 🐈\nSteps: 5, Sampler: Euler a, CFG scale: 7, Seed: 3"
READ = GenerateRequest("a 猫 🐈", steps=5, scheduler="euler a", guidance=7.0, seed=3)
COMMENT = 0x9286


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_saved_is_what_is_read(tmp_path: Path, suffix: str) -> None:
    rng = random.Random(suffix)
    requests = [random_request(rng) for _ in range(40)]
    for request in requests:
        path = save_picture(picture(request), tmp_path / f"a{suffix}")
        assert read_request(path) == request
        assert read_request(path.read_bytes()) == request
    assert len({repr(request) for request in requests}) == 40  # they can differ


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_a1111_reads_says_the_same(tmp_path: Path, suffix: str) -> None:
    request = random_request(random.Random(1))
    texts = read_texts(save_picture(picture(request), tmp_path / f"a{suffix}"))
    assert texts["parameters"] == write_parameters(request, version("lorastyle"))


def test_a_webp_is_lossless_and_quality_makes_files_smaller(tmp_path: Path) -> None:
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    drawn = Picture(noise, GenerateRequest("a"))
    exact, small = (save_picture(drawn, tmp_path / "a.webp", quality=q) for q in (None, 40))
    good, bad = (save_picture(drawn, tmp_path / "a.jpeg", quality=q) for q in (None, 40))

    def error(path: Path) -> int:
        with Image.open(path) as saved:
            return int(np.asarray(ImageChops.difference(saved.convert("RGB"), noise)).max())

    assert error(exact) == 0 < error(small) and error(good) < error(bad)
    assert small.stat().st_size < exact.stat().st_size and bad.stat().st_size < good.stat().st_size
    for path in (exact, small, good, bad):
        assert read_request(path) == GenerateRequest("a")


@pytest.mark.parametrize(
    ("name", "quality"), [("a.png", 90), ("a", 90), ("a.jpg", 0), ("a.webp", 101), ("a.jpg", True)]
)
def test_qualities_that_cannot_be(tmp_path: Path, name: str, quality: int) -> None:
    with pytest.raises(PictureError, match=f"quality is {quality}"):
        save_picture(picture(GenerateRequest("a")), tmp_path / name, quality=quality)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_without_metadata_nothing_is_kept(tmp_path: Path, suffix: str) -> None:
    path = save_picture(picture(GenerateRequest("a secret")), tmp_path / f"a{suffix}", metadata=False)
    with Image.open(path) as image:
        assert not {"exif", "parameters", "lorastyle", "xmp", "comment"} & set(image.info)
    assert b"lorastyle" not in path.read_bytes() and b"secret" not in path.read_bytes()
    with pytest.raises(PictureError, match="no request in this picture"):
        read_request(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_who_trains_on_it_is_told_where_it_comes_from(tmp_path: Path, suffix: str) -> None:
    plain, ours = (
        save_picture(picture(READ), tmp_path / f"a{suffix}", metadata=metadata) for metadata in (False, True)
    )
    assert "drawn by lorastyle" in open_picture(ours).notes
    assert open_picture(plain).notes == ()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_path_is_in_a_picture(tmp_path: Path, suffix: str) -> None:
    request = GenerateRequest(
        "a",
        adapters=(
            AdapterUse("/home/zoe/private/cat.safetensors", 1, "0" * 12),
            AdapterUse("C:\\Users\\zoe\\private\\cat.safetensors", 1, "1" * 12),
            AdapterUse("../private/cat", 2),
        ),
        init="/home/zoe/private/photo.png",
        init_hash="2" * 12,
        strength=0.5,
        mask="private/mask.png",
        base="/home/zoe/private/dream.safetensors",
    )
    path = save_picture(picture(request), tmp_path / f"a{suffix}")
    data = path.read_bytes()
    for word in ("zoe", "private", "home", "Users", "/cat"):
        assert word.encode() not in data and word.encode("utf-16-be") not in data
    found = read_request(path)
    assert [use.name for use in found.adapters] == ["cat", "cat-2", "cat-3"]
    assert (found.init, found.mask, found.base) == ("photo.png", "mask.png", "dream.safetensors")
    assert [use.hash for use in found.adapters] == ["0" * 12, "1" * 12, None]
    assert found == portable_request(request) == portable_request(found)


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("embedded", "embedded"),
        ("org/model", "org/model"),
        ("./models/x", "x"),
        ("models/x.safetensors", "x.safetensors"),
        ("C:\\models\\x", "x"),
        ("here/x", "x"),
        ("/", "unnamed"),
    ],
)
def test_bases_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "x").mkdir(parents=True)
    assert portable_request(GenerateRequest("a", base=base)).base == name


def test_exif_is_laid_out_as_piexif_does(tmp_path: Path) -> None:
    """Big-endian, the comment of the type "undefined": piexif, and so A1111, knows it as no other."""
    path = save_picture(picture(READ), tmp_path / "a.jpg")
    with Image.open(path) as image:
        data: Any = image.info["exif"]
        fields = image.getexif().get_ifd(0x8769)
        assert image.getexif()[0x0131].startswith("lorastyle ")
    assert data.startswith(b"Exif\0\0MM\0*")
    assert fields[COMMENT] == b"UNICODE\0" + read_texts(path)["parameters"].encode("utf-16-be")
    at = data.index(struct.pack(">H", COMMENT))
    assert struct.unpack_from(">HI", data, at + 2) == (7, len(fields[COMMENT]))


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + PARAMETERS.encode("utf-16-be"),
        b"UNICODE\0" + PARAMETERS.encode("utf-16-le"),
        b"UNICODE\0" + b"\xfe\xff" + PARAMETERS.encode("utf-16-be"),
        b"UNICODE\0" + b"\xff\xfe" + PARAMETERS.encode("utf-16-le"),
        b"UNICODE\0" + PARAMETERS.encode(),
        b"ASCII\0\0\0" + PARAMETERS.encode(),
        bytes(8) + PARAMETERS.encode() + b"\0\0",
        PARAMETERS.encode(),
    ],
    ids=["be", "le", "be bom", "le bom", "utf-8 as unicode", "ascii", "unmarked", "alone"],
)
def test_comments_of_other_tools(tmp_path: Path, suffix: str, order: str, comment: bytes) -> None:
    path = with_exif(exif({COMMENT: (7, comment)}, order), suffix, tmp_path / f"a{suffix}")
    assert read_settings(path)[0] == READ


def test_a_webp_whose_exif_begins_as_in_a_jpeg(tmp_path: Path) -> None:
    block = b"Exif\0\0" + exif({COMMENT: (7, b"UNICODE\0" + PARAMETERS.encode("utf-16-be"))})
    assert read_settings(with_exif(block, ".webp", tmp_path / "a.webp"))[0] == READ


def test_a_jpeg_has_room_for_64_kb(tmp_path: Path) -> None:
    """Nothing is lost silently: which text was left out is said, and what is there can be read."""
    letters = "".join(chr(code) for code in range(0x4E00, 0x4E00 + 10_000))
    long = GenerateRequest(letters, letters, seed=1)
    with pytest.warns(UserWarning, match="other tools find nothing. A PNG or WebP holds all of it"):
        path = save_picture(picture(long), tmp_path / "a.jpg")
    assert set(read_texts(path)) == {"lorastyle"} and read_request(path) == long

    escaped = replace(long, prompt=letters[:8000] + "\1" * 2000, negative_prompt=letters, guidance=7.0)
    with pytest.warns(UserWarning, match="only what other tools read of it was kept"):
        path = save_picture(picture(escaped), tmp_path / "b.jpg")
    assert set(read_texts(path)) == {"parameters"} and read_request(path) == escaped

    emoji = GenerateRequest("🐈" * 10_000, "🐈" * 10_000)
    with pytest.warns(UserWarning, match="was not saved with the picture"):
        path = save_picture(picture(emoji), tmp_path / "c.jpg")
    with pytest.raises(PictureError, match="no request in this picture"):
        read_request(path)
    for suffix in (".png", ".webp"):
        assert read_request(save_picture(picture(emoji), tmp_path / f"d{suffix}")) == emoji


def test_the_largest_that_fits_a_jpeg(tmp_path: Path) -> None:
    fits = replace(GenerateRequest("a" * 10_000), adapters=(AdapterUse("x"),))
    room = MOST_EXIF - len(_exif_of(save_picture(picture(fits), tmp_path / "a.jpg")))
    each = 4  # bytes of a letter beyond ASCII, half of them in the tag of the other text
    fits = replace(fits, adapters=(AdapterUse("x" + "é" * (room // each)),))
    path = save_picture(picture(fits), tmp_path / "b.jpg")
    assert MOST_EXIF - 6 <= len(_exif_of(path)) <= MOST_EXIF
    assert read_request(path) == fits and "parameters" in read_texts(path)
    more = replace(fits, negative_prompt="abcd")
    with pytest.warns(UserWarning, match="other tools find nothing"):
        assert read_request(save_picture(picture(more), tmp_path / "c.jpg")) == more


def _exif_of(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.info["exif"]


@pytest.mark.parametrize("pixels_first", [False, True])
@pytest.mark.parametrize(
    "part",
    [
        chunk(b"tEXt", b"parameters\0" + PARAMETERS.replace("猫 🐈", "\xe9").encode("latin-1")),
        chunk(
            b"zTXt", b"parameters\0\0" + zlib.compress(PARAMETERS.replace("猫 🐈", "\xe9").encode("latin-1"))
        ),
        chunk(b"iTXt", b"parameters\0\0\0de\0Titel\0" + PARAMETERS.encode()),
        chunk(b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(PARAMETERS.encode())),
    ],
    ids=["tEXt", "zTXt", "iTXt", "iTXt packed"],
)
def test_texts_of_a_png_wherever_they_are(part: bytes, pixels_first: bool) -> None:
    data = png_of(chunk(b"tEXt", b"Comment\0x"), part, pixels_first=pixels_first)
    found = read_settings(BytesIO(data))[0]
    assert replace(found, prompt="") == replace(READ, prompt="") and found.prompt in ("a é", READ.prompt)


def test_the_first_text_of_a_name_is_taken() -> None:
    first, second = (
        chunk(b"tEXt", f"parameters\0{word}\nSteps: 5, CFG scale: 7, Seed: 3".encode()) for word in "ab"
    )
    assert read_settings(png_of(first, second))[0].prompt == "a"


def test_a_jpeg_with_fill_bytes(tmp_path: Path) -> None:
    data = save_picture(picture(READ), tmp_path / "a.jpg").read_bytes()
    assert read_request(data.replace(b"\xff\xe1", b"\xff\xff\xff\xe1", 1)) == READ


def test_colours_of_a_jpeg_are_as_fine_as_its_light(tmp_path: Path) -> None:
    with Image.open(save_picture(picture(READ), tmp_path / "a.jpg")) as image:
        assert JpegImagePlugin.get_sampling(image) == 0


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    path = save_picture(picture(READ), tmp_path / "a.webp")
    assert read_request(path.rename(tmp_path / "a.png")) == READ


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (
            {"prompt": '{"3": {}}', "workflow": "{}"},
            "drawn with ComfyUI, which keeps its settings as a graph",
        ),
        ({"sd-metadata": "{}", "Dream": "a -s 5"}, "drawn with InvokeAI before version 3"),
        ({"Software": "NovelAI", "Comment": "{}"}, "drawn with NovelAI"),
        ({"DgenerateConfig": "x"}, "drawn with dgenerate"),
        ({"parameters": '{"sui_image_params": {"prompt": "a"}}'}, "drawn with SwarmUI"),
        ({"parameters": '{"base_model": "x", "metadata_scheme": "fooocus"}'}, "drawn with Fooocus"),
        ({"Comment": "hello"}, "no request in this picture"),
    ],
)
def test_pictures_of_other_tools_are_named(tmp_path: Path, texts: dict[str, str], why: str) -> None:
    with pytest.raises(PictureError) as caught:
        read_settings(png(tmp_path / "a.png", **texts))
    assert why in str(caught.value)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_comfyui_in_exif(tmp_path: Path, suffix: str) -> None:
    block = exif({0x0110: (2, b'prompt:{"3": {}}\0'), 0x010F: (2, b"workflow:{}\0")})
    with pytest.raises(PictureError, match="drawn with ComfyUI"):
        read_settings(with_exif(block, suffix, tmp_path / f"a{suffix}"))


def test_a_prompt_that_begins_with_a_brace_is_no_json(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", parameters="{red|blue} cat}\nSteps: 5, CFG scale: 7, Seed: 3, RNG: CPU")
    assert read_request(path).prompt == "{red|blue} cat}"


def test_invokeai(tmp_path: Path) -> None:
    text = (
        '{"positive_prompt": "a castle", "negative_prompt": "blur", "cfg_scale": 7, "steps": 9999, '
        '"seed": 42, "width": 512, "height": 520, "scheduler": "dpmpp_2m_k", "loras": ['
        '{"model": {"name": "ink", "hash": "blake3:0"}, "weight": 0.5}, {"lora": {"model_name": "a/b"}}, 3, '
        '{"model": {"name": "x"}, "weight": 1e999}], "model": {"name": "sd-1/dream"}}'
    )
    request, remarks = read_settings(png(tmp_path / "a.png", invokeai_metadata=text), keep_missing=True)
    assert request == GenerateRequest(
        "a castle",
        "blur",
        (AdapterUse("ink", 0.5), AdapterUse("b")),
        seed=42,
        steps=1000,
        guidance=7,
        width=512,
        height=520,
        scheduler="dpm++ 2m karras",
    )
    assert [remark[:28] for remark in remarks[:3]] == [
        "One of its adapters cannot b",
        "One of its adapters cannot b",
        "steps is 9999 in the picture",
    ]
    assert "drawn with the base 'dream'" in "".join(remarks)


def test_reading_takes_no_more_memory_than_the_file(tmp_path: Path) -> None:
    """Entries of EXIF that all claim the same bytes; Pillow takes 5000 times their size."""
    block = struct.pack(">4sIH", b"MM\0*", 8, 5000)
    block += b"".join(struct.pack(">HHII", 0x8000 + i, 7, 60_000, 8) for i in range(5000)) + bytes(4)
    path = with_exif(block + bytes(10), ".webp", tmp_path / "a.webp")
    tracemalloc.start()
    with pytest.raises(PictureError):
        read_settings(path)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_a_file_of_a_million_parts_is_not_walked_for_ever() -> None:
    parts = chunk(b"tEXt", b"parameters\0" + PARAMETERS.encode("latin-1", "replace"))
    few, many = (png_of(chunk(b"abCd", b"") * number, parts) for number in (1000, 1_000_000))
    assert read_settings(few)[0].steps == 5
    with pytest.raises(PictureError, match="no request in this picture"):
        read_settings(many)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (png_of(chunk(b"tEXt", b"parameters\0" + b" " * 2_000_000)), "at most 262,144 are read"),
        (png_of(chunk(b"zTXt", b"parameters\0\0" + zlib.compress(bytes(50_000_000)))), "at most 262,144 are"),
        (png_of(chunk(b"zTXt", b"parameters\0\0not packed")), "cannot be unpacked"),
        (png_of(chunk(b"tEXt", b"lorastyle\0" + b"x" * 99)).replace(b"x" * 99, b"y" * 99), "text is damaged"),
        (png_of(chunk(b"tEXt", b"lorastyle\0" + b"x" * 99))[:100], "text is damaged"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", b""), "without its first part"),
        (b"RIFF\0\0\0\0WEBPEXIF" + struct.pack("<I", 2**32 - 1), "at most 262,144 are read"),
    ],
    ids=["long", "bomb", "not packed", "changed", "cut off", "no header", "long webp"],
)
def test_damaged_and_hostile_parts(data: bytes, why: str) -> None:
    with pytest.raises(PictureError, match=why) as caught:
        read_settings(data)
    assert str(caught.value).startswith("the picture: ") and len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (b"", "do not begin as EXIF does"),
        (b"MM\0*", "are cut short"),
        (b"MM\0*\xff\xff\xff\xff", "are cut short"),
        (exif({COMMENT: (7, b"x" * 99)})[:-1], "are cut short"),
        (exif({COMMENT: (7, b"x" * 99)}).replace(b"\0\0\0\x63", b"\xff\xff\xff\xff"), "are cut short"),
        (exif({COMMENT: (12, b"x" * 99)}), "no request in this picture"),
        (exif({COMMENT: (7, b"")}), "no request in this picture"),
    ],
    ids=["empty", "head", "far offset", "cut off", "huge count", "doubles", "nothing"],
)
@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_damaged_exif(tmp_path: Path, suffix: str, block: bytes, why: str) -> None:
    with pytest.raises(PictureError, match=why):
        read_settings(with_exif(block, suffix, tmp_path / f"a{suffix}"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_picture_that_claims_a_billion_pixels_is_read_all_the_same(tmp_path: Path, suffix: str) -> None:
    """No pixel is decoded, so its settings are no danger."""
    data = bytearray(save_picture(picture(READ), tmp_path / f"a{suffix}").read_bytes())
    at = 24 if suffix == ".webp" else 16 if suffix == ".png" else data.index(b"\xff\xc0") + 5
    data[at : at + 4] = b"\x7f" * 4
    assert read_request(bytes(data)) == read_request(tmp_path / f"a{suffix}")


def test_messages_are_not_wrapped_twice(tmp_path: Path) -> None:
    path = with_exif(b"x", ".jpg", tmp_path / "a.jpg")
    why = "its EXIF data are damaged: they do not begin as EXIF does."
    for source, name in ((path, str(path)), (path.read_bytes(), "the picture")):
        with pytest.raises(PictureError) as caught:
            read_settings(source)
        assert str(caught.value) == f"{name}: {why}"


def test_a_picture_that_is_too_large_for_a_webp(tmp_path: Path) -> None:
    wide = Picture(Image.new("RGB", (16_384, 1)), READ)
    with pytest.raises(PictureError, match=r"Save it as a \.png"):
        save_picture(wide, tmp_path / "a.webp")
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(PictureError, match="no ordinary file"):
        read_settings(tmp_path / "a.png")
    with pytest.raises(PictureError, match="cannot be read"):
        read_settings("a\0.png")
