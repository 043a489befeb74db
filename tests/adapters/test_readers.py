"""What other programs make of a file: diffusers' verdicts against diffusers itself, all by their rules."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lorastyle.adapters import save_adapter
from lorastyle.adapters.contents import read_parts
from lorastyle.adapters.formats.sgm import sgm_names
from lorastyle.adapters.readers import READERS, Verdict, judge_readers
from tests.adapters.test_diffusers_reads_it import FAMILIES, PIPELINES, random_adapter

pytestmark = pytest.mark.filterwarnings("ignore")
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module", params=list(PIPELINES))
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """(kind of base, folder with kohya.safetensors and diffusers.safetensors of one adapter)."""
    kind, folder = str(request.param), tmp_path_factory.mktemp("written")
    adapter = random_adapter(PIPELINES[kind](), FAMILIES[kind])
    for format in ("kohya", "diffusers"):
        save_adapter(adapter, folder / f"{format}.safetensors", dtype="float32", format=format)
    return kind, folder


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `written`, for SD 1.x."""
    folder = tmp_path_factory.mktemp("sd15")
    adapter = random_adapter(PIPELINES["sd15"](), "sd1")
    for format in ("kohya", "diffusers"):
        save_adapter(adapter, folder / f"{format}.safetensors", dtype="float32", format=format)
    return folder


def of(path: Path, reader: str) -> Verdict:
    return next(verdict for verdict in judge_readers(path) if verdict.reader == reader)


def _modules(tensors: Mapping[str, Tensor]) -> list[str]:
    return list(dict.fromkeys(key.partition(".")[0] for key in tensors))


def _other_alphas(tensors: Tensors) -> Tensors:
    """Each third module at half its strength."""
    for number, module in enumerate(_modules(tensors)):
        if number % 3 == 0:
            tensors[f"{module}.alpha"] = tensors[f"{module}.alpha"] / 2
    return tensors


def _without_alphas(tensors: Tensors) -> Tensors:
    return {key: tensor for key, tensor in tensors.items() if not key.endswith(".alpha")}


def _bundled(tensors: Tensors) -> Tensors:
    return {**tensors, "bundle_emb.word.string_to_param.*": torch.zeros(1, 8)}


def _one_loha(tensors: Tensors) -> Tensors:
    name = next(iter(_modules(tensors)))
    sides = {f"{name}.hada_{part}": torch.ones(2, 2) for part in ("w1_a", "w1_b", "w2_a", "w2_b")}
    return {key: tensor for key, tensor in tensors.items() if not key.startswith(f"{name}.")} | sides


def _magnitudes(tensors: Tensors) -> Tensors:
    downs = [key for key in tensors if key.endswith(".lora_down.weight")]
    found = {
        key.replace("lora_down.weight", "dora_scale"): torch.ones(1, *tensors[key].shape[1:])
        for key in downs
        if tensors[key].ndim == 2
    }
    return tensors | found


def _spelled_as_peft(tensors: Tensors) -> Tensors:
    return {k.replace("lora_down", "lora_A").replace("lora_up", "lora_B"): t for k, t in tensors.items()}


def _one_bias(tensors: Tensors) -> Tensors:
    return {**tensors, f"{next(iter(_modules(tensors)))}.diff_b": torch.ones(8)}


def _old_attention(tensors: Tensors) -> Tensors:
    """As diffusers' trainers write it: the attention alone is spelled `.lora.down`."""

    def spelled(key: str) -> str:
        if ".attn" not in key:
            return key
        return key.replace(".lora_A.", ".lora.down.").replace(".lora_B.", ".lora.up.")

    return {spelled(key): tensor for key, tensor in tensors.items()}


def _flattened(tensors: Tensors) -> Tensors:
    """kohya's prefixes with diffusers' names inside, as LyCORIS writes them for SDXL too."""
    prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
    if not any(key.startswith("text_encoder_2.") for key in tensors):
        prefixes["text_encoder"] = "lora_te_"
    found: Tensors = {}
    for key, tensor in tensors.items():
        component, _, rest = key.partition(".")
        name, _, end = rest.partition(".lora_")
        flat = prefixes[component] + name.replace(".", "_")
        found[f"{flat}.lora_{'down' if end == 'A.weight' else 'up'}.weight"] = tensor
    if "lora_te1_" in prefixes.values():
        found["lora_unet_add_embedding_linear_2.lora_down.weight"] = torch.ones(2, 48)
        found["lora_unet_add_embedding_linear_2.lora_up.weight"] = torch.ones(48, 2)
    return found


def _original(tensors: Tensors) -> Tensors:
    """With the names that Stability's code gives the UNet's modules."""
    found: Tensors = {}
    for key, tensor in tensors.items():
        component, _, rest = key.partition(".")
        name, _, end = rest.partition(".lora_")
        if component == "unet":
            flat = "lora_unet_" + sgm_names(name)[0].replace(".", "_")
            found[f"{flat}.lora_{'down' if end == 'A.weight' else 'up'}.weight"] = tensor
    return found


def _as_is(tensors: Tensors) -> Tensors:
    return tensors


CASES: Mapping[str, tuple[str, Callable[[Tensors], Tensors], dict[str, str]]] = {
    "kohya": ("kohya", _as_is, {}),
    "kohya, some at half": ("kohya", _other_alphas, {}),
    "kohya without alphas": ("kohya", _without_alphas, {}),
    "kohya with a word": ("kohya", _bundled, {}),
    "kohya with a LoHa": ("kohya", _one_loha, {}),
    "kohya with magnitudes": ("kohya", _magnitudes, {}),
    "kohya with lora_A": ("kohya", _spelled_as_peft, {}),
    "kohya with a bias": ("kohya", _one_bias, {}),
    "kohya with diffusers' metadata": ("kohya", _as_is, {"lora_adapter_metadata": json.dumps({"unet.r": 4})}),
    "kohya with diffusers' names": ("diffusers", _flattened, {}),
    "kohya with the original names": ("diffusers", _original, {}),
    "diffusers": ("diffusers", _as_is, {}),
    "diffusers, attention in the older way": ("diffusers", _old_attention, {}),
    "diffusers without unet.": (
        "diffusers",
        lambda tensors: {key.removeprefix("unet."): t for key, t in tensors.items()},
        {},
    ),
    "diffusers with an alpha": (
        "diffusers",
        lambda tensors: {**tensors, "unet.conv_in.alpha": torch.tensor(1.0)},
        {},
    ),
}


def loaded_by_diffusers(kind: str, path: Path) -> dict[str, float] | None:
    """{module as the file spells it: its factor there by the file's own}; None where loading raises."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    pipe = PIPELINES[kind]()
    try:
        pipe.load_lora_weights(str(path.parent), weight_name=path.name)
    except Exception:
        return None
    (part,) = read_parts(path)
    tensors = load_file(path)
    found: dict[str, float] = {}
    for component in ("unet", "text_encoder", "text_encoder_2"):
        model: Any = getattr(pipe, component, None)
        mine = [m for m in part.modules if m.component == component and "down" in m.keys]
        for layer in model.modules() if model is not None else ():
            if isinstance(layer, BaseTunerLayer):
                parts: Any = layer
                (adapter,) = parts.lora_A.keys()
                weight = parts.lora_A[adapter].weight
                for module in mine:
                    down = tensors[module.keys["down"]]
                    if down.shape == weight.shape and torch.equal(down, weight):
                        assert module.strength
                        found[module.spelled] = parts.scaling[adapter] / module.strength
    return found


def written_as(case: str, folder: Path, kind: str, path: Path) -> Path:
    """The case's file."""
    format, change, metadata = CASES[case]
    tensors = change(load_file(folder / f"{format}.safetensors"))
    whole = {key: tensor.contiguous() for key, tensor in tensors.items()}
    save_file(whole, path, {"lorastyle.base": FAMILIES[kind], **metadata})
    return path


@pytest.mark.parametrize("case", list(CASES))
def test_diffusers_does_what_is_said(written: tuple[str, Path], case: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    kind, folder = written
    path = written_as(case, folder, kind, tmp_path / "a.safetensors")
    said, done = of(path, "diffusers"), loaded_by_diffusers(kind, path)
    if done is None:
        assert (said.state, said.read, said.strength) == ("none", 0, None) and said.rule
        return
    assert said.read == len(done) and said.modules - said.read == sum(said.lost.values())
    assert said.strength == pytest.approx((min(done.values()), max(done.values())), abs=1e-4)


# By hand, from what the readers' sources say: "full", "part" or "none", with the least and the most of the
# meant strength where that is not 1.
EXPECTED: Mapping[str, Mapping[str, str]] = {
    "kohya": dict.fromkeys((reader.name for reader in READERS), "full"),
    "kohya, some at half": {
        **dict.fromkeys((reader.name for reader in READERS), "full"),
        "diffusers": "full 1 2",
    },
    "kohya with a word": {
        "A1111": "full",
        "Forge": "part",
        "ComfyUI": "part",
        "diffusers": "none",
        "InvokeAI": "part",
        "sd-scripts": "part",
        "stable-diffusion.cpp": "part",
    },
    "kohya with a LoHa": {
        "A1111": "full",
        "Forge": "full",
        "ComfyUI": "full",
        "diffusers": "none",
        "InvokeAI": "full",
        "sd-scripts": "part",
        "stable-diffusion.cpp": "full",
    },
    "kohya with magnitudes": {
        "A1111": "full",
        "Forge": "full",
        "ComfyUI": "full",
        "diffusers": "part",
        "InvokeAI": "full",
        "sd-scripts": "part",
        "stable-diffusion.cpp": "part",
    },
    "kohya with the original names": {
        "A1111": "full",
        "Forge": "full",
        "ComfyUI": "full",
        "diffusers": "none",
        "InvokeAI": "none",
        "sd-scripts": "none",
        "stable-diffusion.cpp": "full",
    },
    "diffusers": {
        "A1111": "none",
        "Forge": "none",
        "ComfyUI": "part",
        "diffusers": "full",
        "InvokeAI": "none",
        "sd-scripts": "none",
        "stable-diffusion.cpp": "part",
    },
}


@pytest.mark.parametrize("case", list(EXPECTED))
def test_each_reader_by_its_rules(case: str, tmp_path: Path, sd15: Path) -> None:
    path = written_as(case, sd15, "sd15", tmp_path / "a.safetensors")
    said: dict[str, str] = {}
    for verdict in judge_readers(path):
        strength = verdict.strength
        off = "" if verdict.right_strength or strength is None else f" {strength[0]:g} {strength[1]:g}"
        said[verdict.reader] = verdict.state + off
        whole = verdict.state == "full"
        assert whole is not bool(verdict.rule or verdict.lost or verdict.changed)
    assert said == EXPECTED[case]


def test_what_is_lost_is_counted_and_named(tmp_path: Path, sd15: Path) -> None:
    path = written_as("diffusers", sd15, "sd15", tmp_path / "a.safetensors")
    comfy = of(path, "ComfyUI")
    attention = sum(".attn" in key and "lora_A" in key for key in load_file(path))
    assert comfy.read == comfy.modules - attention and list(comfy.lost.values()) == [attention]
    forge = of(path, "Forge")
    assert f"({2 * attention})" in forge.rule and "attention" in forge.rule

    few = {
        k: t for k, t in load_file(path).items() if ".attn" not in k or "up_blocks.1.attentions.0" not in k
    }
    kept = {k: t for k, t in few.items() if ".attn" not in k or ("mid_block" in k and ".attn1" in k)}
    save_file(kept, path, {"lorastyle.base": "sd1"})  # up to twelve tensors may be left over
    assert of(path, "Forge").state == "part" and sum(of(path, "Forge").lost.values()) == 4


@pytest.mark.parametrize(
    ("end", "reader", "told"),
    [
        ("lora_mid.weight", "sd-scripts", "Tucker"),
        ("scale", "diffusers", "knows LoRA alone"),
        ("diff_b", "InvokeAI", ""),
    ],
)
def test_one_odd_tensor(end: str, reader: str, told: str, tmp_path: Path, sd15: Path) -> None:
    tensors = load_file(sd15 / "kohya.safetensors")
    name = next(key for key in tensors if "conv1" in key).partition(".")[0]
    path = tmp_path / "a.safetensors"
    save_file({**tensors, f"{name}.{end}": torch.ones(1)}, path, {"lorastyle.base": "sd1"})
    verdict = of(path, reader)
    assert told in verdict.rule and (verdict.state == "none") is bool(told)


def test_a_scale_counts_where_it_is_read(tmp_path: Path, sd15: Path) -> None:
    tensors = load_file(sd15 / "kohya.safetensors")
    name = next(key for key in tensors if "conv1" in key).partition(".")[0]
    rank = tensors[f"{name}.lora_down.weight"].shape[0]
    path = tmp_path / "a.safetensors"
    half = float(tensors[f"{name}.alpha"]) / rank / 2
    save_file({**tensors, f"{name}.scale": torch.tensor(half)}, path, {"lorastyle.base": "sd1"})
    assert of(path, "A1111").strength == pytest.approx((1, 1))
    assert of(path, "ComfyUI").strength == pytest.approx((1, 2))


def test_folders_and_other_bases(tmp_path: Path) -> None:
    adapter = random_adapter(PIPELINES["sd15"](), "sd1")
    folder = save_adapter(adapter, tmp_path / "a", dtype="float32", format="peft")
    assert {verdict.state for verdict in judge_readers(folder)} == {"none"}
    path = tmp_path / "b.safetensors"
    name = "lora_unet_joint_blocks_0_x_block_attn_qkv"
    save_file(
        {f"{name}.lora_down.weight": torch.ones(2, 8), f"{name}.lora_up.weight": torch.ones(8, 2)}, path
    )
    assert {(v.state, "Stable Diffusion 3" in v.rule) for v in judge_readers(path)} == {("unknown", True)}
