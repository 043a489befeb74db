"""Bases of the Hub, from a stand-in on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
import torch

from lorastyle.bases import load_base, peek_family
from lorastyle.bases.hub import fetch
from lorastyle.bases.hub_files import needed_files
from lorastyle.errors import BaseError
from lorastyle.hub import split_hub_id
from tests.stand_in import TOKEN, StandIn, point_at, stand_in
from tests.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def served() -> Generator[StandIn]:
    with stand_in() as hub:
        yield hub


@pytest.fixture
def hub(served: StandIn, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A Hub with one model, "someone/tiny", and a cache that is empty."""
    point_at(served, tmp_path, monkeypatch)
    served.models = {"someone/tiny": copy}
    return served


def test_a_model_is_downloaded_once_and_then_needs_no_network(
    hub: StandIn, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_base("someone/tiny", device="cpu")
    assert first.name == "someone/tiny"
    own = load_base(str(copy), device="cpu")
    for mine, theirs in zip(own.pipe.unet.parameters(), first.pipe.unet.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    asked = len(hub.asked)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    load_base("someone/tiny", device="cpu")
    assert len(hub.asked) == asked > 0


def test_only_what_drawing_needs_is_downloaded(hub: StandIn, copy: Path) -> None:
    shutil.copytree(copy / "vae", copy / "safety_checker")
    (copy / "v1-5-pruned.safetensors").write_bytes(b"a checkpoint of all parts")
    (copy / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    (copy / "unet" / "diffusion_pytorch_model.non_ema.safetensors").write_bytes(b"not averaged")
    fetch("someone/tiny", None, "someone/tiny")
    assert {file for file in hub.sent() if file.endswith((".bin", ".safetensors"))} == {
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }


def test_half_precision_is_taken_where_every_part_has_it(hub: StandIn, copy: Path) -> None:
    tiny_pipeline().to(torch.float16).save_pretrained(copy, variant="fp16")
    base = load_base("someone/tiny", device="cpu")
    assert base.pipe.unet.dtype == torch.float32
    assert all(".fp16" in file for file in hub.sent() if file.endswith(".safetensors"))


def test_half_precision_of_one_part_alone_is_left() -> None:
    parts = ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"]
    files = ["model_index.json", *(f"{part}.safetensors" for part in parts)]
    assert needed_files([*files, f"{parts[0]}.fp16.safetensors"], "a/b") == sorted(files)
    every = [*files, *(f"{part}.fp16.safetensors" for part in parts)]
    assert [file for file in needed_files(every, "a/b") if ".fp16" not in file] == ["model_index.json"]


def test_an_index_of_shards_comes_with_its_shards() -> None:
    name = "unet/diffusion_pytorch_model"
    files = [
        "model_index.json",
        f"{name}-00001-of-00002.safetensors",
        f"{name}-00002-of-00002.safetensors",
        f"{name}.safetensors.index.json",
    ]
    other = [f"{name}.bin.index.json", f"{name}.safetensors.index.fp16.json"]
    assert needed_files([*files, *other], "a/b") == sorted(files)


def test_a_download_that_broke_off_goes_on(hub: StandIn) -> None:
    hub.breaks.add("unet/diffusion_pytorch_model.safetensors")
    with pytest.raises(BaseError, match=r"Hub cannot be reached.*try again"):
        load_base("someone/tiny", device="cpu")
    hub.breaks.clear()
    before = len(hub.sent())
    load_base("someone/tiny", device="cpu")
    assert "unet/diffusion_pytorch_model.safetensors" in hub.sent()[before:]
    assert "vae/diffusion_pytorch_model.safetensors" not in hub.sent()[before:]


def test_what_another_program_left_half_is_made_whole(hub: StandIn) -> None:
    from huggingface_hub import HfApi

    HfApi().snapshot_download("someone/tiny", allow_patterns=["*.json", "*.txt"])
    load_base("someone/tiny", device="cpu")


def test_a_token_opens_what_is_gated_or_private(hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated.add("someone/tiny")
    with pytest.raises(
        BaseError, match=r"gated\. Accept its terms on its page \(.*/someone/tiny\), then `hf"
    ):
        load_base("someone/tiny")
    hub.gated.clear()
    hub.private.add("someone/tiny")
    with pytest.raises(BaseError, match=r"no such public model.*for a private one, `hf auth login`"):
        load_base("someone/tiny")
    assert hub.sent() == []
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    load_base("someone/tiny", device="cpu")


def test_a_revision(hub: StandIn) -> None:
    assert load_base("someone/tiny@main", device="cpu").name == "someone/tiny@main"
    with pytest.raises(BaseError, match=r'has no revision "mian"\. It has main\. Did you mean "main"\?'):
        load_base("someone/tiny@mian")


def test_a_model_that_is_not_there(hub: StandIn) -> None:
    with pytest.raises(BaseError, match=r'The base "someone/tinny" is no folder here.*no such public model'):
        load_base("someone/tinny")


@pytest.mark.parametrize("below", ["", "cache"])
def test_a_cache_that_cannot_be_written(
    hub: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file" / below))
    with pytest.raises(BaseError, match=r"its cache cannot be used \(.*file.*\)\. Let HF_HOME name"):
        load_base("someone/tiny", device="cpu")


def test_a_repository_with_single_files_says_how_to_use_one(hub: StandIn, copy: Path) -> None:
    shutil.rmtree(copy)
    copy.mkdir()
    (copy / "dream.safetensors").write_bytes(b"")
    with pytest.raises(BaseError, match=r"`hf download someone/tiny dream\.safetensors`, then name that"):
        load_base("someone/tiny")


def test_pickles_are_not_downloaded(hub: StandIn, copy: Path) -> None:
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(
        BaseError, match=r"in unet/ on the Hub, only unet/diffusion_pytorch_model\.bin: pickles"
    ):
        load_base("someone/tiny")
    assert hub.sent() == []


def test_a_full_disk_is_told_before_the_download(hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        free = 10

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Full)  # pyright: ignore[reportUnknownLambdaType]
    with pytest.raises(
        BaseError, match=r"is a download of 0\.0 GB, and .* has 0\.0 GB left\. Free some disk space"
    ):
        load_base("someone/tiny")
    assert hub.sent() == []


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a/b", ("a/b", None)),
        ("a/b@v1.0", ("a/b", "v1.0")),
        ("a/b@refs/pr/3", ("a/b", "refs/pr/3")),
        ("a/b.safetensors", None),
        ("a/b/c", None),
        ("../b", None),
        ("a/b@", None),
        ("a", None),
    ],
)
def test_what_is_a_hub_id(name: str, parts: tuple[str, str | None] | None) -> None:
    assert split_hub_id(name) == parts


def test_the_family_of_a_cached_model_is_known_at_once(hub: StandIn) -> None:
    assert peek_family("someone/tiny") is None
    fetch("someone/tiny", None, "someone/tiny")
    asked = len(hub.asked)
    assert peek_family("someone/tiny") == peek_family("someone/tiny@main") == load_base("someone/tiny").family
    assert len(hub.asked) == asked
