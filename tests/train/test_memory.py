"""Training in every memory mode, and which one is chosen for a card."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.models import make_autoencoder, make_clip_big_g, make_clip_l, make_unet
from lorastyle.adapters import read_info
from lorastyle.bases import MODES, Attached, StableDiffusion, load_base, open_pipeline, rounded_modes
from lorastyle.bases.needs import drawing_bytes
from lorastyle.errors import BaseError, ConfigError
from lorastyle.generate import AdapterUse, Engine, GenerateRequest, choose_memory
from lorastyle.generate.room import attached_by
from lorastyle.train import Plan, StepDone, TrainConfig, fit, make_plan, scan
from tests.tiny import tiny_pipeline, tiny_xl_pipeline
from tests.train.running import factors, listener, same, short, stop_at, tiny_base
from tests.watched import watch

pytestmark = pytest.mark.usefixtures("quick")
NF4 = pytest.param("nf4", marks=pytest.mark.skipif("nf4" not in rounded_modes(), reason="no bitsandbytes"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "tiny"
    tiny_pipeline().save_pretrained(path)
    return path


def test_offloaded_it_trains_the_same_bits(images: Path, tmp_path: Path) -> None:
    """Text encoder and all, with a sample in the middle; every part goes home."""
    settings = {"text_encoder_lr": 1e-3, "sample_every": 2, "sheet": True}
    first, other = (fit(short(images, tmp_path / name, **settings, seed=seed), base=tiny_base()).adapter
                    for name, seed in (("a.safetensors", 0), ("b.safetensors", 1)))  # fmt: skip
    watched = watch(tiny_base())
    watched.base.placement.arrange("offload")
    second = fit(short(images, tmp_path / "c.safetensors", **settings), base=watched.base).adapter
    base = tiny_base()
    assert same(factors(first, base), factors(second, base))
    assert not same(factors(first, base), factors(other, base)), "the comparison can fail"
    assert watched.home()
    fetched = [name for name, where in watched.moves if where == "cuda"]
    assert fetched.count("vae") == 3, "a sample and two halves of a sheet; latents were cached"
    assert fetched.count("unet") == 4, "once for the run, and again after each time that it made room"


def test_an_offloaded_run_that_breaks_leaves_everything_at_home(images: Path, out: Path) -> None:
    watched = watch(tiny_base())
    watched.base.placement.arrange("offload")

    def fail(event: object) -> None:
        if isinstance(event, StepDone):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(short(images, out), base=watched.base, on_event=fail)
    assert watched.home() and ("unet", "cuda") in watched.moves


def losses(folder: Path, images: Path, out: Path, memory: str, lr: float) -> list[float]:
    events: list[object] = []
    config = short(
        images, out, base=str(folder), memory=memory, lr=lr, steps=40, precision="float32", sheet=False
    )
    fit(config, on_event=listener(events))
    return [event.loss for event in events if isinstance(event, StepDone)][-20:]


def test_a_rounded_base_teaches_as_the_full_one(folder: Path, images: Path, tmp_path: Path) -> None:
    """Loss by loss against a run that learns nothing: all draw the same noise."""

    def learnt(memory: str) -> float:
        idle, taught = (
            sum(losses(folder, images, tmp_path / f"{memory}-{lr}.safetensors", memory, lr))
            for lr in (1e-9, 2e-2)
        )
        return 1 - taught / idle

    full = learnt("fast")
    assert full > 0.02
    for mode in rounded_modes():
        assert abs(learnt(mode) - full) < 0.25 * full, mode


@pytest.mark.parametrize("mode", ["int8", NF4])
def test_its_adapter_draws_on_the_full_base(folder: Path, images: Path, out: Path, mode: str) -> None:
    result = fit(short(images, out, base=str(folder), memory=mode, lr=5e-2, steps=8))
    assert f'memory = "{mode}"' in result.toml.read_text()
    pictures = {}
    for use in ((), (AdapterUse(str(result.adapter)),)):
        engine = Engine(load_base(str(folder), device="cpu", memory="fast"))
        picture = engine.generate(GenerateRequest("a cat, ink style", adapters=use, seed=1, steps=2))[0]
        pictures[len(use)] = picture.image.tobytes()
    assert pictures[0] != pictures[1]


def test_a_run_goes_on_with_the_weights_that_it_began_with(folder: Path, images: Path, out: Path) -> None:
    assert fit(short(images, out, base=str(folder), memory="int8"), on_event=stop_at(2)).interrupted
    with pytest.raises(ConfigError, match=r"linear layers was 8 when .* is all now"):
        fit(short(images, out, base=str(folder), memory="fast"), resume=True)
    done = fit(short(images, out, base=str(folder), memory="int8"), resume=True)
    assert done.steps == 4 and not done.interrupted


def test_a_loaded_base_stays_as_it_is(images: Path, out: Path) -> None:
    base = tiny_base()
    assert plan_of(base, images).memory == "fast"
    with pytest.raises(BaseError, match='loaded as "fast"'):
        plan_of(base, images, memory="int8")
    base.placement.arrange("int8")
    assert plan_of(base, images).memory == "int8"
    base = tiny_base()
    base.placement.arrange("sequential")
    with pytest.raises(BaseError, match="gradient cannot be taken"):
        plan_of(base, images)


def test_training_has_no_sequential_mode(images: Path) -> None:
    with pytest.raises(ConfigError, match='allowed are "auto", "fast", "offload", "int8", "nf4"'):
        TrainConfig(images=str(images), memory="sequential")


# ---- what is chosen for a card, by true sizes without weights ----------------------------------------------


def on_a_card(family: str) -> StableDiffusion:
    pipe = tiny_xl_pipeline() if family == "sdxl" else tiny_pipeline(prediction_type="epsilon")
    with torch.device("meta"):
        pipe.unet, pipe.vae = nn.Module.to(make_unet(family), torch.bfloat16), make_autoencoder()
        pipe.text_encoder = make_clip_l()
        if family == "sdxl":
            pipe.text_encoder_2 = make_clip_big_g()  # type: ignore[union-attr]
    return open_pipeline(pipe, name=family, dtype=torch.bfloat16, device=torch.device("cuda"))


@pytest.fixture(scope="module")
def cards() -> dict[str, StableDiffusion]:
    return {family: on_a_card(family) for family in ("sd1", "sdxl")}


def with_free(gigabytes: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for room in ("train.room", "bases.needs"):
        monkeypatch.setattr(f"lorastyle.{room}.free_memory", lambda device: int(gigabytes * 1e9))  # type: ignore[misc]


def plan_of(base: StableDiffusion, images: Path, **settings: object) -> Plan:
    config = TrainConfig(**{"images": str(images), **settings})  # type: ignore[arg-type]
    return make_plan(config, base, scan(config))


@pytest.mark.parametrize(
    ("family", "free", "expected"),
    [
        ("sd1", 24, ("fast", False, 4)),
        ("sd1", 7.6, ("fast", True, 4)),
        ("sd1", 3.5, ("offload", True, 2)),
        ("sdxl", 78, ("fast", False, 4)),
        ("sdxl", 15.5, ("fast", True, 4)),
        ("sdxl", 11.5, ("offload", True, 4)),
        ("sdxl", 7.6, ("offload", True, 1)),
        ("sdxl", 5, ("int8", True, 1)),
    ],
)
def test_what_a_card_has_room_for(
    cards: dict[str, StableDiffusion],
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    free: float,
    expected: tuple[str, bool, int],
) -> None:
    """SD 1.5 at 512 on 8 GB and SDXL at 1024 on 12 GB without rounding are what the project promises."""
    with_free(free, monkeypatch)
    plan = plan_of(cards[family], images)
    assert (plan.memory, plan.gradient_checkpointing, plan.batch_size) == expected
    assert plan.memory_bytes < free * 1e9
    told = dict(plan.describe())["memory"]
    assert told.startswith(f"{plan.memory}, about") and f"of the {free:.1f} GB free on cuda" in told
    assert ('"fast" would want' in told) == (plan.memory != "fast")


def test_what_does_not_fit_is_told_with_what_would(
    cards: dict[str, StableDiffusion], images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free(2, monkeypatch)
    with pytest.raises(
        ConfigError, match=r"1024 pixels .* fast .* int8 with gradient .* 2\.0 GB are free"
    ) as told:
        plan_of(cards["sdxl"], images)
    assert "--resolution 768" in str(told.value) and "--memory int8" in str(told.value)
    with pytest.raises(BaseError, match=r"does not fit cuda: .*sequential .* 0\.10 GB are free"):
        with_free(0.1, monkeypatch)
        choose_memory(cards["sdxl"], GenerateRequest("a cat"))


def test_checkpointing_that_was_set_is_kept(
    cards: dict[str, StableDiffusion], images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free(24, monkeypatch)
    assert plan_of(cards["sd1"], images, gradient_checkpointing=True).gradient_checkpointing
    with_free(3.5, monkeypatch)
    assert not plan_of(
        cards["sd1"], images, gradient_checkpointing=False, batch_size=1
    ).gradient_checkpointing


@pytest.mark.parametrize(
    ("free", "number", "expected"),
    [(24, 9, ("fast", 4)), (15.5, 4, ("fast", 4)), (11.5, 4, ("offload", 4)), (6.3, 1, ("offload", 1))],
)
def test_what_a_card_has_room_to_draw(
    cards: dict[str, StableDiffusion],
    monkeypatch: pytest.MonkeyPatch,
    free: float,
    number: int,
    expected: tuple[str, int],
) -> None:
    with_free(free, monkeypatch)
    choice = choose_memory(cards["sdxl"], GenerateRequest("a cat", number=number))
    assert (choice.mode, choice.pictures) == expected


def test_what_is_larger_wants_more(
    cards: dict[str, StableDiffusion], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Modes that round take it in tiles as well."""
    with_free(6.3, monkeypatch)
    choice = choose_memory(cards["sdxl"], GenerateRequest("a cat", hires=1.25))
    assert (choice.mode, choice.pictures) == ("int8", 1)


def adapter_file(path: Path, end: dict[str, int]) -> str:
    """An adapter of SDXL's UNet whose one module has vectors of so many numbers under these key ends."""
    place = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    save_file(
        {f"{place}.{name}": torch.zeros(count, dtype=torch.float16) for name, count in end.items()}, path
    )
    return str(path)


@pytest.mark.parametrize(
    ("free", "end", "expected"),
    [
        (15.5, {}, "fast"),
        (
            15.5,
            {"lokr_w1": 4, "lokr_w2": 4},
            "offload",
        ),  # the UNet's originals beside what stands in for them
        (24, {"lokr_w1": 4, "lokr_w2": 4}, "fast"),
        (6.3, {"lokr_w1": 4, "lokr_w2": 4}, "offload"),  # there only what stands in goes to the card
        (15.5, {"w_norm": 640}, "fast"),
    ],
)
def test_what_adapters_bring_is_counted(
    cards: dict[str, StableDiffusion],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: float,
    end: dict[str, int],
    expected: str,
) -> None:
    with_free(free, monkeypatch)
    uses = (AdapterUse(adapter_file(tmp_path / "a.safetensors", end)),) if end else ()
    choice = choose_memory(cards["sdxl"], GenerateRequest("a cat", adapters=uses))
    assert choice.mode == expected


def test_low_rank_factors_are_counted_in_the_bases_type(
    cards: dict[str, StableDiffusion], tmp_path: Path
) -> None:
    file = adapter_file(tmp_path / "a.safetensors", {"lora_down.weight": 640, "lora_up.weight": 640})
    attached = attached_by(cards["sdxl"], [read_info(file)])
    assert attached == Attached(factors=1280 * 2)
    sizes = [drawing_bytes(cards["sdxl"], MODES["offload"], 1024**2, 1, a) for a in (Attached(), attached)]
    assert sizes[1] - sizes[0] == 1280 * 2


def test_what_is_added_to_weights_wants_them_whole(
    cards: dict[str, StableDiffusion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be refused by rounded ones, so these are not chosen for it."""
    with_free(4, monkeypatch)
    assert choose_memory(cards["sdxl"], GenerateRequest("a cat")).mode == "int8"
    lokr = AdapterUse(adapter_file(tmp_path / "a.safetensors", {"lokr_w1": 4, "lokr_w2": 4}))
    with pytest.raises(BaseError, match=r"fast .*, offload .* are free") as told:
        choose_memory(cards["sdxl"], GenerateRequest("a cat", adapters=(lokr,)))
    assert "int8" not in str(told.value) and "sequential" not in str(told.value)


def test_on_a_processor_everything_stays(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(0.000001, monkeypatch)
    base = tiny_base()
    assert plan_of(base, images).memory == "fast" and choose_memory(base, GenerateRequest("a")).mode == "fast"
