"""Two texts in EXIF, for JPEG and WebP.

The `parameters` text goes where A1111 and Civitai look for it: UserComment, marked `UNICODE`, in UTF-16.
EXIF leaves its byte order open, and readers disagree: piexif takes the larger byte first, others the order of
the whole block. So that is big-endian, where both are right. lorastyle's JSON is the MakerNote: the field for
a maker's own data, which editors keep as it is and viewers do not show as a caption.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Mapping

from lorastyle.errors import PictureError

_MAKE, _MODEL, _SOFTWARE, _EXIF_IFD = 0x010F, 0x0110, 0x0131, 0x8769
_VERSION, _MAKER_NOTE, _USER_COMMENT = 0x9000, 0x927C, 0x9286
_WANTED = frozenset({_MAKE, _MODEL, _EXIF_IFD, _MAKER_NOTE, _USER_COMMENT})
_BYTE, _ASCII, _LONG, _UNDEFINED, _IFD = 1, 2, 4, 7, 13
_SIZES = {_BYTE: 1, _ASCII: 1, _LONG: 4, _UNDEFINED: 1, _IFD: 4}  # bytes of a value; other types hold no text
_OURS = b"lorastyle\0"
_MOST_ENTRIES = 1000


def write_exif(texts: Mapping[str, str], software: str) -> bytes:
    """EXIF data, with `Exif\\0\\0` in front, of the texts "parameters" and "lorastyle" that are given.

    Written here because Pillow gives UserComment the type of plain bytes, as which piexif, and so A1111, does
    not read it.
    """
    fields = {_VERSION: (_UNDEFINED, b"0232")}
    if "lorastyle" in texts:
        fields[_MAKER_NOTE] = _UNDEFINED, _OURS + texts["lorastyle"].encode()
    if "parameters" in texts:
        fields[_USER_COMMENT] = _UNDEFINED, b"UNICODE\0" + texts["parameters"].encode("utf-16-be")
    name = software.encode("ascii", "replace") + b"\0"
    size = len(_directory({_SOFTWARE: (_ASCII, name), _EXIF_IFD: (_LONG, bytes(4))}, 8))
    main = _directory({_SOFTWARE: (_ASCII, name), _EXIF_IFD: (_LONG, struct.pack(">I", 8 + size))}, 8)
    return b"Exif\0\0MM\0*" + struct.pack(">I", 8) + main + _directory(fields, 8 + size)


def _directory(fields: Mapping[int, tuple[int, bytes]], start: int) -> bytes:
    """One directory of {tag: (type, value)} at the offset `start`, its longer values behind it."""
    entries, values = b"", b""
    for tag, (kind, value) in sorted(fields.items()):
        place = value.ljust(4, b"\0")
        if len(value) > 4:
            place = struct.pack(">I", start + 2 + 12 * len(fields) + 4 + len(values))
            values += value + b"\0" * (len(value) % 2)
        entries += struct.pack(">HHI", tag, kind, len(value) // _SIZES[kind]) + place
    return struct.pack(">H", len(fields)) + entries + bytes(4) + values


def read_exif(data: bytes) -> dict[str, str]:
    """The texts that are there: "parameters", "lorastyle", and what ComfyUI keeps in EXIF.

    Only the fields that hold them are followed. Entries of EXIF may all claim the same bytes, so reading
    everything can take a thousand times the memory of the file.

    Raises:
        PictureError: the block is cut short, or no EXIF.
    """
    data = data.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        raise PictureError("its EXIF data are damaged: they do not begin as EXIF does.")
    try:
        fields = _entries(data, order, struct.unpack_from(f"{order}I", data, 4)[0])
        if _EXIF_IFD in fields:
            fields |= _entries(data, order, struct.unpack(f"{order}I", fields[_EXIF_IFD][:4])[0])
    except struct.error as error:
        raise PictureError("its EXIF data are damaged: they are cut short.") from error
    texts: dict[str, str] = {}
    if fields.get(_MAKER_NOTE, b"").startswith(_OURS):
        texts["lorastyle"] = fields[_MAKER_NOTE][len(_OURS) :].decode("utf-8", "replace")
    if comment := _user_comment(fields.get(_USER_COMMENT, b""), order):
        texts["parameters"] = comment
    for field in (_MAKE, _MODEL):  # ComfyUI writes "prompt:{...}" and "workflow:{...}"
        key, colon, rest = fields.get(field, b"").decode("utf-8", "replace").rstrip("\0").partition(":")
        if colon and key in ("prompt", "workflow") and rest.startswith("{"):
            texts[key] = rest
    return texts


def _entries(data: bytes, order: str, start: int) -> dict[int, bytes]:
    """The wanted fields of one directory, each as bytes that lie inside `data`."""
    fields: dict[int, bytes] = {}
    count = min(struct.unpack_from(f"{order}H", data, start)[0], _MOST_ENTRIES)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", data, at)
        if tag not in _WANTED or kind not in _SIZES or tag in fields:
            continue
        size = number * _SIZES[kind]
        offset = at + 8 if size <= 4 else struct.unpack_from(f"{order}I", data, at + 8)[0]
        if offset + size > len(data):
            raise struct.error
        fields[tag] = data[offset : offset + size]
    return fields


def _user_comment(data: bytes, order: str) -> str:
    """The text of a UserComment, whose first eight bytes name its encoding."""
    mark, text = data[:8], data[8:]
    if mark.rstrip(b"\0") == b"UNICODE":
        return _utf16(text, order).strip("\0")
    if mark.rstrip(b"\0 ") not in (b"ASCII", b""):  # some tools write the text alone
        text = data
    return text.decode("utf-8", "replace").strip("\0")


def _utf16(data: bytes, order: str) -> str:
    """In whichever byte order; some tools even write UTF-8 under the name of UNICODE."""
    for bom, encoding in ((codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF16_LE, "utf-16-le")):
        if data.startswith(bom):
            return data[2:].decode(encoding, "replace")
    high, low = data[0::2].count(0), data[1::2].count(0)  # of ASCII, the larger byte is zero
    if high == low == 0 and _is_utf8(data):
        return data.decode()
    big = high > low if high != low else order == ">"
    return data.decode("utf-16-be" if big else "utf-16-le", "replace")


def _is_utf8(data: bytes) -> bool:
    try:
        return data.decode().isprintable() or b"\n" in data
    except UnicodeDecodeError:
        return False
