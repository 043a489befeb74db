"""Any picture a person may have is opened rightly, or refused with a reason."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from lorastyle.pictures import Unusable, open_picture
from lorastyle.pictures import reading as pictures
from lorastyle.train.pictures import load_pixels, size_notes, square

RED, BLUE, WHITE = (220, 30, 30), (30, 30, 220), (255, 255, 255)


def halves(width: int = 40, height: int = 20) -> Image.Image:
    """Left red, right blue."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def at(image: Image.Image, x: int, y: int) -> tuple[int, int, int]:
    return cast("tuple[int, int, int]", image.getpixel((x, y)))


def near(pixel: tuple[int, ...], colour: tuple[int, int, int], by: int = 40) -> bool:
    return max(abs(a - b) for a, b in zip(pixel, colour, strict=True)) < by


@pytest.mark.parametrize(
    ("orientation", "red_at"), [(1, (5, 10)), (3, (35, 10)), (6, (10, 5)), (8, (10, 35)), (2, (35, 10))]
)
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_exif_orientation_is_obeyed(
    tmp_path: Path, ending: str, orientation: int, red_at: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    halves().save(tmp_path / f"a.{ending}", exif=exif, quality=95)
    opened = open_picture(tmp_path / f"a.{ending}")
    upright = orientation in (1, 2, 3)
    assert opened.image.size == ((40, 20) if upright else (20, 40))
    x, y = red_at
    assert near(at(opened.image, x, y), RED)
    assert near(at(opened.image, opened.image.width - 1 - x, opened.image.height - 1 - y), BLUE)
    assert opened.notes == (() if orientation == 1 else ("turned upright as its EXIF data say",))


def test_damaged_exif_loses_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halves().save(tmp_path / "a.png")

    def broken(image: Image.Image) -> Image.Image:
        raise struct.error("unpack requires a buffer of 2 bytes")

    monkeypatch.setattr(pictures.ImageOps, "exif_transpose", broken)
    assert "EXIF data are damaged" in open_picture(tmp_path / "a.png").notes[0]


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    opened = open_picture(tmp_path / "a.jpg")
    assert opened.image.mode == "RGB" and near(at(opened.image, 5, 5), (255, 0, 0))
    assert opened.notes == ("CMYK without a colour profile: its colours are approximate",)


def test_a_wrong_ending_is_used_and_told(tmp_path: Path) -> None:
    halves().save(tmp_path / "b.jpg", format="PNG")
    opened = open_picture(tmp_path / "b.jpg")
    assert opened.notes == ("a PNG file, in spite of its name",) and at(opened.image, 1, 1) == RED
    halves().save(tmp_path / "C.JPEG", format="JPEG")
    assert open_picture(tmp_path / "C.JPEG").notes == ()


@pytest.mark.parametrize(("value", "grey"), [(0, 0), (200, 1), (32768, 128), (65535, 255)])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, value: int, grey: int) -> None:
    Image.fromarray(np.full((32, 32), value, dtype=np.uint16)).save(tmp_path / "a.png")
    opened = open_picture(tmp_path / "a.png")
    assert at(opened.image, 3, 3) == (grey,) * 3 and opened.notes == ("16 bits made 8",)


@pytest.mark.parametrize(("top", "grey"), [(1.0, 128), (255.0, 128), (4000.0, 128)])
def test_floating_point(tmp_path: Path, top: float, grey: int) -> None:
    values = np.full((32, 32), top / 2, dtype=np.float32)
    values[0, 0] = top
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert near(at(open_picture(tmp_path / "a.tiff").image, 9, 9), (grey, grey, grey), by=2)


@pytest.mark.parametrize(
    ("ending", "mode"),
    [
        *(("png", mode) for mode in ("1", "L", "P", "RGB")),
        *(("tiff", mode) for mode in ("1", "L", "P", "RGB", "CMYK", "LAB")),
        *(("webp", mode) for mode in ("L", "P", "RGB")),
        *(("bmp", mode) for mode in ("1", "L", "P", "RGB")),
        *(("gif", mode) for mode in ("1", "L", "P", "RGB")),
        *(("jpg", mode) for mode in ("1", "L", "RGB", "YCbCr", "CMYK")),
    ],
)
def test_every_mode_a_format_has(tmp_path: Path, ending: str, mode: str) -> None:
    white = (
        Image.new("LAB", (32, 32), (255, 128, 128)) if mode == "LAB" else Image.new("RGB", (32, 32), WHITE)
    )
    white.convert(mode).save(tmp_path / f"a.{ending}")
    assert near(at(open_picture(tmp_path / f"a.{ending}").image, 9, 9), WHITE, by=4)


def test_an_uncompressed_ycbcr_tiff_is_right_or_dropped(tmp_path: Path) -> None:
    # Some builds of Pillow take its three bytes a pixel for four: then it says that the file is cut off.
    Image.new("RGB", (32, 32), RED).convert("YCbCr").save(tmp_path / "a.tiff")
    try:
        assert near(at(open_picture(tmp_path / "a.tiff").image, 9, 9), RED, by=4)
    except Unusable as reason:
        assert "save it again" in str(reason)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_shows_the_background(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (32, 32), (10, 200, 10, 0))  # the hidden colour must not come out
    image.paste((255, 255, 255, 255), (0, 0, 8, 8))
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "a.png")
    for word, colour in (("white", WHITE), ("#ff0000", (255, 0, 0))):
        opened = open_picture(tmp_path / "a.png", word)
        assert at(opened.image, 20, 20) == colour and at(opened.image, 3, 3) == WHITE
        assert opened.notes == (f"transparent: composed on {word}",)


def test_half_transparent_and_one_transparent_colour(tmp_path: Path) -> None:
    Image.new("RGBA", (32, 32), (0, 0, 0, 128)).save(tmp_path / "half.png")
    assert near(at(open_picture(tmp_path / "half.png").image, 3, 3), (127, 127, 127), by=3)
    image = halves()
    image.save(tmp_path / "key.png", transparency=RED)
    opened = open_picture(tmp_path / "key.png", "black")
    assert at(opened.image, 3, 3) == (0, 0, 0) and at(opened.image, 30, 3) == BLUE
    Image.new("RGBA", (32, 32), (9, 9, 9, 255)).save(tmp_path / "opaque.png")
    assert open_picture(tmp_path / "opaque.png").notes == ()


@pytest.mark.parametrize("ending", ["gif", "webp", "apng", "tiff"])
def test_the_first_frame_of_an_animation(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (32, 32), c) for c in (RED, BLUE, WHITE)]
    options = {} if ending == "tiff" else {"format": "PNG" if ending == "apng" else ending.upper()}
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], **options)  # type: ignore[arg-type]
    opened = open_picture(tmp_path / f"a.{ending}")
    assert near(at(opened.image, 5, 5), RED)
    assert opened.notes == (f"the first of 3 {'pages' if ending == 'tiff' else 'frames'}",)


def profile(swap: bool) -> bytes:
    """sRGB's profile, with red and blue exchanged if `swap`: what it changes is plain to see."""
    made = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if swap:
        entries = {bytes(made[o : o + 4]): o for o in range(132, 132 + 12 * made[131], 12)}
        red, blue = entries[b"rXYZ"], entries[b"bXYZ"]
        made[red + 4 : red + 12], made[blue + 4 : blue + 12] = (
            made[blue + 4 : blue + 12],
            made[red + 4 : red + 12],
        )
        made = bytearray(bytes(made).replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be")))
    return bytes(made)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_are_converted_from_their_profile(tmp_path: Path, mode: str) -> None:
    image = halves().quantize(4) if mode == "P" else halves().convert(mode)
    image.save(tmp_path / "plain.png", icc_profile=profile(swap=False))
    image.save(tmp_path / "swapped.png", icc_profile=profile(swap=True))
    plain, swapped = open_picture(tmp_path / "plain.png"), open_picture(tmp_path / "swapped.png")
    assert plain.notes == () and near(at(plain.image, 5, 5), RED)
    assert near(at(swapped.image, 5, 5), BLUE) and near(at(swapped.image, 35, 5), RED)
    assert "Swap" in swapped.notes[0] and swapped.notes[0].endswith("to sRGB")


def test_a_profile_keeps_transparency(tmp_path: Path) -> None:
    image = halves().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 20, 20))
    image.save(tmp_path / "a.png", icc_profile=profile(swap=True))
    opened = open_picture(tmp_path / "a.png")
    assert at(opened.image, 5, 5) == WHITE and near(at(opened.image, 35, 5), RED)


def test_profiles_that_cannot_be_used_are_left_out(tmp_path: Path) -> None:
    halves().save(tmp_path / "broken.png", icc_profile=b"no profile at all" * 20)
    opened = open_picture(tmp_path / "broken.png")
    assert "damaged" in opened.notes[0] and at(opened.image, 5, 5) == RED
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", icc_profile=profile(swap=True))
    opened = open_picture(tmp_path / "cmyk.jpg")
    assert "for other pictures" in opened.notes[0] and near(at(opened.image, 5, 5), (255, 0, 0))
    Image.new("L", (32, 32), 100).save(tmp_path / "grey.png", icc_profile=profile(swap=True))
    assert near(at(open_picture(tmp_path / "grey.png").image, 5, 5), (100, 100, 100), by=60)


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims a size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


def save(image: Image.Image, **options: object) -> Callable[[Path], object]:
    return lambda path: image.save(path, **options)  # type: ignore[arg-type]


def cut(image: Image.Image, keep: float, **options: object) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        image.save(path, **options)  # type: ignore[arg-type]
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])

    return write


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))


Refusal = tuple[str, Callable[[Path], object], str]


def holds(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def link(to: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(to)


ISO = b"\0\0\0\x18ftyp"  # the container of phones' photos and of videos
REFUSED: list[Refusal] = [
    ("empty.png", holds(b""), r"an empty file \(0 bytes\)"),
    ("text.png", holds(b"hello " * 50), "not a picture, whatever its name says"),
    ("page.jpg", holds(b"\n<!DOCTYPE html><html>"), "a web page that was saved instead"),
    ("drawing.png", holds(b'<?xml version="1.0"?><svg/>'), "export it as PNG"),
    ("program.png", holds(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "a drawing made of shapes"),
    ("phone.jpg", holds(ISO + b"heic" + b"\0" * 40), "HEIC photo.*as JPEG"),
    ("film.jpg", holds(ISO + b"isom" + b"\0" * 40), "a video"),
    *(
        (f"cut.{ending}", cut(NOISE, 0.5), "damaged or cut off")
        for ending in ("jpg", "png", "webp", "bmp", "gif")
    ),
    ("cut.tiff", cut(NOISE, 0.5), "damaged or cut off|not a picture"),
    ("header.png", cut(NOISE, 0.005), "damaged or cut off|not a picture"),
    ("tiny.png", save(Image.new("RGB", (15, 99))), "15 x 99 pixels; at least 16 a side are needed"),
    ("long.png", save(Image.new("RGB", (900, 20))), "longer than 8 to 1: crop it"),
    ("clear.png", save(Image.new("RGBA", (32, 32))), "wholly transparent"),
    ("bomb.png", holds(bomb(60_000, 60_000)), "too many pixels"),
    ("large.png", holds(bomb(12_000, 10_001)), "12000 x 10001 pixels; at most 120,000,000 are read"),
    ("missing.png", lambda path: None, "cannot be read"),
    ("dangling.png", link("nowhere.png"), "a link to a file that is not there"),
    ("loop.png", link("loop.png"), "a link to a file that is not there|cannot be read"),
]


@pytest.mark.parametrize(("name", "write", "reason"), REFUSED, ids=[name for name, _, _ in REFUSED])
def test_what_cannot_be_used_says_why(
    tmp_path: Path, name: str, write: Callable[[Path], object], reason: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(Unusable, match=reason):
        open_picture(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(Unusable, match="not an ordinary file"):
        open_picture(tmp_path / "pipe.png")


def test_a_bomb_is_refused_before_a_pixel_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*args: object, **kwargs: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", decode)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    (tmp_path / "a.png").write_bytes(bomb(12_000, 10_001))
    with pytest.raises(Unusable, match="120,000,000"):
        open_picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(bomb(100, 100))
    with pytest.raises(Unusable, match="decoded"):
        open_picture(tmp_path / "b.png")


def test_files_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halves().save(tmp_path / "a.png")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(Unusable, match=r"cannot be read \(Permission denied\): change who may read it"):
        open_picture(tmp_path / "a.png")


def test_huge_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halves().save(tmp_path / "a.png")
    monkeypatch.setattr(pictures, "MOST_BYTES", 10)
    with pytest.raises(Unusable, match="are read"):
        open_picture(tmp_path / "a.png")


def test_the_hash_is_of_the_bytes(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.png")
    assert (
        open_picture(tmp_path / "a.png").sha256
        == hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    )


def test_size_notes() -> None:
    assert size_notes((64, 64), 64) == () and size_notes((90, 64), 64) == ()
    assert size_notes((64, 64), 128) == ("smaller than the resolution: enlarged 2.0x",)
    assert size_notes((128, 64), 64) == ("cropped to its middle square, which leaves out 50%",)


def ramp(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))


@pytest.mark.parametrize(("size", "corner"), [((100, 40), (30, 0)), ((40, 100), (0, 30)), ((40, 40), (0, 0))])
def test_the_middle_square(size: tuple[int, int], corner: tuple[int, int]) -> None:
    pixels = square(ramp(*size), 40)
    assert pixels.shape == (40, 40, 3) and pixels.dtype == np.uint8
    assert tuple(pixels[0, 0, :2]) == corner and tuple(pixels[39, 39, :2]) == (corner[0] + 39, corner[1] + 39)
    small = square(ramp(*size), 10)
    assert small.shape == (10, 10, 3)
    assert abs(float(small.mean()) - float(pixels.mean())) < 1


def test_pixels_for_training(tmp_path: Path) -> None:
    halves(64, 32).save(tmp_path / "a.png")
    x = load_pixels(tmp_path / "a.png", 16)
    assert x.shape == (3, 16, 16) and x.dtype == torch.float32 and x.is_contiguous()
    assert torch.allclose(x[:, 8, 1], torch.tensor(RED) / 127.5 - 1, atol=0.05), (
        "the middle keeps both halves"
    )
    assert torch.allclose(x[:, 8, 14], torch.tensor(BLUE) / 127.5 - 1, atol=0.05)
    for shade, value in ((0, -1.0), (255, 1.0)):
        Image.new("L", (32, 32), shade).save(tmp_path / "b.png")
        assert torch.equal(load_pixels(tmp_path / "b.png", 16), torch.full((3, 16, 16), value))


def test_a_transparent_level_of_sixteen_bits(tmp_path: Path) -> None:
    levels = np.full((32, 32), 60_000, dtype=np.uint16)
    levels[:, :16] = 7
    Image.fromarray(levels).save(tmp_path / "a.png", transparency=7)
    opened = open_picture(tmp_path / "a.png", "red")
    assert at(opened.image, 3, 3) == (255, 0, 0) and at(opened.image, 28, 3) == (233,) * 3
    assert any("composed on red" in note for note in opened.notes)


def test_levels_that_are_not_numbers(tmp_path: Path) -> None:
    levels = np.full((32, 32), 0.5, dtype=np.float32)
    levels[3, 3] = np.nan
    Image.fromarray(levels).save(tmp_path / "a.tiff")
    with pytest.raises(Unusable, match="not numbers"):
        open_picture(tmp_path / "a.tiff")
    levels[3, 3] = 0.5
    Image.fromarray(levels).save(tmp_path / "a.tiff")
    assert "32 bits made 8" in open_picture(tmp_path / "a.tiff").notes
