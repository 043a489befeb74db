from __future__ import annotations

import io
import json
import logging
import shlex
import shutil
import threading
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorastyle.bases import EMBEDDED, load_base
from lorastyle.bases.quiet import quiet
from lorastyle.errors import BaseError
from tests.original import differing, weights
from tests.tiny import tiny_pipeline


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_weights_are_upcast_exactly_frozen_and_in_eval_mode(saved: Path) -> None:
    base = load_base(str(saved), device="cpu")
    stored = load_file(saved / "unet" / "diffusion_pytorch_model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.float16}
    for name, weight in base.pipe.unet.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, stored[name].float())
    for part in (base.pipe.unet, base.pipe.text_encoder, base.pipe.vae):
        assert not part.training
        assert not any(p.requires_grad or p.dtype != torch.float32 for p in part.parameters())


def test_the_base_says_what_it_is(saved: Path) -> None:
    base = load_base(str(saved), device="cpu")
    assert (base.name, base.family, base.resolution) == (str(saved), "sd-16", 64)
    assert base.prediction_type == "v_prediction"
    assert set(base.components) == {"unet", "text_encoder"}
    assert base.pipe.safety_checker is None


def test_lorastyle_json_names_the_family(copy: Path) -> None:
    (copy / "lorastyle.json").write_text('{"family": "lorastyle-icons", "version": 1}')
    assert load_base(str(copy), device="cpu").family == "lorastyle-icons"


def test_the_environment_names_the_default(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORASTYLE_BASE", str(saved))
    assert load_base(device="cpu").name == str(saved)


def test_float16_on_a_cpu_is_refused(saved: Path) -> None:
    with pytest.raises(BaseError, match="100 times slower"):
        load_base(str(saved), device="cpu", dtype=torch.float16)


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_a_device_that_is_not_there(saved: Path, device: str) -> None:
    with pytest.raises(BaseError, match=f'"{device}" cannot be used'):
        load_base(str(saved), device=device)


def test_only_fp16_variant_files(copy: Path) -> None:
    for part in ("unet", "vae", "text_encoder"):
        for file in (copy / part).glob("*.safetensors"):
            file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))
    assert load_base(str(copy), device="cpu").resolution == 64


def test_loading_is_silent_and_puts_verbosity_back(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    before = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    load_base(str(saved), device="cpu")
    assert capfd.readouterr() == ("", "")
    assert (diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()) == before
    assert diffusers_logging.is_progress_bar_enabled()
    assert transformers_logging.is_progress_bar_enabled()


def test_only_the_thread_that_loads_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """Threads that overlap leave nothing behind, whichever of them ends last."""
    from diffusers.utils import logging as diffusers_logging

    with quiet():
        pass  # the filter is there
    logger = diffusers_logging.get_logger("diffusers.test")
    handler = next(h for h in logging.getLogger("diffusers").handlers if type(h) is logging.StreamHandler)
    shown = io.StringIO()
    levels = logging.getLogger("diffusers").level, handler.level
    inside, outside_done, first_ended = (threading.Event() for _ in range(3))

    def first() -> None:
        with pytest.raises(ZeroDivisionError), quiet():
            inside.wait(5)
            logger.warning("while the first loads")
            raise ZeroDivisionError
        first_ended.set()

    def second() -> None:
        with quiet():
            inside.set()
            first_ended.wait(5)
            assert not diffusers_logging.is_progress_bar_enabled()
            logger.warning("while the second loads")
            logger.error("an error")
            outside_done.wait(5)

    before = handler.setStream(shown)
    try:
        threads = [threading.Thread(target=target) for target in (first, second)]
        for thread in threads:
            thread.start()
        first_ended.wait(5)
        logger.warning("by who does not load")
        outside_done.set()
        for thread in threads:
            thread.join()
    finally:
        handler.setStream(before)
    assert "loads" not in shown.getvalue()
    assert "by who does not load" in shown.getvalue() and "an error" in shown.getvalue()
    assert (logging.getLogger("diffusers").level, handler.level) == levels
    assert diffusers_logging.is_progress_bar_enabled()


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_component_is_named(copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    with pytest.raises(BaseError, match=rf"lacks {part}: .*whole folder again"):
        load_base(str(copy), device="cpu")


def test_truncated_weights(copy: Path) -> None:
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(BaseError, match=r"damaged weights.*diffusion_pytorch_model"):
        load_base(str(copy), device="cpu")


def test_a_shard_that_is_missing_is_named(copy: Path) -> None:
    tiny_pipeline().unet.save_pretrained(copy / "unet", max_shard_size="100KB")
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    load_base(str(copy), device="cpu")
    shard = next((copy / "unet").glob("*-00002-of-*.safetensors"))
    shard.unlink()
    with pytest.raises(BaseError, match=rf"lacks {shard.name} in unet/, one of \d+ shards"):
        load_base(str(copy))


def test_a_git_lfs_pointer(copy: Path) -> None:
    (copy / "vae" / "diffusion_pytorch_model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\n"
    )
    with pytest.raises(BaseError, match="git lfs pull"):
        load_base(str(copy), device="cpu")


def test_pickled_weights_are_not_opened(copy: Path) -> None:
    file = copy / "text_encoder" / "model.safetensors"
    file.rename(file.with_name("pytorch_model.bin"))
    with pytest.raises(BaseError, match=r"only pytorch_model\.bin: pickles can run code"):
        load_base(str(copy), device="cpu")


def test_the_command_for_pickled_weights_works(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_base(str(copy), device="cpu")
    for part in ("unet", "vae", "text_encoder"):
        [file] = (copy / part).glob("*.safetensors")
        torch.save(
            load_file(file), file.with_name("pytorch_model.bin" if "text" in part else f"{file.stem}.bin")
        )
        file.unlink()
    spaced = copy.rename(copy.with_name("an $(old) one"))
    with pytest.raises(BaseError, match="restricted reader") as told:
        load_base(str(spaced), device="cpu")
    code, *paths = shlex.split(str(told.value).partition("python -c ")[2])
    monkeypatch.setattr("sys.argv", ["-c", *paths])
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, {})
    made = load_base(paths[1], device="cpu")
    assert differing(weights(made.pipe), weights(whole.pipe)) == set()


@pytest.mark.parametrize(
    "entry", [None, ["os", "system"], ["diffusers"], "UNet2DConditionModel", [None, None]]
)
def test_an_index_that_names_no_class(copy: Path, entry: object) -> None:
    rewrite(copy / "model_index.json", unet=entry)
    with pytest.raises(BaseError, match=r"for its unet in model_index\.json, where a class of diffusers or"):
        load_base(str(copy), device="cpu")


def test_a_prediction_type_that_is_none(copy: Path) -> None:
    rewrite(copy / "scheduler" / "scheduler_config.json", prediction_type="banana")
    with pytest.raises(BaseError, match=r"prediction_type is 'banana'; allowed are epsilon, v_prediction"):
        load_base(str(copy), device="cpu")


@pytest.mark.parametrize("target", ["x.safetensors", "nowhere.safetensors", "folder"])
def test_a_link_that_leads_nowhere(tmp_path: Path, target: str) -> None:
    (link := tmp_path / "x.safetensors").symlink_to(target)
    with pytest.raises(BaseError, match="is a link that leads to no file"):
        load_base(str(link), device="cpu")


@pytest.mark.parametrize(
    "part", ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"]
)
def test_a_tensor_that_is_missing_is_not_made_up(copy: Path, part: str) -> None:
    file = copy / f"{part}.safetensors"
    tensors = load_file(file)
    del tensors[sorted(tensors)[-1]]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(BaseError, match="again"):
        load_base(str(copy), device="cpu")


def test_another_kind_of_pipeline_is_refused(copy: Path) -> None:
    rewrite(copy / "model_index.json", _class_name="StableDiffusionXLPipeline")
    with pytest.raises(BaseError, match="lacks text_encoder_2 and tokenizer_2: a StableDiffusionXLPipeline"):
        load_base(str(copy), device="cpu")
    rewrite(copy / "model_index.json", _class_name="FluxPipeline")
    with pytest.raises(BaseError, match="is a FluxPipeline"):
        load_base(str(copy), device="cpu")


@pytest.mark.parametrize(("width", "family"), [(768, "sd1"), (1024, "sd2"), (16, "sd-16")])
def test_the_width_of_cross_attention_tells_the_family(copy: Path, width: int, family: str) -> None:
    from lorastyle.bases.folder import inspect_folder

    rewrite(copy / "unet" / "config.json", cross_attention_dim=width)
    assert inspect_folder(copy, "x").family == family


def test_damaged_json(copy: Path) -> None:
    (copy / "model_index.json").write_text("{")
    with pytest.raises(BaseError, match=r"model_index\.json cannot be read"):
        load_base(str(copy), device="cpu")


def test_a_damaged_vocabulary_is_told_in_a_sentence(copy: Path) -> None:
    (vocabulary,) = (copy / "tokenizer").glob("tokenizer.json")
    vocabulary.write_text("{}")
    with pytest.raises(BaseError, match=r"its files have no 'added_tokens'\. Get the folder again"):
        load_base(str(copy), device="cpu")


def test_a_folder_that_is_no_pipeline(tmp_path: Path) -> None:
    with pytest.raises(BaseError, match=r"has no model_index\.json"):
        load_base(str(tmp_path))


def test_a_name_that_is_nothing() -> None:
    with pytest.raises(BaseError, match=r'There is no base "embeded"\..*Did you mean "embedded"'):
        load_base("embeded")


def test_a_hub_id_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BaseError, match=r'"nobody/nothing".*Hub (cannot be reached|is switched off)'):
        load_base("nobody/nothing")


@pytest.mark.skipif(not (EMBEDDED / "model_index.json").exists(), reason="the embedded base is not built")
def test_the_embedded_base() -> None:
    base = load_base("embedded", device="cpu")
    assert (base.family, base.resolution, base.prediction_type) == ("lorastyle-icons", 128, "v_prediction")


@pytest.mark.parametrize("kept", [(), ("vocab.json",), ("tokenizer_config.json",)])
def test_a_base_without_words_is_refused(copy: Path, kept: tuple[str, ...]) -> None:
    """transformers makes an empty tokenizer of it, which knows no word and does not complain."""
    for file in (copy / "tokenizer").iterdir():
        if file.name not in kept:
            file.unlink()
    with pytest.raises(BaseError, match="no vocabulary in tokenizer/"):
        load_base(str(copy))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_part_without_its_config_is_named(copy: Path, part: str) -> None:
    (copy / part / "config.json").unlink()
    with pytest.raises(BaseError, match=rf"config\.json in .*{part}.*Copy or download"):
        load_base(str(copy))


def test_a_scheduler_that_is_a_list(copy: Path) -> None:
    (copy / "scheduler" / "scheduler_config.json").write_text("[]")
    with pytest.raises(BaseError, match="holds no JSON object"):
        load_base(str(copy))


@pytest.mark.parametrize(
    ("file", "changes", "why"),
    [
        ("scheduler/scheduler_config.json", {"_class_name": "EDMEulerScheduler"}, "scheduler is EDMEuler"),
        ("scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "FlowMatch"),
        ("vae/config.json", {"latents_mean": [0.0] * 4, "latents_std": [2.0] * 4}, "a mean and a deviation"),
    ],
)
def test_another_noise_schedule_is_refused(
    copy: Path, file: str, changes: dict[str, object], why: str
) -> None:
    rewrite(copy / file, **changes)
    with pytest.raises(BaseError, match=rf"another noise schedule.*{why}.*Playground 2\.5"):
        load_base(str(copy))


def test_a_part_of_a_base_names_the_whole(copy: Path) -> None:
    with pytest.raises(BaseError, match="Name the folder above"):
        load_base(str(copy / "unet"))


def test_a_long_prompt_is_told_shortly(saved: Path) -> None:
    base = load_base(str(saved), device="cpu")
    with pytest.warns(UserWarning, match="Dropped: ") as told:
        base.encode_prompts(["a cat " * 1500])
    assert len(str(told[0].message)) < 1500
