"""Strengths that are stated beside the tensors: where they are used, and where they are only told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lorastyle.adapters import (
    AdapterWarning,
    convert_adapter,
    load_adapter,
    read_header,
    read_info,
    save_adapter,
)
from lorastyle.errors import AdapterFileError
from lorastyle.notes import collecting
from tests.adapters.examples import SHAPES, UNET, low_rank, mixed_adapter

TO_Q = f"{UNET}.attn1.to_q"
TEXT = "encoder.layers.0.self_attn.q_proj"
ENDS = {"kohya": ("lora_down", "lora_up"), "dotted": ("lora_A", "lora_B")}
NAMES = {"kohya": f"lora_unet_{TO_Q.replace('.', '_')}", "dotted": f"unet.{TO_Q}"}


def write(path: Path, metadata: dict[str, str], *, form: str = "dotted", alpha: float | None = None) -> Path:
    """A LoRA of rank 4 on one module of the UNet and one of the text encoder."""
    tensors: dict[str, Tensor] = {}
    down, up = ENDS[form]
    text = (
        f"lora_te_text_model_{TEXT.replace('.', '_')}"
        if form == "kohya"
        else f"text_encoder.text_model.{TEXT}"
    )
    for name, shape in ((NAMES[form], (24, 20)), (text, (16, 16))):
        update = low_rank(shape, 4, 4.0)
        tensors |= {f"{name}.{down}.weight": update.down, f"{name}.{up}.weight": update.up}
        if alpha is not None:
            tensors[f"{name}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path, {"lorastyle.base": "sd1", **metadata})
    return path


def load(file: Path) -> object:
    return load_adapter(file, SHAPES)


def scales(path: Path) -> tuple[float, float]:
    """alpha / rank of the UNet's module and the text encoder's."""
    adapter = load_adapter(path, SHAPES)
    return adapter.components["unet"][TO_Q].scale, adapter.components["text_encoder"][TEXT].scale


def config(**values: object) -> dict[str, str]:
    return {"lora_adapter_metadata": json.dumps({key.replace("__", "."): v for key, v in values.items()})}


PLACES: dict[str, tuple[dict[str, str], tuple[float, float]]] = {
    "header, of a component": ({"unet.lora_alpha": "16", "unet.r": "4"}, (4, 1)),
    "header, without a rank": ({"unet.lora_alpha": "2"}, (0.5, 1)),
    "header, of each component": ({"unet.lora_alpha": "2", "text_encoder.lora_alpha": "8.0"}, (0.5, 2)),
    "header, of all": ({"lora_alpha": "2", "r": "4"}, (0.5, 0.5)),
    "header, network_alpha": ({"network_alpha": "2", "network_dim": "4"}, (0.5, 0.5)),
    "header, alpha and rank": ({"alpha": "2", "rank": "4"}, (0.5, 0.5)),
    "header, one before all": ({"lora_alpha": "2", "unet.lora_alpha": "8"}, (2, 0.5)),
    "header, rank-stabilised": ({"unet.lora_alpha": "5", "unet.r": "4", "unet.use_rslora": "True"}, (2.5, 1)),
    "header, by module": ({"unet.lora_alpha": "2", "unet.alpha_pattern": '{"attn1.to_q": 8}'}, (2, 1)),
    "header, by another module": (
        {"unet.lora_alpha": "2", "unet.alpha_pattern": '{"attn2.to_q": 8}'},
        (0.5, 1),
    ),
    "diffusers": (config(unet__lora_alpha=16, unet__r=4), (4, 1)),
    "diffusers, both": (config(unet__lora_alpha=16, text_encoder__lora_alpha=2), (4, 0.5)),
    "diffusers, by module": (config(unet__lora_alpha=16, unet__alpha_pattern={f"^{TO_Q}": 2}), (0.5, 1)),
    "diffusers, without a component": (config(lora_alpha=2, r=4), (0.5, 0.5)),
    "diffusers, of a transformer": (config(transformer__lora_alpha=2), (1, 1)),
    "diffusers before the header": ({**config(unet__lora_alpha=16), "unet.lora_alpha": "2"}, (4, 1)),
    "a copy of peft's configuration": ({"adapter_config": '{"lora_alpha": 2, "r": 4}'}, (0.5, 0.5)),
    "a copy that is none": ({"lora_config": "2"}, (1, 1)),
    "nowhere": ({}, (1, 1)),
}


@pytest.mark.parametrize("form", ENDS)
@pytest.mark.parametrize("place", PLACES)
def test_where_a_strength_may_be_stated(tmp_path: Path, place: str, form: str) -> None:
    metadata, meant = PLACES[place]
    path = write(tmp_path / "a.safetensors", metadata, form=form)
    assert scales(path) == pytest.approx(meant)
    alphas = {4 * scale for scale in meant} if set(meant) != {1} else set[float]()
    assert {*read_info(path).alphas} == alphas and not read_info(path).notes
    # an alpha tensor wins, as in ComfyUI and kohya's programs, and a disagreement is said
    stated = write(tmp_path / "b.safetensors", metadata, form=form, alpha=6.0)
    with collecting() as notes:
        assert scales(stated) == (1.5, 1.5)
    assert bool(notes) == (set(meant) != {1}) == bool(read_info(stated).notes)
    assert all("an alpha tensor 6; the tensor is used" in note for note in notes)


@pytest.mark.parametrize("place", ["header, of each component", "diffusers, both", "header, of all"])
@pytest.mark.parametrize("format", ["kohya", "diffusers", "peft"])
def test_what_is_converted_states_its_own_strength(tmp_path: Path, place: str, format: str) -> None:
    """A strength that is written into the tensors must not be stated once more beside them."""
    metadata, _ = PLACES[place]
    path = write(tmp_path / "a.safetensors", {**metadata, "ss_network_alpha": "1", "ss_network_dim": "4"})
    target = tmp_path / ("b" if format == "peft" else "b.safetensors")
    modules = {component: dict(paths) for component, paths in SHAPES.items()}
    with collecting() as notes:
        done = convert_adapter(path, target, format=format, modules=modules, dtype="float32")
    assert done.comparison.alike(1e-6) and not notes
    if format != "peft":
        header = read_header(target).metadata
        assert not {"lora_alpha", "r", "unet.lora_alpha", "lora_adapter_metadata"} & header.keys()


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"unet.lora_alpha": "strong"}, "unet.lora_alpha in its header is 'strong', which is not a number"),
        ({"lora_alpha": "[1]"}, "lora_alpha in its header is '[1]'"),
        ({"unet.lora_alpha": "NaN"}, "unet.lora_alpha in its header is 'NaN'"),
        (
            {"unet.lora_alpha": "8", "unet.r": "16"},
            "states alpha 8 for rank 16 of the unet, where factors have rank 4",
        ),
        (
            {"ss_network_alpha": "1", "ss_network_dim": "4"},
            "it was trained with alpha 1 at rank 4; as in other programs",
        ),
    ],
)
def test_what_is_stated_and_cannot_be_used_is_said(
    tmp_path: Path, metadata: dict[str, str], said: str
) -> None:
    path = write(tmp_path / "a.safetensors", metadata)
    with collecting() as notes:
        load_adapter(path, SHAPES)
    assert [note for note in notes if said in note and note.startswith("a.safetensors: ")], notes
    assert any(said in note for note in read_info(path).notes)
    with pytest.warns(AdapterWarning):
        load_adapter(path, SHAPES)


@pytest.mark.parametrize(
    "metadata",
    [
        {"ss_network_alpha": "4", "ss_network_dim": "4"},
        {"ss_network_alpha": "Dynamic", "ss_network_dim": "Dynamic"},
        {"ss_network_alpha": "None", "ss_network_dim": "8"},
        {"unet.learning_rate": "8", "rank": "4", "comment": "alpha 3"},
    ],
)
def test_nothing_is_said_without_need(tmp_path: Path, metadata: dict[str, str]) -> None:
    with collecting() as notes:
        assert scales(write(tmp_path / "a.safetensors", metadata)) == (1, 1)
    assert not notes


@pytest.mark.parametrize("format", ["kohya", "diffusers", "peft"])
def test_nothing_is_said_of_our_own_files(tmp_path: Path, format: str) -> None:
    name = "a" if format == "peft" else "a.safetensors"
    path = save_adapter(mixed_adapter(), tmp_path / name, format=format)
    with collecting() as notes:
        load_adapter(path, SHAPES)
    assert not notes and not read_info(path).notes


# ---- factors that belong to another base ------------------------------------------------------------------

CHANGED = ["pissa", "pissa_niter_4", "olora", "OLoRA", "corda", "loftq", "lora_ga"]


@pytest.mark.parametrize("start", CHANGED)
def test_starts_that_change_the_base_are_refused(tmp_path: Path, start: str) -> None:
    update = low_rank((24, 20), 4, 4.0)
    folder = tmp_path / "a"
    folder.mkdir()
    tensors = {
        f"base_model.model.{TO_Q}.lora_{s}.weight": t for s, t in (("A", update.down), ("B", update.up))
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    values = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "init_lora_weights": start}
    (folder / "adapter_config.json").write_text(json.dumps(values))
    files = [
        folder,
        write(tmp_path / "b.safetensors", config(unet__lora_alpha=4, unet__init_lora_weights=start)),
        write(tmp_path / "c.safetensors", {"text_encoder.init_lora_weights": start}),
    ]
    for file in files:
        for read in (read_info, load):
            with pytest.raises(AdapterFileError, match=f"started with '{start}', which also changes .* base"):
                read(file)


@pytest.mark.parametrize("start", [True, False, "gaussian", "eva", "orthogonal", "mica"])
def test_starts_that_leave_the_base_alone_are_read(tmp_path: Path, start: object) -> None:
    values = config(unet__lora_alpha=8, unet__r=4, unet__init_lora_weights=start)
    assert scales(write(tmp_path / "a.safetensors", values)) == (2, 1)


# ---- as peft and diffusers read them -----------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q = nn.Linear(24, 36)
        self.conv = nn.Conv2d(12, 8, 3)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.down_blocks = nn.ModuleList([Block()])


TINY = {"unet": {"down_blocks.0.to_q": (36, 24), "down_blocks.0.conv": (8, 12, 3, 3)}}


@pytest.mark.filterwarnings("ignore:.*changes the base weights")
@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_pefts_conversion_is_what_the_refusal_asks_for(tmp_path: Path, start: str) -> None:
    """Trained from such a start and converted by peft, it is the update of the base as it was."""
    peft: Any = pytest.importorskip("peft")
    model = Tiny()
    before = model.get_parameter("down_blocks.0.to_q.weight").detach().clone()
    settings = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["to_q"], init_lora_weights=start)
    tuned = peft.get_peft_model(model, settings)
    tuned.peft_config["default"].init_lora_weights = True  # so that the start is saved as it is
    tuned.save_pretrained(tmp_path / "start")
    tuned.peft_config["default"].init_lora_weights = start
    layer = tuned.base_model.model.down_blocks[0].to_q
    with torch.no_grad():
        for factor in (layer.lora_A["default"].weight, layer.lora_B["default"].weight):
            factor += 0.1 * torch.randn_like(factor)
    tuned.save_pretrained(tmp_path / "as it is")
    with pytest.raises(AdapterFileError, match="path_initial_model_for_weight_conversion"):
        load_adapter(tmp_path / "as it is", TINY)
    tuned.save_pretrained(
        tmp_path / "converted", path_initial_model_for_weight_conversion=str(tmp_path / "start")
    )
    after = layer.get_base_layer().weight.detach() + layer.get_delta_weight("default").detach()
    found = load_adapter(tmp_path / "converted", TINY).components["unet"]["down_blocks.0.to_q"].delta()
    assert torch.allclose(found, after - before, atol=1e-5)
    assert float((after - before).norm()) > 0.1


@pytest.mark.parametrize("kind", ["LoHa", "LoKr", "LoKr, whole", "LoKr, both factored"])
@pytest.mark.parametrize("where", ["folder", "diffusers", "header"])
def test_peft_means_the_same_by_alpha(tmp_path: Path, kind: str, where: str) -> None:
    peft: Any = pytest.importorskip("peft")
    common = {"r": 3, "alpha": 7, "target_modules": ["to_q", "conv"], "init_weights": False}
    if kind == "LoHa":
        settings = peft.LoHaConfig(**common, use_effective_conv2d=True)
    else:
        rank = 30 if kind == "LoKr, whole" else 2
        settings = peft.LoKrConfig(**{**common, "r": rank}, decompose_both=kind.endswith("factored"))
    tuned = peft.get_peft_model(Tiny(), settings)
    tuned.save_pretrained(tmp_path / "folder")
    path = tmp_path / "folder"
    if where != "folder":
        tensors = load_file(path / "adapter_model.safetensors")
        values = json.loads((path / "adapter_config.json").read_text())
        stated = {f"unet.{key}": value for key, value in values.items()}
        header = (
            {"lora_adapter_metadata": json.dumps(stated)}
            if where == "diffusers"
            else {key: json.dumps(value) for key, value in stated.items()}
        )
        path = tmp_path / "a.safetensors"
        save_file(
            {f"unet.{k.removeprefix('base_model.model.')}": t for k, t in tensors.items()}, path, header
        )
    adapter = load_adapter(path, TINY)
    for name, shape in TINY["unet"].items():
        layer = tuned.base_model.model.get_submodule(name)
        meant = layer.get_delta_weight("default").detach()
        low, other = adapter.components.get("unet", {}).get(name), adapter.dense.get("unet", {}).get(name)
        found = low.delta() if low is not None else cast(Any, other).delta(torch.zeros(shape))
        assert torch.allclose(found, meant.float(), atol=1e-5 * float(meant.abs().max()))
        assert float(meant.abs().max()) > 1e-3


def test_diffusers_means_the_same_by_its_metadata(tmp_path: Path) -> None:
    """LoKr in diffusers' form, whose alpha is in `lora_adapter_metadata` alone."""
    diffusers: Any = pytest.importorskip("diffusers.utils.peft_utils")
    if not hasattr(diffusers, "_create_lokr_config"):
        pytest.skip("this diffusers does not read LoKr")
    stated = {"r": 2, "alpha": 7, "decompose_both": False, "target_modules": ["to_q"]}
    made = diffusers._create_lokr_config({}, stated)
    assert (made.alpha / made.r) == 3.5
    w1, w2_a, w2_b = torch.randn(6, 4), torch.randn(6, 2), torch.randn(2, 6)
    parts = {"lokr_w1": w1, "lokr_w2_a": w2_a, "lokr_w2_b": w2_b}
    header = {"lora_adapter_metadata": json.dumps({f"unet.{k}": v for k, v in stated.items()})}
    save_file(
        {f"unet.down_blocks.0.to_q.{k}": t for k, t in parts.items()}, tmp_path / "a.safetensors", header
    )
    found = load_adapter(tmp_path / "a.safetensors", TINY).dense["unet"]["down_blocks.0.to_q"]
    delta = found.delta(torch.zeros(36, 24))
    assert delta is not None and torch.allclose(delta, 3.5 * torch.kron(w1, w2_a @ w2_b), atol=1e-4)
    assert math.isclose(float(delta.norm()), 3.5 * float(torch.kron(w1, w2_a @ w2_b).norm()), rel_tol=1e-4)
