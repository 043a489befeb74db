from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch

from lorastyle.adapters import read_info, save_adapter
from lorastyle.errors import AdapterFileError
from tests.adapters.examples import UNET, low_rank, mixed_adapter


def saved(tmp_path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    adapter = mixed_adapter("sticker").with_metadata(metadata or {})
    return save_adapter(adapter, tmp_path / "a.safetensors")


def test_everything_a_header_tells(tmp_path: Path) -> None:
    info = read_info(saved(tmp_path, {"lorastyle.recipe": '{"steps": 300}'}))
    adapter = mixed_adapter()
    assert (info.name, info.trigger, info.formats) == ("sticker", "zkx", ("kohya",))
    assert (info.family, info.family_from, info.text_width, info.notes) == ("sd1", "metadata", 768, ())
    assert dict(info.ranks) == {4: 3, 2: 2, 8: 1, 3: 1, 5: 1}
    assert dict(info.alphas) == {4.0: 6, 2.0: 2}  # one for each component
    assert info.parameters == adapter.parameters
    assert info.components["unet"].modules == 6 and info.components["text_encoder"].modules == 2
    assert info.components["unet"].bytes == 2 * info.components["unet"].parameters + 4 * 6
    assert info.dtypes == ("F16",) and info.recipe["lorastyle.recipe"] == '{"steps": 300}'
    assert len(info.hashes["sshs_model_hash"]) == 64
    back = json.loads(json.dumps(info.as_dict()))
    assert back["components"]["unet"]["modules"] == 6 and back["ranks"]["8"] == 1


def test_describe_is_plain_and_safe_to_print(tmp_path: Path) -> None:
    text = read_info(
        saved(tmp_path, {"lorastyle.recipe": "\x1b[2Jboo\nfile: fake", "lorastyle.\x1b[2J": ""})
    ).describe()
    assert "Stable Diffusion 1.x (from metadata)" in text and '"zkx": put it into the prompt' in text
    assert "\x1b" not in text and "\nfile: fake" not in text and "boo file: fake" in text


@pytest.mark.parametrize(("width", "family"), [(768, "sd1"), (1024, "sd2"), (2048, "sdxl"), (384, None)])
def test_the_text_width_tells_the_family(tmp_path: Path, width: int, family: str | None) -> None:
    update = low_rank((24, width), 4, 4.0)
    for stem in (f"lora_unet_{UNET.replace('.', '_')}_attn2_to_k", f"unet.{UNET}.attn2.to_k"):
        down, up = ("lora_down", "lora_up") if "lora_unet" in stem else ("lora_A", "lora_B")
        file = tmp_path / "a.safetensors"
        safetensors.torch.save_file(
            {f"{stem}.{down}.weight": update.down, f"{stem}.{up}.weight": update.up}, file
        )
        info = read_info(file)
        assert info.family == family and info.text_width == width
        assert info.family_from == ("text width" if family else "nothing")
        assert bool(info.notes) == (family is None)
        assert info.alphas == {} and "each equals its rank" in info.describe()


def test_weights_outweigh_metadata_that_disagrees(tmp_path: Path) -> None:
    info = read_info(saved(tmp_path, {"lorastyle.base": "sd2"}))
    assert (info.family, info.family_from) == ("sd1", "text width")
    assert info.notes == ("the metadata says sd2, but the weights are those of Stable Diffusion 1.x",)
    own = read_info(saved(tmp_path, {"lorastyle.base": "lorastyle-icons"}))
    assert (own.family, own.notes) == ("lorastyle-icons", ())


def test_other_algorithms_are_counted_not_hidden(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"lora_unet_x.a1.weight": torch.ones(2, 3)}, file)
    info = read_info(file)
    assert dict(info.unsupported) == {"GLoRA": 1} and "not read:         1 module of GLoRA" in info.describe()
    safetensors.torch.save_file({"weight": torch.ones(2, 3)}, file)
    with pytest.raises(AdapterFileError, match="holds 'weight'"):
        read_info(file)


def test_info_reads_no_weights(tmp_path: Path) -> None:
    """A file with a hole of 26 GB for its tensors: reading them would take minutes, or all of the memory."""
    entries: dict[str, object] = {}
    end = 0
    for i in range(800):
        for key, shape in (("down", [4, 1_000_000]), ("up", [1_000_000, 4])):
            entries[f"lora_unet_m_{i}_to_q.lora_{key}.weight"] = {
                "dtype": "F32", "shape": shape, "data_offsets": [end, end := end + 16_000_000]
            }  # fmt: skip
    header = json.dumps(entries).encode()
    file = tmp_path / "a.safetensors"
    with file.open("wb") as out:
        out.write(len(header).to_bytes(8, "little") + header)
        out.truncate(8 + len(header) + end)
    info = read_info(file)
    assert info.components["unet"].modules == 800 and info.components["unet"].bytes == end > 25e9
    with file.open("r+b") as out:
        out.truncate(8 + len(header) + end - 1)
    with pytest.raises(AdapterFileError):  # how much there is of them is seen, though
        read_info(file)


def test_neither_import_nor_info_needs_torch(tmp_path: Path) -> None:
    code = (
        "import sys; import lorastyle.adapters as a; print(a.read_info(sys.argv[1]).describe());"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules;"
        "a.load_adapter; assert 'torch' in sys.modules;"
        "assert set(a.__all__) <= set(dir(a)); [getattr(a, n) for n in a.__all__]"
    )
    done = subprocess.run([sys.executable, "-c", code, str(saved(tmp_path))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Stable Diffusion 1.x" in done.stdout


def test_a_misspelt_name_is_an_attribute_error() -> None:
    import lorastyle.adapters

    with pytest.raises(AttributeError, match="read_inof"):
        _ = lorastyle.adapters.read_inof  # pyright: ignore


def test_how_sure_the_family_is(tmp_path: Path) -> None:
    assert read_info(saved(tmp_path)).family_sure == "certain"  # metadata and the width of the text agree
    wrong = read_info(saved(tmp_path, {"lorastyle.base": "sdxl"}))
    assert (wrong.family, wrong.family_sure) == ("sd1", "likely")
    update = low_rank((24, 384), 4, 4.0)
    stem = f"lora_unet_{UNET.replace('.', '_')}_attn2_to_k"
    file = tmp_path / "b.safetensors"
    tensors = {f"{stem}.lora_down.weight": update.down, f"{stem}.lora_up.weight": update.up}
    safetensors.torch.save_file(tensors, file)
    assert read_info(file).family_sure == "unknown"
    safetensors.torch.save_file(tensors, file, {"ss_base_model_version": "sdxl_base_v1-0"})
    assert read_info(file).family_sure == "likely"


def test_the_recipe_of_kohyas_trainer_is_told_in_words(tmp_path: Path) -> None:
    told = {"ss_steps": "1200", "ss_unet_lr": "0.0001", "ss_seed": "None", "ss_training_started_at": "1.7e9"}
    info = read_info(saved(tmp_path, told))
    assert dict(info.training) == {
        "steps": "1200",
        "UNet learning rate": "0.0001",
        "trained": "2023-11-14",
    }
    assert "steps 1200; UNet learning rate 0.0001" in info.describe()


def test_tags_of_most_images_stand_in_for_a_trigger(tmp_path: Path) -> None:
    tags = {"10_zkx": {"zkx": 40, "girl": 38, "hat": 4}, "more": {"zkx": 2}, "odd": None}
    adapter = mixed_adapter().with_metadata({"lorastyle.trigger": "", "ss_tag_frequency": json.dumps(tags)})
    file = save_adapter(adapter, tmp_path / "a.safetensors", private=True)
    info = read_info(file)
    assert info.trigger is None and info.tags == ("zkx", "girl")
    assert 'none recorded; most of its images had "zkx", "girl"' in info.describe()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": {"b": "c"}}', "[" * 100_000, '{"a": 1}'])
def test_strange_tags_are_passed_over(tmp_path: Path, text: str) -> None:
    adapter = mixed_adapter().with_metadata({"ss_tag_frequency": text})
    assert read_info(save_adapter(adapter, tmp_path / "a.safetensors", private=True)).tags == ()


def test_what_it_was_made_of_is_told_in_words(tmp_path: Path) -> None:
    parts = [
        {"name": "ink", "scale": 0.8, "hash": "b3f8b78c946e5d53", "blocks": "1,0,1"},
        {"name": "sticker\n\x1b[2J", "scale": 0.5},
        "odd",
    ]
    merged = {"method": "dare", "density": 0.5, "seed": 3, "relative_error": 0.0312, "adapters": parts}
    metadata = {"lorastyle.merged_from": json.dumps(merged), "lorastyle.base": "sd1"}
    path = saved(tmp_path, metadata)
    lines = read_info(path).describe().splitlines()
    (line,) = [line for line in lines if line.startswith("merged from:")]
    assert line.split(": ", 1)[1].strip() == (
        "ink:0.8 on 1,0,1 (b3f8b78c946e) + sticker  [2J:0.5, by dare, density 0.5, seed 3, "
        "3.1% of the norm left out"
    )
    assert not any("lorastyle.merged_from" in line for line in lines)
    told = json.dumps({"tuned": "dreamy", "base": "sd15", "relative_error": 0})
    lines = read_info(saved(tmp_path, {"lorastyle.extracted_from": told})).describe()
    assert "extracted from:   dreamy less sd15\n" in lines


@pytest.mark.parametrize(
    "text", ["[" * 50_000, "7", "{}", '{"adapters": {"a": 1}}', '{"adapters": [1, null]}', "x"]
)
def test_a_record_that_cannot_be_read_is_left_out(tmp_path: Path, text: str) -> None:
    metadata = {"lorastyle.merged_from": text, "lorastyle.extracted_from": text}
    said = read_info(saved(tmp_path, metadata)).describe()
    assert "merged from" not in said and "extracted from" not in said
