"""`lorastyle convert` and `lorastyle verify`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from lorastyle.adapters import Adapter, LowRank, read_header, read_info, save_adapter, set_metadata
from tests.adapters.examples import low_rank

from .conftest import Said

Run = Callable[..., Said]
TO_Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture
def sdxl(tmp_path: Path) -> Path:
    """A file that is for SDXL by its names."""
    update = low_rank((640, 640), 4, 2.0)
    adapter = Adapter("ink", {"unet": {TO_Q: update}}, {"lorastyle.base": "sdxl"})
    return save_adapter(adapter, tmp_path / "ink.safetensors")


def test_convert_there_and_verify(lorastyle: Run, sdxl: Path, tmp_path: Path) -> None:
    said = lorastyle("convert", sdxl, "dotted.safetensors", "--format", "diffusers", "--dtype", "float32")
    assert said.code == 0 and said.err == ""
    assert said.out.startswith("dotted.safetensors: diffusers names, float32, 1 module, ")
    assert "largest difference of an update before and after: 0; the largest update is" in said.out
    assert read_info(tmp_path / "dotted.safetensors").formats == ("diffusers",)
    assert lorastyle("convert", "dotted.safetensors", "folder", "--format", "peft").code == 0
    for other in ("dotted.safetensors", "folder"):
        same = lorastyle("verify", sdxl, other)
        assert same.code == 0 and same.out.endswith("the same adapter\n")
    changed = Adapter("ink", {"unet": {TO_Q: low_rank((640, 640), 4, 2.1)}}, {"lorastyle.base": "sdxl"})
    save_adapter(changed, tmp_path / "changed.safetensors")
    said = lorastyle("verify", sdxl, "changed.safetensors")
    assert said.code == 1 and said.out.endswith("not the same adapter\n")
    assert f"(at unet {TO_Q})" in said.out and "relative: 0.05" in said.out
    assert lorastyle("verify", sdxl, "changed.safetensors", "--tolerance", "0.1").code == 0


def test_verify_names_what_only_one_has(lorastyle: Run, sdxl: Path, tmp_path: Path) -> None:
    updates: dict[str, LowRank] = {
        TO_Q: low_rank((640, 640), 4, 2.0),
        TO_Q.replace("to_q", "to_k"): low_rank((640, 640), 4, 2.0),
    }
    save_adapter(
        Adapter("more", {"unet": updates}, {"lorastyle.base": "sdxl"}), tmp_path / "more.safetensors"
    )
    said = lorastyle("verify", sdxl, "more.safetensors")
    assert said.code == 1 and f"only in more.safetensors: unet {TO_Q.replace('to_q', 'to_k')}\n" in said.out


def test_an_adapter_of_the_embedded_base_needs_no_name(lorastyle: Run, tmp_path: Path) -> None:
    path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    from lorastyle.bases import load_base

    shape = load_base("embedded").module_shapes()["unet"][path]
    adapter = Adapter(
        "dots", {"unet": {path: low_rank(shape, 2, 2.0)}}, {"lorastyle.base": "lorastyle-icons"}
    )
    save_adapter(adapter, tmp_path / "dots.safetensors")
    assert lorastyle("convert", "dots.safetensors", "out.safetensors", "--format", "diffusers").code == 0


def test_sidecars_and_privacy(lorastyle: Run, sdxl: Path, tmp_path: Path) -> None:
    set_metadata(sdxl, {"ss_tag_frequency": "{}", "lorastyle.trigger": "ink"})
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    assert lorastyle("convert", sdxl, "a.safetensors", "--sidecars", "--preview", "red.png").code == 0
    assert '"activation text": "ink"' in (tmp_path / "a.json").read_text()
    assert (tmp_path / "a.png").is_file()
    metadata = read_header(tmp_path / "a.safetensors").metadata
    assert metadata["modelspec.thumbnail"] and "ss_tag_frequency" not in metadata
    assert lorastyle("convert", sdxl, "b.safetensors", "--keep-private").code == 0
    assert "ss_tag_frequency" in read_header(tmp_path / "b.safetensors").metadata
    assert not (tmp_path / "b.json").exists()
    said = lorastyle("convert", sdxl, "c", "--format", "peft", "--sidecars")
    assert said.code == 1 and "Leave out --sidecars" in said.err
    (tmp_path / "no.png").write_text("Dear reader,")
    said = lorastyle("convert", sdxl, "d.safetensors", "--preview", "no.png")
    assert said.code == 1 and "no.png: " in said.err and not (tmp_path / "d.safetensors").exists()


def test_errors_are_one_sentence(lorastyle: Run, sdxl: Path, tmp_path: Path) -> None:
    odd = Adapter("odd", {"unet": {"a.b": low_rank((8, 6), 2, 2.0)}}, {"lorastyle.base": "homemade"})
    save_adapter(odd, tmp_path / "odd.safetensors")
    said = lorastyle("convert", "odd.safetensors", "out.safetensors")
    assert said.code == 1 and said.err.count("\n") == 1 and "Use --base" in said.err
    said = lorastyle("convert", sdxl, sdxl)
    assert said.code == 1 and "is there already" in said.err
    assert lorastyle("verify", sdxl, "nothing.safetensors").code == 1
    assert lorastyle("convert", sdxl, "out.safetensors", "--format", "onnx").code == 2
