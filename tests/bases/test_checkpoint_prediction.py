"""Does a checkpoint's UNet predict noise or v, and who says so?"""

# diffusers and transformers annotate more narrowly than they accept, and re-export lazily.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lorastyle.bases import EMBEDDED, load_base
from lorastyle.bases.single_file import inspect_checkpoint
from lorastyle.bases.single_file.prediction import asked, stated_prediction
from lorastyle.errors import BaseError
from tests.original import (
    made,
    write_original,
)

V = {"modelspec.prediction_type": "v"}

YAML_V = 'model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params:\n    parameterization: "v"\n'
YAML_PLAIN = (
    "model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params:\n    linear_start: 0.00085\n"
)
YAML_SGM = "scaling_config:\n  target: sgm.modules.diffusionmodules.denoiser_scaling.VScaling\n"
ARCHITECTURE = "modelspec.architecture"


@pytest.mark.parametrize(
    ("family", "metadata", "yaml", "marks", "wanted", "answer", "source"),
    [
        ("sd1", {}, "", (), None, "epsilon", "its family"),
        ("sdxl", {}, "", (), None, "epsilon", "its family"),
        ("sd1", V, "", (), None, "v_prediction", "metadata"),
        ("sd2", {"modelspec.prediction_type": "epsilon"}, "", (), None, "epsilon", "metadata"),
        ("sd2", {ARCHITECTURE: "stable-diffusion-v2-768-v"}, "", (), None, "v_prediction", "metadata"),
        ("sd2", {ARCHITECTURE: "stable-diffusion-v2-512"}, "", (), None, "epsilon", "metadata"),
        ("sd2", {}, YAML_V, (), None, "v_prediction", "x.yaml"),
        ("sd2", {}, YAML_PLAIN, (), None, "epsilon", "x.yaml"),
        ("sd2", {"modelspec.prediction_type": "epsilon"}, YAML_V, (), None, "v_prediction", "x.yaml"),
        ("sdxl", {}, YAML_SGM, (), None, "v_prediction", "x.yaml"),
        ("sdxl", {}, "", ("v_pred",), None, "v_prediction", "v_pred"),
        ("sdxl", V, "", ("v_pred", "ztsnr"), "epsilon", "epsilon", "you"),
        ("sd2", {}, YAML_V, (), "epsilon", "epsilon", "you"),
    ],
)
def test_who_says_what_the_unet_predicts(
    tmp_path: Path,
    family: str,
    metadata: dict[str, str],
    yaml: str,
    marks: tuple[str, ...],
    wanted: str | None,
    answer: str,
    source: str,
) -> None:
    if yaml:
        (tmp_path / "x.yaml").write_text(yaml)
    file, default = tmp_path / "x.safetensors", None if family == "sd2" else "epsilon"
    found = stated_prediction(file, marks, metadata, wanted=wanted, default=default)
    assert found is not None
    assert (found.type, found.stated, found.zero_snr) == (answer, True, False)
    assert source in found.source


def test_a_yaml_about_something_else_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("title: my model\ntarget: people\n")
    assert stated_prediction(tmp_path / "x.safetensors", (), {}, wanted=None, default=None) is None


def test_a_schedule_that_ends_in_noise(tmp_path: Path) -> None:
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    file = write_original(made("sdxl"), tmp_path / "x.safetensors", change=marks)
    base = load_base(str(file), device="cpu")
    assert base.prediction_type == "v_prediction"
    assert base.pipe.scheduler.config.timestep_spacing == "trailing"
    assert float(base.alphas_cumprod[-1]) < 1e-6


@pytest.mark.parametrize(
    ("word", "prediction_type", "size"),
    [
        ("", "v_prediction", 768),
        ("", "epsilon", 512),
        ("512x512", "v_prediction", 512),
        ("512x768", "v_prediction", 768),
        ("9999x9999", "v_prediction", 768),
    ],
)
def test_the_native_size(tmp_path: Path, word: str, prediction_type: str, size: int) -> None:
    file = write_original(made("sd2"), tmp_path / "x.safetensors", metadata={"modelspec.resolution": word})
    checkpoint = inspect_checkpoint(file, "x", prediction_type=prediction_type)
    assert checkpoint.prediction is not None
    assert checkpoint.resolution_for(checkpoint.prediction) == size


def test_what_the_caller_chooses_needs_no_guess(tmp_path: Path) -> None:
    file = write_original(made("sd2"), tmp_path / "x.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        base = load_base(str(file), device="cpu", prediction_type="epsilon")
    assert (base.prediction_type, base.resolution) == ("epsilon", 512)


def test_a_guess_is_told_with_the_way_out(tmp_path: Path) -> None:
    file = write_original(made("sd2"), tmp_path / "x.safetensors")
    with pytest.warns(
        UserWarning, match=r"does not say .*prediction_type=.*parameterization: .*x\.yaml"
    ) as told:
        base = load_base(str(file), device="cpu")
    assert told[0].filename == __file__
    assert base.prediction_type == "v_prediction"  # weights of chance do not answer with the noise


class Fake(nn.Module):
    """A UNet that answers with so much of the noise and so much of something else."""

    def __init__(self, like_noise: float) -> None:
        super().__init__()
        self.like_noise = like_noise
        self.config, self.device, self.dtype = (
            SimpleNamespace(in_channels=4, out_channels=4),
            torch.device("cpu"),
            torch.float32,
        )

    def forward(self, noisy: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Any:
        assert timestep.tolist() == [999]
        other = torch.randn(noisy.shape, generator=torch.Generator().manual_seed(1))
        return SimpleNamespace(sample=self.like_noise * noisy + (1 - self.like_noise) * other)


@pytest.mark.parametrize(("like_noise", "answer"), [(0.9, "epsilon"), (0.1, "v_prediction")])
def test_a_unet_is_asked_with_noise(like_noise: float, answer: str) -> None:
    pipe = made("sd2")
    fake = SimpleNamespace(
        unet=Fake(like_noise),
        tokenizer=pipe.tokenizer,
        text_encoder=pipe.text_encoder,
        scheduler=pipe.scheduler,
    )
    assert asked(fake)[0] == answer


@pytest.mark.skipif(not (EMBEDDED / "model_index.json").exists(), reason="the embedded base is not built")
def test_a_trained_unet_answers_as_theory_says() -> None:
    """The embedded base was trained on v; noise = sqrt(a) v + sqrt(1 - a) latents makes the other of it."""
    pipe = load_base("embedded", device="cpu", dtype=torch.float32).pipe
    answer, alike = asked(pipe)
    assert (answer, abs(alike) < 0.3) == ("v_prediction", True)
    forward, last = pipe.unet.forward, 0.0047  # alpha-bar of SD's own schedule at its end

    def noise(noisy: Tensor, *args: Any, **kwargs: Any) -> Any:
        v = forward(noisy, *args, **kwargs).sample
        return SimpleNamespace(sample=last**0.5 * v + (1 - last) ** 0.5 * noisy)

    pipe.unet.forward = noise
    assert asked(pipe)[0] == "epsilon"


def test_a_folder_can_be_overruled_too(saved: Path) -> None:
    assert load_base(str(saved), device="cpu").prediction_type == "v_prediction"
    assert load_base(str(saved), device="cpu", prediction_type="epsilon").prediction_type == "epsilon"
    with pytest.raises(BaseError, match=r'prediction_type is "v_predict"; .*Did you mean "v_prediction"'):
        load_base(str(saved), device="cpu", prediction_type="v_predict")
