"""The texts in a PNG, JPEG or WebP, found without decoding the picture.

The file is walked part by part, and only parts that may hold settings are read, up to a bound. Pillow would
find them too, but reads more than it must: a JPEG of 200 KB can make it take a gigabyte for EXIF data that
nobody asked for.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from lorastyle.errors import PictureError, shortened

from .exif import read_exif

Source = str | os.PathLike[str] | bytes | BinaryIO

MAX_TEXT = 256 * 1024  # letters of a text
_MAX_BYTES = 4 * MAX_TEXT  # of a part of the file, or of a text unpacked: UTF-8 has up to 4 bytes a letter
_MOST_PARTS = 100_000
_READ = ("lorastyle", "parameters", "invokeai_metadata")
_NOTICED = ("prompt", "workflow", "sd-metadata", "Dream", "dream", "DgenerateConfig", "Comment", "Software")
_PNG = b"\x89PNG\r\n\x1a\n"


def read_texts(source: Source) -> dict[str, str]:
    """The texts in a picture that tools keep settings in, by the keyword that a PNG has for them.

    Raises:
        PictureError: no such file, none of the three kinds, damaged, or a text that is far too long.
    """
    with _opened(source) as file:
        try:
            texts = _walk(file)
        except OSError as error:
            raise PictureError(f"it cannot be read ({error.strerror or error}).") from error
    for key in _READ:
        if len(texts.get(key, "")) > MAX_TEXT:
            raise _too_long(key, len(texts[key]))
    return texts


def _walk(file: BinaryIO) -> dict[str, str]:
    file.seek(0)
    start = file.read(12)
    walk = next((walk for is_it, walk in _KINDS if is_it(start)), None)
    if walk is None:
        raise PictureError("this is not a PNG, JPEG or WebP; only these carry settings.")
    return walk(file)


def name_of(source: Source) -> str:
    """What a message calls the picture."""
    return str(source) if isinstance(source, (str, os.PathLike)) else "the picture"


@contextmanager
def _opened(source: Source) -> Generator[BinaryIO]:
    if isinstance(source, bytes):
        yield BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        with _open(Path(source)) as file:
            yield file
    else:
        yield source if source.seekable() else BytesIO(source.read())


def _open(path: Path) -> BinaryIO:
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
        file = path.open("rb") if regular else None  # reading a pipe would wait for ever
    except FileNotFoundError as error:
        raise PictureError("no such file.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise PictureError(f"it cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    if file is None:
        raise PictureError("it cannot be read: this is a folder, or no ordinary file.")
    return file


def _png(file: BinaryIO) -> dict[str, str]:
    """Texts of tEXt, zTXt and iTXt chunks, wherever in the file they are; the first of each name."""
    file.seek(len(_PNG))
    texts: dict[str, str] = {}
    for number in range(_MOST_PARTS):
        head = file.read(8)
        if len(head) < 8:  # cut off; what came before is whole
            if not texts:
                raise PictureError("the file is cut off. Download or copy the picture again.")
            break
        length, kind = struct.unpack(">I4s", head)
        if number == 0 and (length, kind) != (13, b"IHDR"):
            raise PictureError("it cannot be read: this is a damaged PNG, without its first part.")
        if kind == b"IEND":
            break
        after = file.tell() + length + 4
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            data = file.read(min(length, _MAX_BYTES))
            key = data[:80].partition(b"\0")[0].decode("latin-1")
            if key in _READ and key not in texts:
                if length > _MAX_BYTES:
                    raise _too_long(key, length)
                if len(data) < length or file.read(4) != zlib.crc32(kind + data).to_bytes(4, "big"):
                    raise PictureError(f"its {key} text is damaged. Download or copy the picture again.")
                texts[key] = _png_text(kind, key, data)
            elif key in _NOTICED:
                texts.setdefault(key, data[len(key) + 1 :][:200].decode("utf-8", "replace").strip("\0"))
        file.seek(after)
    return texts


def _png_text(kind: bytes, key: str, data: bytes) -> str:
    """The text of a chunk: its keyword, flags, and the text, which may be packed."""
    rest = data[len(key) + 1 :]
    if kind == b"tEXt":
        return rest.decode("latin-1")
    if kind == b"zTXt":
        return _unpacked(key, rest[1:]).decode("latin-1")
    packed, rest = rest[:1] == b"\1", rest[2:]
    _language, _, rest = rest.partition(b"\0")
    _translated, _, rest = rest.partition(b"\0")
    return (_unpacked(key, rest) if packed else rest).decode("utf-8", "replace")


def _unpacked(key: str, data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, _MAX_BYTES)
    except zlib.error as error:
        raise PictureError(f"its {key} text cannot be unpacked ({error}).") from error
    if stream.unconsumed_tail:
        raise _too_long(key, len(found))
    return found


def _jpeg(file: BinaryIO) -> dict[str, str]:
    """Texts of the first EXIF segment."""
    file.seek(2)
    for _ in range(_MOST_PARTS):
        marker = file.read(2)
        while marker[1:] == b"\xff":  # fill bytes
            marker = marker[1:] + file.read(1)
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] in (0xD9, 0xDA):  # the end, or pixels
            break
        if marker[1] == 0x01 or 0xD0 <= marker[1] <= 0xD8:  # no length follows
            continue
        length = int.from_bytes(file.read(2), "big") - 2
        if length < 0:
            break
        start = file.tell()
        if marker[1] == 0xE1 and file.read(6) == b"Exif\0\0":
            return read_exif(file.read(max(length - 6, 0)))
        file.seek(start + length)
    return {}


def _webp(file: BinaryIO) -> dict[str, str]:
    """Texts of the EXIF chunk."""
    file.seek(12)
    for _ in range(_MOST_PARTS):
        head = file.read(8)
        if len(head) < 8:
            break
        kind, length = struct.unpack("<4sI", head)
        if kind == b"EXIF":
            if length > 3 * _MAX_BYTES:
                raise _too_long("EXIF", length)
            return read_exif(file.read(length))
        file.seek(length + length % 2, os.SEEK_CUR)
    return {}


def _too_long(key: str, length: int) -> PictureError:
    return PictureError(f"its {shortened(key)} text has {length:,} letters; at most {MAX_TEXT:,} are read.")


_KINDS: tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO], dict[str, str]]], ...] = (
    (lambda start: start.startswith(_PNG), _png),
    (lambda start: start.startswith(b"\xff\xd8\xff"), _jpeg),
    (lambda start: start[:4] == b"RIFF" and start[8:12] == b"WEBP", _webp),
)
