"""AdapterBank on the tiny pipeline: coming, going, scales, errors, and a base that never changes."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from torch import Tensor, nn

from lorastyle.adapters import Adapter, LowRank
from lorastyle.bank import GatedLayer, attach
from lorastyle.errors import AdapterError, BaseMismatchError
from tests.bank.adapters import random_adapter, same_bits
from tests.tiny import tiny_pipeline

PARTS = ("unet", "text_encoder")


@pytest.fixture(scope="module")
def shared_pipe() -> StableDiffusionPipeline:
    return tiny_pipeline()


@pytest.fixture
def pipe(shared_pipe: StableDiffusionPipeline) -> Iterator[StableDiffusionPipeline]:
    yield shared_pipe
    for part in models(shared_pipe).values():
        assert not any(isinstance(m, GatedLayer) for m in part.modules()), "a test left its bank attached"


def models(pipe: StableDiffusionPipeline) -> dict[str, nn.Module]:
    return {part: getattr(pipe, part) for part in PARTS}


def output(pipe: StableDiffusionPipeline) -> Tensor:
    """The UNet's output for two prompts, through the text encoder."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 200, (2, 8), generator=generator)
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    with torch.no_grad():
        text = pipe.text_encoder(tokens)[0]
        return pipe.unet(latents.to(pipe.unet.dtype), torch.tensor([10, 900]), text).sample


def inventory(pipe: StableDiffusionPipeline) -> dict[str, tuple[nn.Module, dict[str, tuple[int, bytes]]]]:
    """Every module object by path, with the identity and the bytes of its own tensors."""
    return {
        f"{part}.{path}": (
            module,
            {
                name: (id(tensor), tensor.detach().contiguous().view(torch.uint8).numpy().tobytes())
                for name, tensor in module.named_parameters(recurse=False)
            },
        )
        for part, model in models(pipe).items()
        for path, module in model.named_modules()
    }


def same_inventory(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return list(a) == list(b) and all(a[path][0] is b[path][0] and a[path][1] == b[path][1] for path in a)


def test_attach_takes_pipelines_mappings_and_modules(pipe: StableDiffusionPipeline) -> None:
    assert repr(attach(pipe)) == "AdapterBank(unet, text_encoder; no adapters)"
    assert repr(attach(models(pipe))) == "AdapterBank(unet, text_encoder; no adapters)"
    assert repr(attach(pipe.unet)) == "AdapterBank(unet; no adapters)"
    for nothing in (object(), {}, {"vae": pipe.vae}, {"unet": 3}):
        with pytest.raises(AdapterError):
            attach(nothing)


def test_an_adapter_changes_the_output_and_detach_brings_everything_back(
    pipe: StableDiffusionPipeline,
) -> None:
    before, plain = inventory(pipe), output(pipe)
    bank = attach(pipe)
    bank.add(random_adapter("one", models(pipe)))
    assert (output(pipe) - plain).abs().max() > 1e-3
    assert not same_inventory(inventory(pipe), before)
    bank.detach()
    assert bank.names == ()
    assert same_inventory(inventory(pipe), before)
    assert same_bits(output(pipe), plain)


def test_a_with_block_detaches_when_it_fails(pipe: StableDiffusionPipeline) -> None:
    before = inventory(pipe)
    with pytest.raises(KeyboardInterrupt), attach(pipe) as bank:
        bank.add(random_adapter("one", models(pipe)))
        bank.fuse()
        raise KeyboardInterrupt
    assert same_inventory(inventory(pipe), before)


def test_a_second_bank_is_refused(pipe: StableDiffusionPipeline) -> None:
    with attach(pipe) as bank:
        bank.add(random_adapter("one", models(pipe)))
        with pytest.raises(AdapterError, match="another bank's adapters on it"):
            attach(pipe)


def test_adapters_add_up(pipe: StableDiffusionPipeline) -> None:
    """Two adapters stacked are the one adapter whose factors are theirs, concatenated."""
    one, two = (random_adapter(f"{i}", models(pipe), rank=2 + i, alpha=1.0 + i, seed=i) for i in range(2))
    both: dict[str, dict[str, LowRank]] = {}
    for part in PARTS:
        both[part] = {}
        for path, a in one.components[part].items():
            b = two.components[part][path]
            up = torch.cat([0.6 * a.scale * a.up, -0.3 * b.scale * b.up], dim=1)
            both[part][path] = LowRank(torch.cat([a.down, b.down]), up, a.rank + b.rank)
    plain = output(pipe)
    with attach(pipe) as bank:
        bank.add(one, scale=0.6)
        bank.add(two, scale=-0.3)
        stacked = output(pipe)
    with attach(pipe) as bank:
        bank.add(Adapter("both", both))
        torch.testing.assert_close(stacked, output(pipe), atol=1e-5, rtol=0)
    assert (stacked - plain).abs().max() > 1e-3


def test_scales(pipe: StableDiffusionPipeline) -> None:
    plain = output(pipe)
    with attach(pipe) as bank:
        bank.add(random_adapter("one", models(pipe)))
        bank.add(random_adapter("two", {"unet": pipe.unet}, ["attention"], seed=1), scale=0.5)
        assert bank.scales == {"one": {"unet": 1.0, "text_encoder": 1.0}, "two": {"unet": 0.5}}
        full = output(pipe)
        bank.set_scales({"one": {"text_encoder": 0.25}, "two": {"unet": 2, "text_encoder": 1}})
        assert bank.scales == {"one": {"unet": 1.0, "text_encoder": 0.25}, "two": {"unet": 2.0}}
        assert (output(pipe) - full).abs().max() > 1e-3
        with bank.scaled({"one": 0, "two": 0}):
            assert same_bits(output(pipe), plain)
        assert bank.scales == {"one": {"unet": 1.0, "text_encoder": 0.25}, "two": {"unet": 2.0}}
        bank.set_scales({"one": 1, "two": 0.5})
        assert same_bits(output(pipe), full)


def test_an_adapter_at_zero_changes_no_bit_of_another(pipe: StableDiffusionPipeline) -> None:
    with attach(pipe) as bank:
        bank.add(random_adapter("one", models(pipe)))
        alone = output(pipe)
        bank.add(random_adapter("two", models(pipe), rank=5, seed=1), scale=0)
        assert same_bits(output(pipe), alone)
        bank.set_scales({"two": 1})
        assert not same_bits(output(pipe), alone)


def test_disabled(pipe: StableDiffusionPipeline) -> None:
    plain = output(pipe)
    with attach(pipe) as bank:
        bank.add(random_adapter("one", models(pipe)))
        drawn = output(pipe)
        with bank.disabled(), bank.disabled():
            assert same_bits(output(pipe), plain)
            bank.add(random_adapter("two", {"unet": pipe.unet}, ["conv_in"], seed=1))
            assert same_bits(output(pipe), plain)
        assert not same_bits(output(pipe), plain)
        bank.remove("two")
        assert same_bits(output(pipe), drawn)
        with bank.fused():
            fused = output(pipe)
            with bank.disabled():
                assert same_bits(output(pipe), plain)
            assert same_bits(output(pipe), fused)
            assert bank.is_fused


def test_fused_is_the_bank(pipe: StableDiffusionPipeline) -> None:
    before, plain = inventory(pipe), output(pipe)
    with attach(pipe) as bank:
        bank.add(random_adapter("one", models(pipe), rank=4, alpha=3.0), scale=0.7)
        bank.add(random_adapter("two", models(pipe), rank=2, alpha=1.0, seed=1), scale=-0.4)
        drawn = output(pipe)
        count = sum(p.numel() for p in pipe.unet.parameters())
        with bank.fused():
            torch.testing.assert_close(output(pipe), drawn, atol=1e-5, rtol=0)
            assert sum(p.numel() for p in pipe.unet.parameters()) == count
            weights = pipe.unet.state_dict()
        assert same_bits(output(pipe), drawn)
        with pytest.raises(ZeroDivisionError), bank.fused():
            raise ZeroDivisionError
        assert not bank.is_fused and same_bits(output(pipe), drawn)
    assert same_inventory(inventory(pipe), before)
    assert (drawn - plain).abs().max() > 1e-3

    class_ = type(pipe.unet)
    merged = class_.from_config(pipe.unet.config)
    merged.load_state_dict(weights, strict=True)
    pipe.unet, kept = merged.eval(), pipe.unet
    with attach({"text_encoder": pipe.text_encoder}) as bank:
        for name, scale in (("one", 0.7), ("two", -0.4)):
            one = name == "one"
            whole = random_adapter(
                name,
                {"unet": kept, "text_encoder": pipe.text_encoder},
                rank=4 if one else 2,
                alpha=3.0 if one else 1.0,
                seed=0 if one else 1,
            )
            bank.add(Adapter(name, {"text_encoder": whole.components["text_encoder"]}), scale=scale)
        torch.testing.assert_close(output(pipe), drawn, atol=1e-5, rtol=0)
    pipe.unet = kept


def test_fused_convolutions_in_channels_last() -> None:
    model: Any = nn.Sequential(nn.Conv2d(8, 6, 3, stride=2, padding=1))
    model.to(memory_format=torch.channels_last)
    x = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0)).contiguous(
        memory_format=torch.channels_last
    )
    plain = model(x)
    with attach(model) as bank:
        bank.add(random_adapter("one", {"unet": model}, ["*"]))
        drawn = model(x)
        with bank.fused():
            torch.testing.assert_close(model(x), drawn, atol=1e-5, rtol=0)
    assert (drawn - plain).abs().max() > 1e-3 and same_bits(model(x), plain)


def test_nothing_changes_while_fused(pipe: StableDiffusionPipeline) -> None:
    with attach(pipe) as bank:
        adapter = random_adapter("one", models(pipe))
        bank.add(adapter)
        with bank.fused():
            for change in (
                lambda: bank.add(random_adapter("two", models(pipe))),
                lambda: bank.create("two", {"unet": ["attention"]}, rank=2),
                lambda: bank.remove("one"),
                lambda: bank.set_scales({"one": 0.5}),
            ):
                with pytest.raises(AdapterError, match=r"while the bank is fused; call restore\(\) first"):
                    change()


def test_a_move_while_fused_comes_back_in_the_new_dtype() -> None:
    model: Any = nn.Sequential(nn.Linear(8, 8))
    weight = model[0].weight
    bits = weight.detach().clone()
    with attach(model) as bank:
        bank.add(random_adapter("one", {"unet": model}, ["*"]))
        bank.fuse()
        model.to(torch.bfloat16)
    assert model[0].weight is weight and same_bits(weight, bits.bfloat16())


def test_quantised_weights_carry_adapters_but_do_not_fuse() -> None:
    class Quantised(nn.Linear):
        """8-bit weights with one scale, like the linear layers of quantisation libraries."""

        def __init__(self) -> None:
            super().__init__(8, 4, bias=False)
            self.step = self.weight.detach().abs().max() / 127
            self.weight = nn.Parameter((self.weight / self.step).round().to(torch.int8), requires_grad=False)

        def forward(self, input: Tensor) -> Tensor:
            return nn.functional.linear(input, self.weight * self.step)

    model = nn.Sequential(Quantised())
    adapter = random_adapter("one", {"unet": model}, ["*"])
    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    plain = model(x)
    with attach(model) as bank:
        bank.add(adapter)
        delta = x @ adapter.components["unet"]["0"].delta().T
        torch.testing.assert_close(model(x), plain + delta)
        assert delta.abs().max() > 0.1
        with pytest.raises(AdapterError, match="its weights are quantised"):
            bank.fuse()
        assert not bank.is_fused


def test_offloaded_weights_carry_adapters_but_do_not_fuse() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    adapter = random_adapter("one", {"unet": model}, ["*"])
    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    plain = model(x)
    with attach(model) as bank:
        bank.add(adapter)
        expected = model(x)
    cpu_offload(model, execution_device=torch.device("cpu"))
    with attach(model) as bank:
        bank.add(adapter)
        assert bank.names and next(iter(model.parameters())).device.type == "meta"
        assert same_bits(model(x), expected) and not torch.equal(expected, plain)
        with pytest.raises(AdapterError, match="its weights are offloaded"):
            bank.fuse()
    assert same_bits(model(x), plain)


def test_a_shared_module_is_wrapped_in_every_place() -> None:
    shared = nn.Linear(6, 6)
    model: Any = nn.ModuleDict({"a": nn.Sequential(shared, shared), "b": nn.ModuleDict({"again": shared})})
    adapter = random_adapter("one", {"unet": model}, ["*"])
    assert list(adapter.components["unet"]) == ["a.0"]
    with attach(model) as bank:
        bank.add(adapter)
        layer = model["a"][0]
        assert isinstance(layer, GatedLayer) and model["a"][1] is layer and model["b"]["again"] is layer
        update = adapter.components["unet"]["a.0"]
        with pytest.raises(AdapterError, match="changes one shared module twice"):
            bank.add(Adapter("two", {"unet": {"a.0": update, "b.again": update}}))
        bank.add(Adapter("three", {"unet": {"b.again": update}}))
        assert layer.rank == 2 * update.rank
    assert model["a"][0] is shared and model["a"][1] is shared and model["b"]["again"] is shared


def test_factors_of_a_1x1_convolution_fit_a_linear_and_back() -> None:
    for module, x in ((nn.Linear(6, 4), torch.ones(1, 6)), (nn.Conv2d(6, 4, 1), torch.ones(1, 6, 1, 1))):
        model = nn.Sequential(module)
        own = random_adapter("own", {"unet": model}, ["*"]).components["unet"]["0"]
        extra = () if own.down.ndim == 4 else (1, 1)
        other = LowRank(
            own.down.reshape(*own.down.shape[:2], *extra),
            own.up.reshape(*own.up.shape[:2], *extra),
            own.alpha,
        )
        plain = model(x)
        with attach(model) as bank:
            bank.add(Adapter("own", {"unet": {"0": own}}))
            expected = model(x)
        with attach(model) as bank:
            bank.add(Adapter("other", {"unet": {"0": other}}))
            assert same_bits(model(x), expected) and not torch.equal(expected, plain)


def test_an_adapter_for_another_base_is_refused_whole(pipe: StableDiffusionPipeline) -> None:
    before = inventory(pipe)
    good = random_adapter("good", {"unet": pipe.unet}, ["attention"]).components["unet"]
    wrong = {
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_p": next(iter(good.values())),
        **{path: LowRank(torch.ones(2, 99), torch.ones(7, 2), 2.0) for path in list(good)[:7]},
    }
    bank = attach(pipe)
    with pytest.raises(BaseMismatchError) as raised:
        bank.add(Adapter("stranger", {"unet": {**good, **wrong}}))
    message = str(raised.value)
    assert "8 of its " in message and "and 4 more" in message
    assert "(2, 99)" in message and "(2, 16)" in message
    with pytest.raises(BaseMismatchError, match=r"attn1.to_p does not exist. Did you mean .*attn1.to_"):
        bank.add(Adapter("stranger", {"unet": dict(list(wrong.items())[:1])}))
    with pytest.raises(
        BaseMismatchError, match="changes text_encoder_2, and there is only unet, text_encoder"
    ):
        bank.add(Adapter("stranger", {"unet": good, "text_encoder_2": good}))
    with pytest.raises(AdapterError, match="changes no module"):
        bank.add(Adapter("nobody", {"unet": {}}))
    norm = {"conv_norm_out": next(iter(good.values()))}
    with pytest.raises(BaseMismatchError, match="GroupNorm cannot carry an adapter"):
        bank.add(Adapter("norm", {"unet": norm}))
    assert bank.names == () and same_inventory(inventory(pipe), before)


def test_names_and_numbers_are_checked(pipe: StableDiffusionPipeline) -> None:
    adapter = random_adapter("sticker", {"unet": pipe.unet}, ["attention"])
    with attach(pipe) as bank:
        bank.add(adapter)
        for number in (math.nan, math.inf, "1", None):
            with pytest.raises(AdapterError, match="must be a finite number"):
                bank.set_scales({"sticker": number})  # pyright: ignore[reportArgumentType]
            with pytest.raises(AdapterError, match="must be a finite number"):
                bank.add(random_adapter("ink", {"unet": pipe.unet}), scale=number)  # pyright: ignore[reportArgumentType]
        with pytest.raises(AdapterError, match="There is an adapter 'sticker' already"):
            bank.add(adapter)
        for unknown in (
            lambda: bank.remove("stickr"),
            lambda: bank.set_scales({"sticker": 0.3, "stickr": 0.5}),
            lambda: bank.export("stickr"),
            lambda: bank.parameters("stickr"),
        ):
            with pytest.raises(AdapterError, match=r'No adapter .stickr. here.*Did you mean "sticker"'):
                unknown()
        with pytest.raises(AdapterError, match="No component 'text_encoder_2' here"):
            bank.set_scales({"sticker": {"unet": 0.1, "text_encoder_2": 1}})
        assert bank.scales == {"sticker": {"unet": 1.0}}, "a refused change must change nothing"
        for wrong in (
            {"rank": 0},
            {"rank": 2.5},
            {"alpha": 0.0},
            {"alpha": math.nan},
            {"dropout": 1.0},
            {"dropout": -0.1},
        ):
            with pytest.raises(AdapterError, match="must be"):
                given: dict[str, Any] = {"rank": 2, **wrong}
                bank.create("new", {"unet": ["attention"]}, **given)
        assert bank.names == ("sticker",)
        assert bank.export("sticker", {"a": "b"}).metadata == {"a": "b"}


def test_residents_fill_what_their_factors_do(pipe: StableDiffusionPipeline) -> None:
    """Nothing beside the adapter while it is off; one stack of the factors while it is in use."""

    def stacked() -> int:
        return sum(
            b.nbytes for m in pipe.unet.modules() if isinstance(m, GatedLayer) for b in m.buffers(False)
        )

    unet = {"unet": pipe.unet}
    adapters = [random_adapter(f"a{i}", unet, ["attention"], rank=i + 2, seed=i) for i in range(4)]
    factors = [sum(u.down.nbytes + u.up.nbytes for u in a.components["unet"].values()) for a in adapters]
    rows = [sum(u.rank for u in a.components["unet"].values()) * 4 for a in adapters]
    with attach(pipe) as bank:
        for adapter in adapters:
            bank.add(adapter, scale=0.0)
        assert stacked() == 0
        for i in range(4):
            bank.set_scales({f"a{i}": 1.0})
            assert stacked() == sum(factors[: i + 1]) + sum(
                rows[: i + 1]
            )  # the gate has a number for each row
        bank.set_scales({"a1": 0.0})
        assert stacked() == sum(factors) - factors[1] + sum(rows) - rows[1]


def test_a_thousand_switches_leave_every_byte(pipe: StableDiffusionPipeline) -> None:
    """Fused and restored, with scales and adapters between that are drawn by lot."""

    def digest() -> str:
        total = hashlib.sha256()
        for model in models(pipe).values():
            for name, tensor in sorted(model.state_dict().items()):
                total.update(name.encode() + tensor.numpy().tobytes())
        return total.hexdigest()

    before, dice, unet = digest(), random.Random(0), {"unet": models(pipe)["unet"]}
    seen: set[str] = set()
    with attach(pipe) as bank:
        for i in range(3):
            bank.add(random_adapter(f"a{i}", unet, ["attention"], rank=i + 1, seed=i))
        for switch in range(1000):
            bank.set_scales({dice.choice(bank.names): dice.choice([0.0, 0.3, 1.0, -0.7])})
            bank.fuse()
            if switch % 100 == 0:
                seen.add(digest())
            bank.restore()
            if switch % 250 == 0:
                bank.remove(bank.names[0])
                bank.add(random_adapter(f"b{switch}", unet, ["attention"], seed=switch))
                assert digest() == before
        assert digest() == before
    assert digest() == before
    assert len(seen) > 5 and before not in seen


def test_fifty_random_changes_leave_the_base_as_it_was(pipe: StableDiffusionPipeline) -> None:
    before, plain = inventory(pipe), output(pipe)
    dice = random.Random(0)
    presets = (["attention"], ["attention+ff"], ["all"])
    differed = 0
    for _ in range(50):
        bank = attach(pipe)
        for step in range(dice.randint(2, 8)):
            change = dice.choice(["add", "add", "create", "remove", "scale", "fuse", "restore", "draw"])
            if change == "fuse":
                bank.fuse()
            elif change == "restore":
                bank.restore()
            elif change == "draw":
                differed += not same_bits(output(pipe), plain)
            elif bank.is_fused:
                continue
            elif change == "add":
                part = dice.choice(PARTS)
                bank.add(random_adapter(f"{step}", {part: models(pipe)[part]}, dice.choice(presets), rank=1))
            elif change == "create" and bank.trainable is None:
                bank.create("new", {"unet": dice.choice(presets)}, rank=2)
            elif change == "scale" and bank.names:
                bank.set_scales({dice.choice(bank.names): dice.choice([0.0, 0.5, -1.0])})
            elif change == "remove" and bank.names:
                bank.remove(dice.choice(bank.names))
        bank.detach()
        assert same_inventory(inventory(pipe), before)
    assert same_bits(output(pipe), plain)
    assert differed > 5, "the changes must have changed something"
