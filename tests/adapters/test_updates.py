"""Updates of every kind against LyCORIS's own classes, and against formulas written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lorastyle.adapters import (
    Adapter,
    load_adapter,
    load_adapter_report,
    model_hash,
    read_info,
    save_adapter,
)
from lorastyle.errors import AdapterError, AdapterFileError
from tests.adapters.examples import low_rank, relative_error
from tests.adapters.lycoris_files import CASES, made

pytestmark = pytest.mark.filterwarnings("ignore")
PATH = "down_blocks.0.thing"
NAME = f"lora_unet_{PATH.replace('.', '_')}"


def load(folder: Path, tensors: dict[str, Tensor], shape: tuple[int, ...]) -> Adapter:
    file = folder / "a.safetensors"
    safetensors.torch.save_file({f"{NAME}.{end}": tensor for end, tensor in tensors.items()}, file)
    adapter, report = load_adapter_report(file, {"unet": {PATH: shape}})
    assert report.complete
    return adapter


def delta(adapter: Adapter, weight: Tensor) -> Tensor:
    if low := adapter.components.get("unet", {}).get(PATH):
        return low.delta()
    found = adapter.dense["unet"][PATH].delta(weight)
    assert found is not None
    return found


@pytest.mark.parametrize("name", CASES)
def test_lycoris_agrees(tmp_path: Path, name: str) -> None:
    pytest.importorskip("lycoris")
    case = CASES[name]
    theirs = made(case)
    adapter = load(tmp_path, theirs.tensors, tuple(theirs.weight.shape))
    assert bool(adapter.components) == case.low_rank
    ours = delta(adapter, theirs.weight)
    assert ours.shape == theirs.weight.shape and ours.dtype == torch.float32
    dense = adapter.dense.get("unet", {}).get(PATH)
    bias = None if dense is None else dense.bias
    assert (bias is not None) == (name in ("full", "norm", "layer norm"))
    with torch.no_grad():
        change = theirs.output - theirs.with_weight(theirs.weight)
        again = theirs.with_weight(theirs.weight + ours, bias) - theirs.with_weight(theirs.weight)
        half = theirs.with_weight(theirs.weight + ours / 2, bias) - theirs.with_weight(theirs.weight)
    assert relative_error(again, change) < 1e-5
    assert relative_error(half, change) > 0.1


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if not case.low_rank])
def test_half_precision_weights_are_read_in_single(tmp_path: Path, name: str) -> None:
    theirs = made(CASES[name])
    weight = theirs.weight.bfloat16()
    adapter = load(tmp_path, theirs.tensors, tuple(weight.shape))
    assert torch.equal(delta(adapter, weight), delta(adapter, weight.float()))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_written_and_read_again(tmp_path: Path, name: str, dtype: str) -> None:
    theirs = made(CASES[name])
    adapter = load(tmp_path, theirs.tensors, tuple(theirs.weight.shape))
    shapes = {"unet": {PATH: tuple(theirs.weight.shape)}}
    first = save_adapter(adapter, tmp_path / "b.safetensors", dtype=dtype)
    again = load_adapter(first, shapes)
    assert relative_error(delta(again, theirs.weight), delta(adapter, theirs.weight)) < (
        1e-6 if dtype == "float32" else 3e-3
    )
    second = save_adapter(again, tmp_path / "c.safetensors", dtype=dtype)
    assert model_hash(first) == model_hash(second)


@pytest.mark.parametrize("format", ["diffusers", "peft"])
def test_what_other_formats_have_no_place_for(tmp_path: Path, format: str) -> None:
    path = tmp_path / ("a" if format == "peft" else "b.safetensors")
    for name in ("lokr", "dora on the inputs", "full"):
        theirs = made(CASES[name])
        adapter = load(tmp_path, theirs.tensors, tuple(theirs.weight.shape))
        with pytest.raises(AdapterError, match=r"has no place for\. Write it as 'kohya'"):
            save_adapter(adapter, path, format=format)
    dora = load(tmp_path, made(CASES["dora conv"]).tensors, (24, 20, 3, 3))
    both = Adapter("a", {"unet": {"b": low_rank((24, 20), 2, 2.0)}}, {}, dora.dense)
    with pytest.raises(AdapterError, match="Some modules are LoRA and some are DoRA"):
        save_adapter(both, path, format=format)
    assert not path.exists()
    again = load_adapter(
        save_adapter(dora, path, format=format, dtype="float32"), {"unet": {PATH: (24, 20, 3, 3)}}
    )
    weight = torch.randn(24, 20, 3, 3)
    assert relative_error(delta(again, weight), delta(dora, weight)) < 1e-6


def dora_of_rows(weight: Tensor, update: Tensor, magnitude: Tensor) -> Tensor:
    """The paper's formula, one row at a time, in float64."""
    rows = [
        m * row / row.norm()
        for m, row in zip(magnitude.double(), (weight + update).double().flatten(1), strict=True)
    ]
    return torch.stack(rows).reshape(weight.shape)


@pytest.mark.parametrize("shape", [(24, 20), (24, 20, 3, 3)])
@pytest.mark.parametrize("spelled", ["unet", "base_model.model"])
def test_peft_dora_is_of_rows(tmp_path: Path, shape: tuple[int, ...], spelled: str) -> None:
    """peft has it as (out,), and as (1, out, 1, 1) for convolutions."""
    update = low_rank(shape, 4, 4.0)
    weight, magnitude = torch.randn(shape), torch.rand(24) + 0.5
    stored = magnitude if len(shape) == 2 else magnitude.reshape(1, 24, 1, 1)
    file = tmp_path / "a.safetensors"
    safetensors.torch.save_file(
        {
            f"{spelled}.{PATH}.lora_A.weight": update.down,
            f"{spelled}.{PATH}.lora_B.weight": update.up,
            f"{spelled}.{PATH}.lora_magnitude_vector": stored,
        },
        file,
    )
    adapter = load_adapter(file, {"unet": {PATH: shape}})
    expected = dora_of_rows(weight, update.delta(), magnitude)
    assert relative_error(weight + delta(adapter, weight), expected) < 1e-6
    assert relative_error(weight + update.delta(), expected) > 0.1


def test_a_bias_beside_a_lora_carries_its_scale(tmp_path: Path) -> None:
    """In peft's `lora_bias` the bias is part of `up`, so it is scaled like it; a `diff_b` is not."""
    update, bias = low_rank((24, 20), 4, 2.0), torch.randn(24)
    factors = {"lora_A.weight": update.down, "lora_B.weight": update.up, "alpha": torch.tensor(2.0)}
    adapter = load(tmp_path, {**factors, "lora_B.bias": bias}, (24, 20))
    found = adapter.dense["unet"][PATH]
    assert found.bias is not None and torch.equal(found.bias, 0.5 * bias) and found.delta(bias) is None
    assert adapter.components["unet"][PATH].alpha == 2.0
    adapter = load(tmp_path, {**factors, "diff_b": bias}, (24, 20))
    found = adapter.dense["unet"][PATH]
    assert found.bias is not None and torch.equal(found.bias, bias)


def test_a_sparse_difference_beside_a_lora(tmp_path: Path) -> None:
    update = low_rank((24, 20), 4, 4.0)
    indices = torch.tensor([[0, 3], [1, 19]], dtype=torch.int16)
    tensors = {
        "lora_down.weight": update.down,
        "lora_up.weight": update.up,
        "bias_indices": indices,
        "bias_values": torch.tensor([2.0, 5.0]),
        "bias_size": torch.tensor([24, 20], dtype=torch.int16),
    }
    adapter = load(tmp_path, tensors, (24, 20))
    more = adapter.dense["unet"][PATH].delta(torch.zeros(24, 20))
    assert more is not None and int((more != 0).sum()) == 2
    assert float(more[0, 1]) == 2 and float(more[3, 19]) == 5
    for wrong in ({"bias_indices": indices - 2}, {"bias_size": torch.tensor([2, 20])}):
        with pytest.raises(AdapterFileError, match="places outside of"):
            load(tmp_path, {**tensors, **wrong}, (24, 20))


def test_info_names_the_algorithms(tmp_path: Path) -> None:
    load(tmp_path, made(CASES["lokr"]).tensors, (24, 20))
    info = read_info(tmp_path / "a.safetensors")
    assert info.algorithms == {"LoKr": 1} and not info.unsupported
    assert "LoKr" in info.describe()


BROKEN: dict[str, dict[str, Tensor]] = {
    "loha of two ranks": {
        "hada_w1_a": torch.ones(24, 2), "hada_w1_b": torch.ones(3, 20),
        "hada_w2_a": torch.ones(24, 2), "hada_w2_b": torch.ones(2, 20),
    },
    "loha without a half": {"hada_w1_a": torch.ones(24, 2), "hada_w1_b": torch.ones(2, 20)},
    "loha of rank 0": {
        "hada_w1_a": torch.ones(24, 0), "hada_w1_b": torch.ones(0, 20),
        "hada_w2_a": torch.ones(24, 0), "hada_w2_b": torch.ones(0, 20),
    },
    "lokr of two ranks": {
        "lokr_w1": torch.ones(4, 4), "lokr_w2_a": torch.ones(6, 2), "lokr_w2_b": torch.ones(3, 5),
    },
    "lokr of a vector": {"lokr_w1": torch.ones(4), "lokr_w2": torch.ones(6, 5)},
    "oft of oblong blocks": {"oft_blocks": torch.ones(6, 4, 3)},
    "oft of one number": {"oft_blocks": torch.tensor(1.0)},
    "ia3 of half a pair": {"on_input": torch.tensor(1)},
    "a magnitude alone": {"dora_scale": torch.ones(24, 1)},
    "lora of rank 0": {"lora_down.weight": torch.ones(0, 20), "lora_up.weight": torch.ones(24, 0)},
    "numbers as factors": {"lora_down.weight": torch.tensor(1.0), "lora_up.weight": torch.tensor(1.0)},
    "NaN": {"diff": torch.full((24, 20), float("nan"))},
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_factors_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AdapterFileError, match=f"a.safetensors: .*{NAME}"):
        load(tmp_path, BROKEN[name], (24, 20))


WRONG_SIZE: dict[str, dict[str, Tensor]] = {
    "lokr": {"lokr_w1": torch.ones(4, 4), "lokr_w2": torch.ones(6, 6)},
    "oft": {"oft_blocks": torch.zeros(5, 4, 4)},
    "boft": {"oft_blocks": torch.zeros(4, 6, 4, 4)},
    "ia3": {"weight": torch.ones(20), "on_input": torch.tensor(0)},
    "full": {"diff": torch.ones(24, 21)},
    "loha": {
        "hada_w1_a": torch.ones(24, 9), "hada_w1_b": torch.ones(9, 21),
        "hada_w2_a": torch.ones(24, 9), "hada_w2_b": torch.ones(9, 21),
    },
    "dora": {
        "lora_down.weight": torch.ones(2, 20), "lora_up.weight": torch.ones(24, 2),
        "dora_scale": torch.ones(21, 1),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_SIZE)
def test_updates_of_another_size_are_told(tmp_path: Path, name: str) -> None:
    tensors = {f"{NAME}.{end}": tensor for end, tensor in WRONG_SIZE[name].items()}
    fitting = {f"{NAME}_2.lora_down.weight": torch.ones(2, 3), f"{NAME}_2.lora_up.weight": torch.ones(4, 2)}
    safetensors.torch.save_file({**tensors, **fitting}, tmp_path / "a.safetensors")
    shapes = {PATH: (24, 20), f"{PATH}.2": (4, 3)}
    _, report = load_adapter_report(tmp_path / "a.safetensors", {"unet": shapes})
    assert len(report.matched) == 1 and len(report.mismatched) == 1
    assert "model (24, 20)" in report.mismatched[0] and "file" in report.mismatched[0]


def test_a_norm_layer(tmp_path: Path) -> None:
    adapter = load(tmp_path, {"w_norm": torch.ones(24), "b_norm": torch.ones(24)}, (24,))
    assert adapter.dense["unet"][PATH].algorithm == "norm" and adapter.parameters == 48
