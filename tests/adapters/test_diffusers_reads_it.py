"""diffusers' own loader draws with our file what our deltas say; and we read what diffusers writes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from torch import Tensor, nn

from lorastyle.adapters import Adapter, LowRank, load_adapter, save_adapter
from tests.adapters.examples import low_rank
from tests.tiny import tiny_pipeline

pytest.importorskip("peft")
SETTINGS = ((4, 4.0), (2, 1.0), (8, 3.0), (3, 0.5))


def shapes_of(pipe: StableDiffusionPipeline) -> dict[str, dict[str, tuple[int, ...]]]:
    parts: dict[str, nn.Module] = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}  # type: ignore[dict-item]
    return {
        component: {
            name: tuple(module.weight.shape)
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d)
        }
        for component, model in parts.items()
    }


def random_adapter(pipe: StableDiffusionPipeline) -> Adapter:
    """Mixed ranks and alphas on attention, feed-forward, projections, resnets and the text encoder."""
    wanted = ("attn", "ff.net", "proj_in", "proj_out", "conv1", "conv2", "fc1", "fc2")
    components: dict[str, dict[str, LowRank]] = {}
    for component, shapes in shapes_of(pipe).items():
        names = [name for name in shapes if any(word in name for word in wanted)]
        components[component] = {
            name: low_rank(shapes[name], *SETTINGS[i % len(SETTINGS)], i) for i, name in enumerate(names)
        }
    return Adapter("ours", components)


def outputs(pipe: Any) -> tuple[Tensor, Tensor]:
    """The text encoder's and the UNet's output for fixed input."""
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        text = pipe.text_encoder(torch.arange(32)[None])[0]
        noisy = torch.randn(1, 4, 8, 8, generator=random)
        return text, pipe.unet(noisy, 500, torch.randn(1, 32, 16, generator=random)).sample


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


@pytest.mark.filterwarnings("ignore")
def test_diffusers_draws_what_our_deltas_say(tmp_path: Path) -> None:
    pipe = tiny_pipeline()
    adapter = random_adapter(pipe)
    path = save_adapter(adapter, tmp_path / "a.safetensors", dtype="float32")
    base = outputs(pipe)
    with added_by_hand(pipe, adapter):
        ours = outputs(pipe)
    with added_by_hand(pipe, adapter, scale=0.5):
        half = outputs(pipe)

    theirs_pipe: Any = tiny_pipeline()
    theirs_pipe.load_lora_weights(str(tmp_path), weight_name=path.name)
    theirs = outputs(theirs_pipe)
    for a, b, off, weak in zip(ours, theirs, base, half, strict=True):
        assert float((a - b).abs().max()) < 1e-4 * float(a.abs().max())
        assert float((off - b).abs().max()) > 1e-2 * float(a.abs().max())
        assert float((weak - b).abs().max()) > 1e-2 * float(a.abs().max())


@pytest.mark.filterwarnings("ignore")
def test_we_read_what_diffusers_writes(tmp_path: Path) -> None:
    from peft import LoraConfig

    pipe: Any = tiny_pipeline()
    targets = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "ff.net.0.proj"]
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False)
    text_config = LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj", "fc1"], init_lora_weights=False)
    torch.manual_seed(3)
    pipe.unet.add_adapter(config)
    pipe.text_encoder.add_adapter(text_config)
    theirs = outputs(pipe)

    from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    pipe.save_lora_weights(
        tmp_path,
        unet_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(pipe.unet)),
        text_encoder_lora_layers=convert_state_dict_to_diffusers(
            get_peft_model_state_dict(pipe.text_encoder)
        ),
        unet_lora_adapter_metadata=config.to_dict(),
        text_encoder_lora_adapter_metadata=text_config.to_dict(),
    )
    ours = tiny_pipeline()
    adapter = load_adapter(tmp_path / "pytorch_lora_weights.safetensors", shapes_of(ours))
    with added_by_hand(ours, adapter):
        again = outputs(ours)
    for a, b, off in zip(again, theirs, outputs(ours), strict=True):
        assert float((a - b).abs().max()) < 1e-4 * float(b.abs().max())
        assert float((off - b).abs().max()) > 1e-2 * float(b.abs().max())
