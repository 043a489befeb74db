from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from lorastyle.adapters import read_header, read_info
from lorastyle.errors import AdapterFileError

ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
JSON = json.dumps(ENTRY).encode()


def file_of(header: object | bytes, data: bytes = b"\0" * 8, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def test_reads_what_the_safetensors_library_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {"b": torch.ones(2, 3), "a": torch.ones(4, dtype=torch.bfloat16), "empty": torch.ones(0)}
    safetensors.torch.save_file(tensors, path, {"key": "Wert mit Umlaut: ü"})
    header = read_header(path)
    assert {name: entry.shape for name, entry in header.tensors.items()} == {
        name: tuple(t.shape) for name, t in tensors.items()
    }
    assert header.tensors["a"].dtype == "BF16"
    assert header.metadata == {"key": "Wert mit Umlaut: ü"}


BAD: list[tuple[str, bytes, str]] = [
    ("empty", b"", "file is empty"),
    ("too short", b"abc", "too few"),
    ("bogus length", file_of({"a": ENTRY}, length=2**62), "claims 4,611,686,018,427,387,904 bytes"),
    ("length beyond the cap", file_of({"a": ENTRY}, length=50_000_001), "at most 50,000,000"),
    ("cut in the header", file_of({"a": ENTRY})[:30], "cut short"),
    ("cut in the data", file_of({"a": ENTRY})[:-1], "cut short: 7 of 8 bytes"),
    ("bytes after the end", file_of({"a": ENTRY}) + b"x", "1 bytes follow"),
    ("overlap", file_of({"a": ENTRY, "b": ENTRY}), "overlaps"),
    ("gap", file_of({"a": {**ENTRY, "data_offsets": [8, 16]}}, b"\0" * 16), "gap"),
    ("negative offset", file_of({"a": {**ENTRY, "data_offsets": [-8, 0]}}), "cannot be"),
    ("size and shape differ", file_of({"a": {**ENTRY, "shape": [3]}}), "needs 12 bytes but is given 8"),
    ("bool as a size", file_of({"a": {**ENTRY, "shape": [True, 2]}}), "cannot be"),
    ("unknown type", file_of({"a": {**ENTRY, "dtype": "F3"}}), "'F3'; known are F64"),
    (
        "duplicate key",
        file_of(b'{"a":%s,"a":%s}' % (JSON, JSON)),
        "'a' is there twice",
    ),
    (
        "metadata not text",
        file_of({"__metadata__": {"n": 3}, "a": ENTRY}),
        "'n' is 3; safetensors",
    ),
    ("metadata a list", file_of({"__metadata__": [], "a": ENTRY}), "__metadata__"),
    ("terminal escape as a name", file_of({"\x1b[2J": ENTRY}), "which is no name"),
    ("no description", file_of({"a": 3}), "no description"),
    ("not UTF-8", file_of(b'{"\xff": 3}'), "not valid JSON"),
    ("nested too deep", file_of(b'{"a":' + b"[" * 100_000), "not valid JSON"),
    ("web page", b"<!DOCTYPE html><html>Please log in</html>", "web page"),
    (
        "git lfs pointer",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n",
        "git lfs pull",
    ),
    ("json", b'{"error": "no access to this model"}', "JSON text"),
    ("pickle", pickle.dumps({"a": 1}), "does not open them"),
    ("zip", b"PK\x03\x04" + b"\0" * 40, "does not open them"),
    ("noise", bytes(range(1, 5)) + b"\0" * 60, "not a safetensors file"),
]


@pytest.mark.parametrize(("content", "why"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_damaged_and_foreign_files_are_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    for read in (read_header, read_info):
        with pytest.raises(AdapterFileError) as caught:
            read(path)
        assert why in str(caught.value) and str(path) in str(caught.value)


def test_the_file_those_were_made_of_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(file_of({"a": ENTRY}))
    assert read_header(path).tensors["a"].shape == (2,)


def test_no_pickle_runs(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    mark = tmp_path / "it ran"

    class Bomb:
        def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
            return Path.touch, (mark,)

    torch.save({"a": Bomb()}, path)
    with pytest.raises(AdapterFileError, match=r"Ask for a \.safetensors file"):
        read_header(path)
    assert not mark.exists()
    with path.open("rb") as file:
        torch.load(file, weights_only=False)
    assert mark.exists()  # the bomb was real


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "sticker.safetensors").touch()
    with pytest.raises(AdapterFileError, match=r'no such file. Did you mean "sticker.safetensors"'):
        read_header(tmp_path / "stiker.safetensors")
    with pytest.raises(AdapterFileError, match=r"folder\. Name one of the files in it: sticker.safetensors"):
        read_header(tmp_path)
