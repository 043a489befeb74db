"""Files that are no pictures this project reads: what they are, and what to do with them."""

from __future__ import annotations

from pathlib import Path

_HEIC = "a HEIC photo, as phones take them: open it and export it as JPEG"
_VECTOR = "a drawing made of shapes, not pixels: export it as PNG, 512 pixels or more a side"
_RAW = "a camera's raw file: develop it and export it as JPEG or PNG"
_PROJECT = "a paint program's own file: open it there and export it as PNG"
_VIDEO = "a video: save single frames as PNG"
_ARCHIVE = "an archive: unpack it"
_OTHER = "a picture in a format that is not read: save it as PNG"

_BY_SUFFIX = {
    **dict.fromkeys((".heic", ".heif"), _HEIC),
    **dict.fromkeys((".svg", ".svgz", ".ai", ".eps", ".pdf"), _VECTOR),
    **dict.fromkeys(
        (".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw"), _RAW
    ),
    **dict.fromkeys(
        (".psd", ".psb", ".xcf", ".kra", ".clip", ".procreate", ".afphoto", ".aseprite"), _PROJECT
    ),
    **dict.fromkeys((".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi"), _VIDEO),
    **dict.fromkeys((".zip", ".rar", ".7z", ".tar", ".gz"), _ARCHIVE),
    **dict.fromkeys((".part", ".crdownload", ".download", ".tmp"), "an unfinished download: fetch it again"),
    **dict.fromkeys((".jxl", ".jp2", ".j2k", ".tga", ".ico", ".exr", ".hdr", ".ppm", ".dds"), _OTHER),
}
_BY_START = (
    (b"%PDF", _VECTOR),
    (b"%!PS", _VECTOR),
    (b"8BPS", _PROJECT),
    (b"PK\x03\x04", _ARCHIVE),
    (b"\xff\x0a", _OTHER),  # JPEG XL
    (b"\x00\x00\x00\x0cJXL ", _OTHER),
    (b"\x1aE\xdf\xa3", _VIDEO),
)
_BY_BRAND = {  # of the ISO container that phones and cameras use
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), _HEIC),
    **dict.fromkeys((b"avif", b"avis"), _OTHER),
}


def why_not_read(path: Path) -> str | None:
    """The reason and the remedy for a file with this ending; None where the ending says nothing."""
    return _BY_SUFFIX.get(path.suffix.lower())


def what_it_is(data: bytes) -> str:
    """What a file with a picture's name holds instead."""
    start = data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    what = next((what for magic, what in _BY_START if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        what = _BY_BRAND.get(data[8:12], _VIDEO)
    elif start.startswith((b"<!doctype html", b"<html")):
        what = "a web page that was saved instead of the picture: download the picture itself"
    elif b"<svg" in start:
        what = _VECTOR
    return f"{what} (its name says otherwise)" if what else "not a picture, whatever its name says"
