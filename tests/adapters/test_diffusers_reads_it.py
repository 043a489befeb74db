"""diffusers and peft draw with our files what our deltas say; and we read what they write."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from lorastyle.adapters import Adapter, DoRA, LowRank, Update, load_adapter, save_adapter
from tests.adapters.examples import low_rank
from tests.tiny import tiny_pipeline, tiny_xl_pipeline

pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore")
SETTINGS = ((4, 4.0), (2, 1.0), (8, 3.0), (3, 0.5))

Pipelines = Mapping[str, Callable[[], Any]]
PIPELINES: Pipelines = {
    "sd15": tiny_pipeline,
    "sd2": lambda: tiny_pipeline(linear=True),
    "sdxl": lambda: tiny_xl_pipeline(layers_per_block=2),
}
FAMILIES = {"sd15": "sd1", "sd2": "sd2", "sdxl": "sdxl"}


@pytest.fixture(params=list(PIPELINES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def components_of(pipe: Any) -> dict[str, nn.Module]:
    names = ("unet", "text_encoder", "text_encoder_2")
    return {name: getattr(pipe, name) for name in names if hasattr(pipe, name)}


def shapes_of(pipe: Any) -> dict[str, dict[str, tuple[int, ...]]]:
    return {
        component: {
            name: tuple(module.weight.shape)
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d)
        }
        for component, model in components_of(pipe).items()
    }


def random_adapter(pipe: Any, family: str = "sd1") -> Adapter:
    """Mixed ranks and alphas on attention, feed-forward, projections, resnets, samplers and text encoders."""
    wanted = ("attn", "ff.net", "proj_in", "proj_out", "conv1", "conv2", "samplers", "fc1", "fc2")
    components: dict[str, dict[str, LowRank]] = {}
    for component, shapes in shapes_of(pipe).items():
        names = [name for name in shapes if any(word in name for word in wanted)]
        components[component] = {
            name: low_rank(shapes[name], *SETTINGS[i % len(SETTINGS)], i) for i, name in enumerate(names)
        }
    return Adapter("ours", components, {"lorastyle.base": family})


def outputs(pipe: Any) -> tuple[Tensor, ...]:
    """The text encoders' and the UNet's output for fixed input."""
    random = torch.Generator().manual_seed(5)
    parts = components_of(pipe)
    with torch.no_grad():
        ids = torch.arange(32)[None]
        texts = [parts[c](ids).last_hidden_state for c in parts if c != "unet"]
        noisy = torch.randn(1, 4, 8, 8, generator=random)
        words = torch.randn(1, 32, pipe.unet.config.cross_attention_dim, generator=random)
        added = {"text_embeds": torch.randn(1, 24, generator=random), "time_ids": torch.ones(1, 6)}
        drawn = pipe.unet(noisy, 500, words, added_cond_kwargs=added if len(texts) > 1 else None).sample
        return (*texts, drawn)


@contextmanager
def added_by_hand(pipe: Any, adapter: Adapter, scale: float = 1.0) -> Generator[None, None, None]:
    before: list[tuple[nn.Parameter, Tensor]] = []
    for component, path, update in adapter.updates():
        weight = getattr(pipe, component).get_submodule(path).weight
        before.append((weight, weight.data))
        weight.data = weight.data + scale * update.delta()
    yield
    for weight, data in before:
        weight.data = data


def assert_alike(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...], *others: tuple[Tensor, ...]) -> None:
    """Equal within 1e-4 of the largest value, and clearly not like the others."""
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert float((a - b).abs().max()) < 1e-4 * float(a.abs().max())
        for other in others:
            assert float((other[i] - b).abs().max()) > 1e-2 * float(a.abs().max())


@pytest.mark.parametrize("format", ["kohya", "diffusers"])
def test_diffusers_draws_what_our_deltas_say(tmp_path: Path, kind: str, format: str) -> None:
    pipe = PIPELINES[kind]()
    adapter = random_adapter(pipe, FAMILIES[kind])
    path = save_adapter(adapter, tmp_path / "a.safetensors", dtype="float32", format=format)
    base = outputs(pipe)
    with added_by_hand(pipe, adapter):
        ours = outputs(pipe)
    with added_by_hand(pipe, adapter, scale=0.5):
        half = outputs(pipe)
    pipe.load_lora_weights(str(tmp_path), weight_name=path.name)
    assert_alike(ours, outputs(pipe), base, half)


def test_peft_draws_what_our_deltas_say(tmp_path: Path, kind: str) -> None:
    from peft import PeftModel

    pipe = PIPELINES[kind]()
    adapter = random_adapter(pipe, FAMILIES[kind])
    folder = save_adapter(adapter, tmp_path / "a", dtype="float32", format="peft")
    base = outputs(pipe)
    with added_by_hand(pipe, adapter):
        ours = outputs(pipe)
    theirs = PIPELINES[kind]()
    for component, model in components_of(theirs).items():
        PeftModel.from_pretrained(model, str(folder / component))  # puts its layers into the model itself
    assert_alike(ours, outputs(theirs), base)


@pytest.mark.parametrize("format", ["diffusers", "peft"])
def test_dora_is_drawn_alike(tmp_path: Path, format: str) -> None:
    from peft import PeftModel

    def patched(strength: float) -> tuple[Tensor, ...]:
        ours = PIPELINES["sdxl"]()
        for path, update in adapter.dense["unet"].items():
            weight = ours.unet.get_submodule(path).weight
            weight.data = weight.data + strength * cast(Tensor, update.delta(weight.data))
        return outputs(ours)

    pipe = PIPELINES["sdxl"]()
    paths = [p for p in shapes_of(pipe)["unet"] if p.endswith(("attn1.to_q", "conv1"))]
    updates: dict[str, Update] = {}
    for i, path in enumerate(paths):
        weight = pipe.unet.get_submodule(path).weight.detach()
        length = weight.flatten(1).norm(dim=1) * (1 + torch.rand(len(weight)))
        inside = low_rank(tuple(weight.shape), *SETTINGS[i % len(SETTINGS)], i)
        updates[path] = DoRA(inside=inside, magnitude=length, axis=0)
    adapter = Adapter("ours", {}, {"lorastyle.base": "sdxl"}, {"unet": updates})
    name = "a" if format == "peft" else "a.safetensors"
    path = save_adapter(adapter, tmp_path / name, dtype="float32", format=format)
    if format == "peft":
        PeftModel.from_pretrained(pipe.unet, str(path / "unet"))
    else:
        pipe.load_lora_weights(str(tmp_path), weight_name=path.name)
    theirs = outputs(pipe)[-1:]
    assert_alike(patched(1.0)[-1:], theirs, patched(0.0)[-1:], patched(0.5)[-1:])


def trained_by_peft(pipe: Any) -> dict[str, Any]:
    """Random adapters on every component; their configurations."""
    from peft import LoraConfig

    torch.manual_seed(3)
    unet = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "ff.net.0.proj", "conv1"]
    configs: dict[str, Any] = {}
    for component, model in components_of(pipe).items():
        targets, settings = (unet, (4, 8)) if component == "unet" else (["q_proj", "fc1"], (2, 3))
        configs[component] = LoraConfig(
            r=settings[0],
            lora_alpha=settings[1],
            target_modules=targets,
            rank_pattern={"attn2.to_k": 3},
            alpha_pattern={"attn2.to_k": 5, "fc1": 1},
            init_lora_weights=False,
        )
        cast(Any, model).add_adapter(configs[component])
    return configs


@pytest.mark.parametrize("spelling", ["convert_state_dict_to_diffusers", "dict"])
def test_we_read_what_diffusers_writes(tmp_path: Path, kind: str, spelling: str) -> None:
    from diffusers.utils import state_dict_utils
    from peft.utils import get_peft_model_state_dict

    pipe = PIPELINES[kind]()
    configs = trained_by_peft(pipe)
    theirs = outputs(pipe)
    spell = getattr(state_dict_utils, spelling, dict)
    layers = {c: spell(get_peft_model_state_dict(m)) for c, m in components_of(pipe).items()}
    pipe.save_lora_weights(
        tmp_path,
        **{f"{component}_lora_layers": tensors for component, tensors in layers.items()},
        **{f"{c}_lora_adapter_metadata": config.to_dict() for c, config in configs.items()},
    )
    ours = PIPELINES[kind]()
    adapter = load_adapter(tmp_path / "pytorch_lora_weights.safetensors", shapes_of(ours))
    base = outputs(ours)
    with added_by_hand(ours, adapter):
        assert_alike(outputs(ours), theirs, base)


def test_we_read_what_peft_writes(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    pipe = PIPELINES["sdxl"]()
    base = outputs(pipe)
    torch.manual_seed(3)
    for component, model in components_of(pipe).items():
        config = LoraConfig(
            r=4,
            lora_alpha=6,
            use_rslora=True,
            target_modules=["to_q", "conv1"] if component == "unet" else ["q_proj"],
            alpha_pattern={"attn2.to_q": 3},
            init_lora_weights=False,
        )
        get_peft_model(model, config).save_pretrained(str(tmp_path / component))
    theirs = outputs(pipe)
    ours = PIPELINES["sdxl"]()
    adapter = load_adapter(tmp_path, shapes_of(ours))
    assert set(adapter.components) == set(components_of(ours))
    with added_by_hand(ours, adapter):
        assert_alike(outputs(ours), theirs, base)


def test_kohya_files_that_diffusers_makes(tmp_path: Path) -> None:
    """`convert_state_dict_to_kohya` writes alpha = rank and `lora_te1_` even for SD 1.x."""
    import safetensors.torch
    from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya
    from peft.utils import get_peft_model_state_dict

    pipe = PIPELINES["sd15"]()
    trained_by_peft(pipe)
    tensors: dict[str, Tensor] = {}
    for component, model in components_of(pipe).items():
        named = {f"{component}.{k}": v for k, v in get_peft_model_state_dict(model).items()}
        tensors |= convert_state_dict_to_kohya(named)
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors")
    adapter = load_adapter(tmp_path / "a.safetensors", shapes_of(PIPELINES["sd15"]()))
    assert sum(1 for _ in adapter.updates()) == sum(key.endswith(".alpha") for key in tensors)
    assert any(key.startswith("lora_te1_") for key in tensors)
