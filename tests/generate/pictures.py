"""Pictures with settings, whole and odd, for the tests of metadata."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

from PIL import Image, PngImagePlugin

from lorastyle.generate import SCHEDULERS, AdapterUse, GenerateRequest, Picture

SUFFIXES = (".png", ".jpg", ".webp")


def picture(request: GenerateRequest, size: tuple[int, int] = (16, 16)) -> Picture:
    return Picture(Image.new("RGB", size, "red"), request)


def png(path: Path, **texts: str) -> Path:
    """A PNG with iTXt chunks."""
    chunks = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        chunks.add_itxt(key, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=chunks)
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    """One part of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(*parts: bytes, pixels_first: bool = False) -> bytes:
    """A PNG of 1 x 1 with these parts, before or behind its pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\0"))
    body = [pixels, *parts] if pixels_first else [*parts, pixels]
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(body) + chunk(b"IEND", b"")


def exif(fields: dict[int, tuple[int, bytes]], order: str = ">") -> bytes:
    """EXIF of one directory that is its own Exif directory: {tag: (type, value)}."""
    head = b"MM\0*" if order == ">" else b"II*\0"
    every = {**fields, 0x8769: (4, struct.pack(f"{order}I", 8))}
    values, entries, start = b"", b"", 8 + 2 + 12 * len(every) + 4
    for tag, (kind, value) in sorted(every.items()):
        place = value if len(value) <= 4 else struct.pack(f"{order}I", start + len(values))
        values += value if len(value) > 4 else b""
        entries += struct.pack(f"{order}HHI", tag, kind, len(value) // (4 if kind == 4 else 1)) + place.ljust(
            4, b"\0"
        )
    return head + struct.pack(f"{order}IH", 8, len(every)) + entries + bytes(4) + values


def with_exif(data: bytes, suffix: str, path: Path) -> Path:
    """A picture with that EXIF block, whatever it holds."""
    if suffix == ".webp":
        body = (
            b"WEBP"
            + b"VP8X"
            + struct.pack("<I", 10)
            + bytes(10)
            + b"EXIF"
            + struct.pack("<I", len(data))
            + data
        )
        path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body + b"\0" * (len(data) % 2))
    else:
        segment = b"Exif\0\0" + data
        path.write_bytes(b"\xff\xd8\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + b"\xff\xd9")
    return path


_LETTERS = "abc XYZ,.:;\"'\\()[]{}<>\n\t0123456789äßñ猫描く한🐈👩‍🚀\u200d\u202e\u00a0%$#@!/|~`^*-_=+"


def random_text(rng: random.Random, most: int) -> str:
    return "".join(rng.choice(_LETTERS) for _ in range(rng.randint(0, most)))


def random_request(rng: random.Random) -> GenerateRequest:
    """Any request that a picture could have been drawn with, without paths."""

    def maybe(value: object) -> object:
        return value if rng.random() < 0.7 else None

    def digest() -> str:
        return f"{rng.randrange(16**12):012x}"

    init = maybe("début 1.png")
    mask = maybe("mask.png") if init else None
    hires = rng.choice([1.0, 1.5, rng.uniform(1.01, 4)])
    name = "abcdefgh猫é -_.()"
    uses = {"".join(rng.choice(name) for _ in range(8)).strip(" .") or "x" for _ in range(rng.randint(0, 5))}
    return GenerateRequest.from_dict(
        {
            "prompt": random_text(rng, 300),
            "negative_prompt": random_text(rng, 100),
            "adapters": [
                AdapterUse(use, rng.uniform(-3, 3), digest() if rng.random() < 0.8 else None)
                for use in sorted(uses)
            ],
            "seed": maybe(rng.randrange(2**53)),
            "steps": rng.randint(200, 1000),
            "guidance": maybe(rng.uniform(0, 100)),
            "guidance_rescale": maybe(rng.random()),
            "width": maybe(rng.randrange(16, 4097, 8)),
            "height": maybe(rng.randrange(16, 4097, 8)),
            "init": init,
            "init_hash": digest() if init else None,
            "strength": maybe(rng.uniform(0.1, 1)) if init else None,
            "mask": mask,
            "mask_hash": digest() if mask else None,
            "hires": hires,
            "hires_strength": maybe(rng.uniform(0.1, 1)) if hires > 1 else None,
            "clip_skip": rng.randint(1, 12),
            "scheduler": maybe(rng.choice(sorted(SCHEDULERS))),
            "base": rng.choice([None, "embedded", "org/model-1.5", "dream v8.safetensors"]),
            "base_hash": maybe(digest()[:10]),
        }
    )
