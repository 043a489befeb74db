"""Pictures that are made to fill the memory of whoever opens them."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from lorastyle.pictures import Unusable, open_picture

_MOST = 12_000_000  # bytes; the pictures themselves have 64 x 64 pixels


def block(entries: int, claim: int, size: int, start: bytes = b"II*\0") -> bytes:
    """A directory of entries that all claim the same `claim` bytes, in `size` bytes."""
    head = start + struct.pack("<I", 8) + struct.pack("<H", entries)
    lines = b"".join(struct.pack("<HHII", 0x9000 + i, 7, claim, 8) for i in range(entries))
    return (head + lines + bytes(4)).ljust(size, b"x")


def saved(kind: str, **options: object) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(data, kind, **options)
    return data.getvalue()


def jpeg(exif: bytes, mark: bytes = b"\xff\xe1", name: bytes = b"Exif\0\0", *, inner: bool = False) -> bytes:
    """In as many segments as it takes."""
    exif = inside(exif) if inner else exif
    plain, parts = saved("JPEG"), [exif[i : i + 65_000] for i in range(0, len(exif), 65_000)]
    segments = (mark + struct.pack(">H", len(name) + len(part) + 2) + name + part for part in parts)
    return plain[:2] + b"".join(segments) + plain[2:]


def png(kind: bytes, data: bytes) -> bytes:
    plain = saved("PNG")
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return plain[:33] + chunk + plain[33:]


def in_text(exif: bytes) -> bytes:
    """As ImageMagick writes it."""
    return png(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n1\n" + exif.hex().encode()))


def tiff(exif: bytes) -> bytes:
    """A TIFF whose first directory is that of `exif`, followed by its own."""
    plain = saved("TIFF")
    moved = struct.pack("<H", struct.unpack("<H", exif[8:10])[0]) + exif[10:]
    return plain[:4] + struct.pack("<I", len(plain)) + plain[8:] + moved


def webp(exif: bytes) -> bytes:
    return saved("WEBP", exif=b"Exif\0\0" + exif)


def avif(exif: bytes) -> bytes:
    """Pillow refuses to write it, so it takes the place of a harmless one."""
    plain = saved("AVIF", exif=b"Exif\0\0" + block(1, 8, len(exif)))
    return plain.replace(block(1, 8, len(exif)), exif)


def inside(exif: bytes) -> bytes:
    """A directory whose only entry leads to that of `exif`."""
    outer = struct.pack("<HHHIII", 1, 0x8769, 4, 1, 8, 0)
    return b"II*\0" + struct.pack("<I", len(exif)) + exif[8:] + outer


def peak(open_it: Callable[[], object]) -> int:
    """Bytes at most, while it is done."""
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            open_it()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "make",
    [
        *(jpeg, partial(png, b"eXIf"), in_text, tiff, webp, avif),
        partial(jpeg, mark=b"\xff\xe2", name=b"MPF\0"),
        partial(jpeg, inner=True),
    ],
    ids=["JPEG", "PNG", "PNG text", "TIFF", "WebP", "AVIF", "MPO", "JPEG, inner directory"],
)
def test_exif_that_claims_the_same_bytes_again_and_again(
    tmp_path: Path, make: Callable[[bytes], bytes]
) -> None:
    path, one_segment = tmp_path / "a.png", 60_000
    path.write_bytes(make(block(1000, 50_000, one_segment)))

    def refused() -> None:
        with pytest.raises(Unusable, match="made to fill the memory"):
            open_picture(path)

    assert peak(refused) < _MOST
    path.write_bytes(make(block(1, 50_000, one_segment)))  # the same, and honest
    if make is not tiff and b"MPF" not in path.read_bytes():  # of these two it is the only directory
        assert open_picture(path).image.size == (64, 64)


def test_a_jpeg_of_200_kb_that_pillow_gives_hundreds_of_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(block(2000, 100_000, 190_000)))
    assert path.stat().st_size < 200_000

    def refused() -> None:
        with pytest.raises(Unusable, match="made to fill the memory"):
            open_picture(path)

    def pillow() -> None:
        with Image.open(path) as image:
            image.getexif()

    assert peak(refused) < _MOST < 190_000_000 < peak(pillow)


def test_directories_without_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    plain = saved("TIFF")
    at = len(plain)
    # each is empty, and names the next
    chain = b"".join(struct.pack("<HI", 0, at + 6 * (i + 1)) for i in range(120_000))
    path.write_bytes(plain[:4] + struct.pack("<I", at) + plain[8:] + chain)
    with pytest.raises(Unusable, match="made to fill the memory"):
        open_picture(path)
    path.write_bytes(plain[:4] + struct.pack("<I", at) + plain[8:] + struct.pack("<HI", 0, at))  # a ring
    with pytest.raises(Unusable, match="not a picture"):
        open_picture(path)


def test_photographs_keep_what_cameras_write(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF"):
        exif = Image.Exif()
        exif[0x0112] = 6  # lies on its side
        exif[0x010F] = "maker " * 200
        exif.get_ifd(0x8769)[0x927C] = b"n" * 60_000
        data = io.BytesIO()
        Image.new("RGB", (96, 64)).save(data, kind, exif=exif)
        path = tmp_path / f"a.{kind.lower()}"
        path.write_bytes(data.getvalue())
        assert open_picture(path).image.size == (64, 96), kind
