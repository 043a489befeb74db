"""What a picture's EXIF data, or a TIFF, would take to read: added up without reading it.

Both are directories of entries, each of which says where its bytes lie. All may say the same place, and
Pillow copies every one, so 200 KB can take a gigabyte. Honest entries lie apart from each other, so together
they are no larger than the file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import suppress

MOST_ENTRIES = 100_000  # in all directories of a file; cameras write hundreds, and TIFF pages a dozen each
_SPARE = 65_536  # bytes that entries may claim twice; some tools share a value between two of them
_TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}  # bytes
_HEADS = {
    b"II*\0": ("<", False), b"MM\0*": (">", False), b"MM*\0": (">", False), b"II\0*": ("<", False),
    b"II+\0": ("<", True), b"MM\0+": (">", True),
}  # fmt: skip
_HEAD = re.compile(b"|".join(map(re.escape, _HEADS)))
_INNER = frozenset({0x8769, 0x8825, 0xA005})  # entries that lead to directories of their own
_MOST_HEADS = 100
_MOST_SEGMENTS = 256  # of EXIF in a JPEG, of 64 KB each; Pillow copies all that came before with every one


class Overdone(Exception):
    """Directories that claim far more than there is."""


def check_before_opening(data: bytes) -> None:
    """Look at all that Pillow reads as soon as it opens a JPEG, TIFF or AVIF.

    Raises:
        Overdone: reading it would take far more memory than the file has bytes, or far too long.
    """
    if data.startswith(b"\xff\xd8"):
        for block in _in_jpeg(data):
            check_block(block)
    elif data[:4] in _HEADS:
        _check(data)
    elif data[4:8] == b"ftyp":  # somewhere in there; what merely looks like a head does no harm
        heads = [found.start() for found in _HEAD.finditer(data)]
        if len(heads) > _MOST_HEADS:
            raise Overdone
        for at in heads:
            _check(data, at)


def check_block(block: bytes) -> None:
    """Look at EXIF data by themselves, with or without `Exif\\0\\0` in front. Raises Overdone."""
    while block.startswith(b"Exif\0\0"):
        block = block[6:]
    _check(block)


def _in_jpeg(data: bytes) -> Iterator[bytes]:
    """EXIF, which is the one after the other of all its segments, and the directory of several pictures."""
    exif, at = list[bytes](), 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:  # Pillow goes on at the next mark, too
            at += 1
            continue
        mark = data[at + 1]
        if mark == 0xDA:  # pixels
            break
        if mark in (0xFF, 0x00, 0x01) or 0xD0 <= mark <= 0xD9:  # no length follows
            at += 1 if mark == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        part = data[at + 4 : at + 2 + length]
        if mark == 0xE1 and part.startswith(b"Exif\0\0"):
            exif.append(part[6:])
            if len(exif) > _MOST_SEGMENTS:
                raise Overdone
        elif mark == 0xE2 and part.startswith(b"MPF\0"):
            yield part[4:]
        at += 2 + max(length, 2)
    yield b"".join(exif)


def _check(data: bytes, start: int = 0) -> None:
    """Follow the directories of the block that begins at `start`, each to the next and to those in it."""
    head = _HEADS.get(data[start : start + 4])
    if head is None:
        return
    order, big = head
    number = struct.Struct(f"{order}{'Q' if big else 'H'}")
    place = struct.Struct(f"{order}{'Q' if big else 'I'}")
    entry = struct.Struct(f"{order}HH{'QQ' if big else 'II'}")
    entries, seen = 0, {0}
    try:
        todo: list[int] = [*place.unpack_from(data, start + (8 if big else 4))]
        while todo:
            at = todo.pop()
            if at in seen or start + at >= len(data):
                continue
            seen.add(at)
            (count,) = number.unpack_from(data, start + at)
            entries += count + 1
            if entries > MOST_ENTRIES:
                raise Overdone
            at += number.size
            todo += _check_claims(data, start, at, count, entry)
            with suppress(struct.error):  # cut short: so is what Pillow finds
                todo += place.unpack_from(data, start + at + count * entry.size)
    except struct.error:
        return


def _check_claims(data: bytes, start: int, at: int, count: int, entry: struct.Struct) -> list[int]:
    """One directory: together its values may not be much larger than the file. Returns where others are."""
    claimed, there, inner = 0, len(data) - start, list[int]()
    for _ in range(count):
        if start + at + entry.size > len(data):
            break
        tag, kind, values, offset = entry.unpack_from(data, start + at)
        length = values * _TYPES.get(kind, 0)
        if tag in _INNER:
            inner.append(offset)
        if length > (entry.size - 4) // 2 and offset < there:
            claimed += min(length, there - offset)
        at += entry.size
    if claimed > there + _SPARE:
        raise Overdone
    return inner
