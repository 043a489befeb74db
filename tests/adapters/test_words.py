"""Textual inversions inside an adapter's file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from lorastyle.adapters import load_adapter, load_adapter_report, read_info, save_adapter
from lorastyle.errors import AdapterError, AdapterFileError
from tests.adapters.examples import SHAPES, mixed_adapter


@pytest.mark.parametrize("end", ["string_to_param.*", "emb_params"])
def test_words_are_read_reported_and_kept(tmp_path: Path, end: str) -> None:
    path = save_adapter(mixed_adapter(), tmp_path / "a.safetensors", dtype="float32")
    vectors, first, second = torch.randn(2, 16), torch.randn(3, 16), torch.randn(3, 20)
    tensors = safetensors.torch.load_file(path)
    tensors[f"bundle_emb.zk.x.{end}"] = vectors
    tensors |= {"bundle_emb.xl.clip_l": first, "bundle_emb.xl.clip_g": second}
    safetensors.torch.save_file(tensors, path)
    adapter, report = load_adapter_report(path, SHAPES)
    assert report.complete and set(report.words) == {"xl", "zk.x"}
    assert torch.equal(adapter.words["zk.x"]["text_encoder"], vectors)
    assert torch.equal(adapter.words["xl"]["text_encoder_2"], second)
    assert set(read_info(path).words) == {"xl", "zk.x"} and "words in it:" in read_info(path).describe()
    again = load_adapter(save_adapter(adapter, tmp_path / "b.safetensors", dtype="float32"), SHAPES)
    assert {w: set(v) for w, v in again.words.items()} == {w: set(v) for w, v in adapter.words.items()}
    assert all(torch.equal(again.words[w][c], t) for w, v in adapter.words.items() for c, t in v.items())
    with pytest.raises(AdapterError, match=r"words of its own \(.*\), which the format 'diffusers'"):
        save_adapter(adapter, tmp_path / "c.safetensors", format="diffusers")
    save_adapter(replace(adapter, words={}), tmp_path / "c.safetensors", format="diffusers")


@pytest.mark.parametrize("vectors", [torch.ones(0, 4), torch.ones(1, 2, 3), torch.full((1, 4), torch.nan)])
def test_words_that_are_none(tmp_path: Path, vectors: torch.Tensor) -> None:
    path = save_adapter(mixed_adapter(), tmp_path / "a.safetensors")
    tensors = {**safetensors.torch.load_file(path), "bundle_emb.zk.clip_l": vectors}
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(AdapterFileError, match=r"a\.safetensors: the word 'zk' in it is no list of vectors"):
        load_adapter(path, SHAPES)
