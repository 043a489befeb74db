"""What a file tells: to other programs, to people, and nothing of those who made it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image, PngImagePlugin

from lorastyle.adapters import (
    Adapter,
    Difference,
    Kronecker,
    load_adapter,
    model_hash,
    read_header,
    save_adapter,
    set_metadata,
    thumbnail,
    write_sidecars,
)
from lorastyle.errors import AdapterError, AdapterFileError
from tests.adapters.examples import SHAPES, low_rank, mixed_adapter
from tests.adapters.spellings import xl_adapter

PRIVATE = {
    "ss_tag_frequency": json.dumps({"10_my cat": {"a cat in my kitchen": 10}}),
    "ss_dataset_dirs": json.dumps({"10_my cat": {"n_repeats": 10}}),
    "ss_datasets": json.dumps([{"image_dir": "/home/me/cats"}]),
    "ss_network_args_of_old": json.dumps({"weights": "/home/me/secret/old.safetensors"}),
    "ss_note": r"trained from C:\Users\me\cats",
}
PATHS = {
    "ss_sd_model_name": "/home/me/models/v1-5.safetensors",
    "ss_vae_name": r"D:\models\vae.pt",
    "lorastyle.from": "~/pictures/cat",
}
PUBLIC = {
    "ss_learning_rate": "0.0001",
    "ss_caption_dropout_rate": "0.1",
    "modelspec.description": "A cat; see https://example.org/cats, or ask/answer.",
    "modelspec.license": "CC0 1.0",
    "modelspec.prediction_type": "v",
    "modelspec.thumbnail": "data:image/jpeg;base64,AAAA",
    "ss_resolution": "(512, 512)",
}


def test_captions_folders_and_paths_stay_at_home(tmp_path: Path) -> None:
    adapter = mixed_adapter().with_metadata({**PRIVATE, **PATHS, **PUBLIC})
    metadata = read_header(save_adapter(adapter, tmp_path / "a.safetensors")).metadata
    assert not set(PRIVATE) & set(metadata)
    assert metadata["ss_sd_model_name"] == "v1-5.safetensors" and metadata["ss_vae_name"] == "vae.pt"
    assert metadata["lorastyle.from"] == "cat"
    assert {key: metadata[key] for key in PUBLIC} == PUBLIC
    assert not any("/me/" in value or r"\me" in value or "kitchen" in value for value in metadata.values())
    asked = read_header(save_adapter(adapter, tmp_path / "b.safetensors", private=True)).metadata
    assert {key: asked[key] for key in {**PRIVATE, **PATHS}} == {**PRIVATE, **PATHS}


MINIMUM = ("ss_v2", "ss_base_model_version", "ss_network_module", "ss_network_dim", "ss_network_alpha")


def test_kohyas_minimum_and_modelspecs_musts(tmp_path: Path) -> None:
    metadata = read_header(save_adapter(xl_adapter(), tmp_path / "a.safetensors")).metadata
    assert all(metadata[key] for key in (*MINIMUM, "ss_network_args", "ss_output_name"))
    musts = ("sai_model_spec", "architecture", "implementation", "title", "date", "hash_sha256")
    assert all(metadata[f"modelspec.{key}"] for key in musts)
    assert metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert metadata["modelspec.implementation"] == "https://github.com/Stability-AI/generative-models"
    assert metadata["modelspec.trigger_phrase"] == "zkx"
    dotted = save_adapter(xl_adapter(), tmp_path / "b.safetensors", format="diffusers")
    assert read_header(dotted).metadata["modelspec.implementation"] == "diffusers"


def test_other_algorithms_are_named_as_lycoris_does(tmp_path: Path) -> None:
    parts = {"w1": torch.ones(2, 2), "w2": torch.ones(3, 3)}
    dense = {"unet": {"a": Kronecker(parts=parts, alpha=1.0)}}
    adapter = Adapter("a", {}, {"ss_network_dim": "8"}, dense)
    metadata = read_header(save_adapter(adapter, tmp_path / "a.safetensors")).metadata
    assert metadata["ss_network_module"] == "lycoris.kohya"
    assert json.loads(metadata["ss_network_args"]) == {"algo": "lokr"} and metadata["ss_network_dim"] == "8"
    norm = {"unet": {"n": Difference(weight=torch.ones(4))}}
    beside = Adapter("a", {"unet": {"b": low_rank((6, 6), 3, 1.5)}}, {}, norm)
    metadata = read_header(save_adapter(beside, tmp_path / "b.safetensors")).metadata
    assert metadata["ss_network_module"] == "networks.lora" and metadata["ss_network_dim"] == "3"


# ---- metadata of a file that is there ---------------------------------------------------------------------


def test_metadata_change_and_no_tensor_does(tmp_path: Path) -> None:
    big = Adapter("big", {"unet": {f"m{i}": low_rank((900, 800), 64, 64.0, i) for i in range(8)}})
    path = save_adapter(big, tmp_path / "a.safetensors")
    digest, before = model_hash(path), read_header(path)
    set_metadata(path, {"modelspec.author": "me", "ss_seed": "7", "modelspec.title": None})
    header = read_header(path)
    assert header.metadata["modelspec.author"] == "me" and "modelspec.title" not in header.metadata
    assert model_hash(path) == digest == header.metadata["sshs_model_hash"]
    assert header.tensors == before.tensors
    names = {f"m{i}": (900, 800) for i in range(8)}
    assert load_adapter(path, {"unet": names}).parameters == big.parameters
    plain = safetensors.torch.save(
        safetensors.torch.load_file(path), {k: v for k, v in header.metadata.items() if k.startswith("ss_")}
    )
    expected = hashlib.sha256(plain[0x100000:0x110000]).hexdigest()[:8]
    assert header.metadata["sshs_legacy_hash"] == expected != before.metadata["sshs_legacy_hash"]


def test_metadata_of_strangers_files_change_too(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {"lora_unet_x.lora_up.weight": torch.ones(4, 2), "lora_unet_x.alpha": torch.tensor(2.0).half()}
    safetensors.torch.save_file(tensors, path)
    set_metadata(path, {"note": "ü"})
    again = safetensors.torch.load_file(path)
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())
    assert read_header(path).metadata["note"] == "ü"
    before = path.read_bytes()
    with pytest.raises(AdapterError, match="not text"):
        set_metadata(path, {"note": "\ud800"})
    with pytest.raises(AdapterFileError, match="no such file"):
        set_metadata(tmp_path / "nothing.safetensors", {})
    assert path.read_bytes() == before


# ---- pictures and sidecars --------------------------------------------------------------------------------


def picture() -> Image.Image:
    return Image.linear_gradient("L").resize((600, 400)).convert("RGB")


def test_a_thumbnail_is_small_square_and_silent(tmp_path: Path) -> None:
    with_text = tmp_path / "a.png"
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a cat in my kitchen")
    picture().save(with_text, pnginfo=text)
    with Image.open(with_text) as opened:
        url = thumbnail(opened)
    kind, _, data = url.partition(",")
    assert kind == "data:image/jpeg;base64" and b"kitchen" not in base64.b64decode(data)
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (256, 256)
    assert len(url) < 60_000


def test_sidecars_say_what_a1111_shows(tmp_path: Path) -> None:
    path = save_adapter(mixed_adapter("sticker"), tmp_path / "a.safetensors")
    with_text = picture()
    with_text.info["parameters"] = "a cat in my kitchen"
    written = write_sidecars(path, preview=with_text, weight=0.8, negative="blurry", notes="a note")
    assert written == [tmp_path / "a.json", tmp_path / "a.png"]
    assert json.loads(written[0].read_text("utf-8")) == {
        "description": "sticker",
        "sd version": "SD1",
        "activation text": "zkx",
        "preferred weight": 0.8,
        "negative text": "blurry",
        "notes": "a note",
    }
    with Image.open(written[1]) as shown:
        assert max(shown.size) == 512 and not shown.info.get("parameters")


def test_what_somebody_wrote_stays(tmp_path: Path) -> None:
    path = save_adapter(mixed_adapter("sticker"), tmp_path / "a.safetensors")
    mine = {"activation text": "my word", "notes": "", "stars": 5}
    (tmp_path / "a.json").write_text(json.dumps(mine))
    write_sidecars(path, notes="ours")
    merged = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert merged["activation text"] == "my word" and merged["stars"] == 5
    assert merged["notes"] == "ours" and merged["sd version"] == "SD1"
    for odd in ("[1]", "{", "[" * 100_000):
        (tmp_path / "a.json").write_text(odd)
        with pytest.raises(AdapterFileError, match="Remove it first"):
            write_sidecars(path)
        assert (tmp_path / "a.json").read_text() == odd


def test_a_file_with_a_thumbnail_still_loads(tmp_path: Path) -> None:
    path = save_adapter(mixed_adapter(), tmp_path / "a.safetensors")
    set_metadata(path, {"modelspec.thumbnail": thumbnail(picture())})
    again = load_adapter(path, SHAPES)
    assert again.metadata["modelspec.thumbnail"].startswith("data:image/jpeg")
    kept = save_adapter(again, tmp_path / "b.safetensors")
    assert read_header(kept).metadata["modelspec.thumbnail"] == again.metadata["modelspec.thumbnail"]
