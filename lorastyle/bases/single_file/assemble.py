"""The pipeline of a checkpoint: every part built empty and compared, and only then is a weight read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from lorastyle.errors import BaseError
from lorastyle.notes import note

from ..clip_words import END, clip_tokenizer
from .checkpoint import Checkpoint, cannot_be
from .parts import Source
from .prediction import Prediction, asked

# The makers' own: a scaled-linear schedule over 1000 steps (configs of github.com/CompVis/stable-diffusion)
_SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "interpolation_type": "linear",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
# PNDM cannot end in noise alone
_ZERO_SNR_SCHEDULER = {"PNDMScheduler": "DDIMScheduler"}


def read_checkpoint(
    checkpoint: Checkpoint, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Any:
    """A diffusers pipeline: StableDiffusionPipeline, or StableDiffusionXLPipeline for SDXL; of an inpainting
    model StableDiffusionInpaintPipeline or StableDiffusionXLInpaintPipeline.

    The UNet becomes `dtype`, everything else float32; nothing of the pipeline needs the file afterwards. Of
    two sets of weights, trained and averaged (`model_ema`), the trained ones are taken, as others do.

    Raises:
        BaseError: a weight is missing, left over or of the wrong shape, or the file cannot be read.

    Warns:
        UserWarning: nothing said what the UNet predicts; what was found by asking it, and how to overrule it.
    """
    import diffusers

    modules = _empty_modules(checkpoint)
    sources = {part: _matched(checkpoint, part, module) for part, module in modules.items()}
    _fill(checkpoint, modules, sources, dtype)
    facts = _assembled(checkpoint, modules)
    family = "StableDiffusionXL" if checkpoint.kind.id == "sdxl" else "StableDiffusion"
    task = "InpaintPipeline" if checkpoint.inpainting else "Pipeline"
    pipe = getattr(diffusers, family + task)(**facts, scheduler=_scheduler(checkpoint, None)).to(device)
    _settle(pipe, checkpoint)
    return pipe


def _empty_modules(checkpoint: Checkpoint) -> dict[str, nn.Module]:
    """Every part with its sizes and no memory: parameters on the meta device."""
    from accelerate import init_empty_weights
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    kind, configs = checkpoint.kind, {name: dict(part.config) for name, part in checkpoint.parts.items()}
    configs["vae"] |= {"scaling_factor": kind.scaling_factor, "force_upcast": kind.id == "sdxl"}
    # what it is for certain is known once the UNet was asked, but pipelines want a number at once
    configs["unet"]["sample_size"] = kind.resolution // 2 ** (len(configs["vae"]["block_out_channels"]) - 1)
    # SD 2.1's attention overflows float16; the file does not show whether it is a 2.0 or a 2.1
    configs["unet"]["upcast_attention"] = kind.id == "sd2"
    if kind.id == "sdxl":
        numbers = configs["unet"]["projection_class_embeddings_input_dim"]
        numbers -= configs["text_encoder_2"]["projection_dim"]
        configs["unet"]["addition_time_embed_dim"] = numbers // 6
    classes: dict[str, Callable[[dict[str, Any]], Any]] = {
        "unet": lambda config: UNet2DConditionModel(**config),
        "vae": lambda config: AutoencoderKL(**config),
        "text_encoder": lambda config: CLIPTextModel(CLIPTextConfig(**config)),
        "text_encoder_2": lambda config: CLIPTextModelWithProjection(CLIPTextConfig(**config)),
    }
    modules: dict[str, nn.Module] = {}
    for part, config in configs.items():
        try:
            with init_empty_weights():
                modules[part] = classes[part](config)
        except (ValueError, TypeError, RuntimeError, ArithmeticError, IndexError) as error:
            why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise cannot_be(
                checkpoint.name, kind, f"its {part} cannot be built ({why.rstrip('.')})"
            ) from error
    return modules


def _matched(checkpoint: Checkpoint, part: str, module: nn.Module) -> Mapping[str, Source]:
    """The part's sources by the names of this module's weights, all of them and no others."""
    needed = {name: tuple(weight.shape) for name, weight in module.state_dict().items()}
    sources = checkpoint.parts[part].sources
    if part.startswith("text") and not any(name.startswith("text_model.") for name in needed):
        # CLIPTextModel lost that level in transformers 5.6
        sources = {name.removeprefix("text_model."): source for name, source in sources.items()}
    missing, extra = sorted(needed.keys() - sources.keys()), sorted(sources.keys() - needed.keys())
    if missing:
        why = f"{len(missing)} weights of its {part} are missing, the first is {missing[0]}"
        raise cannot_be(checkpoint.name, checkpoint.kind, why)
    if extra:
        why = f"{len(extra)} tensors fit nowhere in its {part}, the first is {sources[extra[0]].key}"
        raise cannot_be(checkpoint.name, checkpoint.kind, why)
    for name, source in sources.items():
        stored = checkpoint.header.tensors[source.key].shape
        if source.shape(stored) != needed[name]:
            why = f"{source.key} has the shape {stored}, where its {part} needs {needed[name]}"
            raise cannot_be(checkpoint.name, checkpoint.kind, why)
    return sources


def _fill(
    checkpoint: Checkpoint,
    modules: Mapping[str, nn.Module],
    sources: Mapping[str, Mapping[str, Source]],
    dtype: torch.dtype,
) -> None:
    """Read the weights, one at a time, into the modules."""
    try:
        with safe_open(checkpoint.path, framework="pt") as file:
            for part, module in modules.items():
                wanted = dtype if part == "unet" else torch.float32
                weights = {
                    name: source.weight(file.get_tensor(source.key), wanted)
                    for name, source in sources[part].items()
                }
                module.load_state_dict(weights, strict=True, assign=True)
                module.eval()
    except (OSError, SafetensorError) as error:
        raise BaseError(
            f'The base "{checkpoint.name}" could not be read to its end ({error}). Was the file changed? Try '
            "again, or download it again."
        ) from error


def _assembled(checkpoint: Checkpoint, modules: Mapping[str, nn.Module]) -> dict[str, Any]:
    """The pipeline's arguments but for the scheduler."""

    def words(part: str, pad: str) -> Any:
        return clip_tokenizer(pad=pad, max_tokens=checkpoint.parts[part].config["max_position_embeddings"])

    facts: dict[str, Any] = dict(modules)
    facts["tokenizer"] = words("text_encoder", "!" if checkpoint.kind.id == "sd2" else END)
    if "text_encoder_2" in modules:
        return facts | {"tokenizer_2": words("text_encoder_2", "!"), "add_watermarker": False}
    return facts | {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def _scheduler(checkpoint: Checkpoint, prediction: Prediction | None) -> Any:
    import diffusers

    kind, config = checkpoint.kind.scheduler, dict[str, Any](_SCHEDULE)
    config["prediction_type"] = "epsilon" if prediction is None else prediction.type
    if prediction is not None and prediction.zero_snr:
        kind = _ZERO_SNR_SCHEDULER.get(kind, kind)
        config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return getattr(diffusers, kind).from_config(config)


def _settle(pipe: Any, checkpoint: Checkpoint) -> None:
    """Give the pipeline its prediction type and native size, after asking its UNet if nobody knows."""
    prediction = checkpoint.prediction or _asked(pipe, checkpoint)
    pipe.scheduler = _scheduler(checkpoint, prediction)
    resolution = checkpoint.resolution_for(prediction)
    pipe.vae.register_to_config(sample_size=resolution)
    pipe.unet.register_to_config(sample_size=resolution // int(pipe.vae_scale_factor))


def _asked(pipe: Any, checkpoint: Checkpoint) -> Prediction:
    answer, alike = asked(pipe)
    other = "epsilon" if answer == "v_prediction" else "v_prediction"
    sidecar = checkpoint.path.with_suffix(".yaml").name
    short = "eps" if other == "epsilon" else "v"
    note(
        f'The base "{checkpoint.name}" does not say what its UNet predicts. Shown pure noise it answers like '
        f'"{answer}" (likeness to the noise {alike:.2f}; 1 is epsilon, 0 is v), so that is taken. If its '
        f'pictures are noise, load it with prediction_type="{other}", or put the line '
        f'`parameterization: "{short}"` into {sidecar} beside it.',
        stacklevel=6,
    )
    return Prediction(answer, "its UNet was asked", stated=False)
