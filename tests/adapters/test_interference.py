"""Angles and norms from factors, against dense updates in float64."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lorastyle.adapters import (
    Adapter,
    BlockWeights,
    Difference,
    Interference,
    Kronecker,
    LowRank,
    Weighted,
    block_name,
    measure_interference,
)
from lorastyle.errors import AdapterError

from .examples import UNET, dense, low_rank, mixed_adapter

TO_Q = f"{UNET}.attn1.to_q"


def three() -> list[Weighted]:
    """Two that share a direction, and one with a module less."""
    a, b = mixed_adapter("a"), mixed_adapter("b", seed=1)
    unet = dict(b.components["unet"])
    near = a.components["unet"][TO_Q]
    noise = torch.randn(near.up.shape, generator=torch.Generator().manual_seed(4))
    unet[TO_Q] = LowRank(near.down, near.up + 0.02 * noise, 8 * near.alpha)
    b = replace(b, components={**b.components, "unet": unet})
    c = mixed_adapter("c", seed=2)
    c = replace(c, components={"unet": {p: u for p, u in c.components["unet"].items() if p != TO_Q}})
    return [Weighted(a, 0.8), Weighted(b, 1.5), Weighted(c, -0.5)]


def vectors(parts: list[Weighted], block: str | None) -> Tensor:
    """The whole update of each adapter in a block, dense and flat: (adapters, numbers)."""
    places = [(c, p, u.shape) for c, p, u in parts[0].adapter.updates()]
    rows: list[Tensor] = []
    for part in parts:
        row: list[Tensor] = []
        for component, path, shape in places:
            if block in (None, block_name(component, path)):
                update = part.adapter.components.get(component, {}).get(path)
                row.append((torch.zeros(shape).double() if update is None else dense(update)).flatten())
        rows.append(torch.cat(row))
    return torch.stack(rows)


def test_as_dense_updates_say() -> None:
    parts = three()
    found = measure_interference(parts)
    assert list(found.blocks) == ["BASE", "IN01"] and found.names == ("a", "b", "c")
    for block in (None, *found.blocks):
        rows = vectors(parts, block)
        scales = torch.tensor([p.scale for p in parts], dtype=torch.float64)
        for i in range(3):
            assert found.norm(i, block) == pytest.approx(float(rows[i].norm()), rel=1e-6)
            for j in range(3):
                norms = float(rows[i].norm() * rows[j].norm())
                if norms:
                    wanted = float(rows[i] @ rows[j]) / norms
                    assert found.cosine(i, j, block) == pytest.approx(wanted, abs=1e-6)
                else:
                    assert found.cosine(i, j, block) is None
        assert found.stack_norm(block) == pytest.approx(float((scales @ rows).norm()), rel=1e-6)
        over = float((scales @ rows).norm() / rows.norm(dim=1).max())
        assert found.overcooking(block) == pytest.approx(over, rel=1e-6)
    shared = found.cosine(0, 1, "IN01")
    assert shared is not None and shared > 0.05 > abs(found.cosine(0, 1, "BASE") or 0)


def test_text_encoders_and_unet_apart() -> None:
    parts = three()
    parts[:2] = [replace(parts[0], te=0.1), replace(parts[1], te=-0.7, unet=0.4)]
    found = measure_interference(parts)
    assert found.scales == (0.8, 0.4, -0.5) and found.text_scales == (0.1, -0.7, -0.5)
    squares = 0.0
    for block, scales in (("BASE", found.text_scales), ("IN01", found.scales)):
        total = float((torch.tensor(scales, dtype=torch.float64) @ vectors(parts, block)).norm())
        assert found.stack_norm(block) == pytest.approx(total, rel=1e-6)
        squares += total**2
    assert found.stack_norm() == pytest.approx(squares**0.5, rel=1e-6)
    assert found.stack_norm() != pytest.approx(
        replace(found, text_scales=found.scales).stack_norm(), rel=1e-3
    )
    assert found.balanced().overcooking() == pytest.approx(1)
    assert found.balanced().text_scales[1] / found.balanced().scales[1] == pytest.approx(-0.7 / 0.4)


def test_balanced_scales_weigh_as_one_adapter() -> None:
    found = measure_interference(three())
    strongest = max(found.norm(i) for i in range(3))
    assert found.stack_norm() > 1.3 * strongest
    scales = found.balanced().scales
    assert found.balanced().stack_norm() == pytest.approx(strongest)
    assert scales[1] / scales[0] == pytest.approx(1.5 / 0.8) and scales[2] < 0


def test_what_the_number_means() -> None:
    def adapters(*updates: LowRank) -> Interference:
        named = [Adapter(f"{i}", {"unet": {TO_Q: u}}) for i, u in enumerate(updates)]
        return measure_interference([Weighted(adapter) for adapter in named])

    one = low_rank((24, 20), 2, 2.0)
    up = torch.linalg.qr(torch.cat([one.up, low_rank((24, 20), 2, 2.0, 1).up], 1))[0]
    first, second = (LowRank(one.down, columns.contiguous(), 2.0) for columns in up.split(2, dim=1))
    assert adapters(first, first).overcooking() == pytest.approx(2)
    assert adapters(first, second).overcooking() == pytest.approx(math.sqrt(2))
    against = LowRank(first.down, -first.up, 2.0)
    gone = adapters(first, against)
    assert gone.cosine(0, 1) == pytest.approx(-1) and gone.overcooking() < 1e-6
    with pytest.raises(AdapterError, match="cancel each other"):
        gone.balanced()
    assert gone.as_dict()["balanced"] is None


def test_what_is_not_low_rank_counts() -> None:
    random = torch.Generator().manual_seed(3)
    w1, w2 = torch.randn(4, 4, generator=random), torch.randn(6, 5, generator=random)
    strange = Kronecker(parts={"w1": w1, "w2": w2}, alpha=1.0)
    norm = Difference(weight=torch.ones(24))
    a = Adapter("a", {}, {}, {"unet": {TO_Q: strange, "conv_norm_out": norm}})
    b = Adapter("b", {"unet": {TO_Q: low_rank((24, 20), 4, 4.0)}})
    found = measure_interference([Weighted(a), Weighted(b)])
    rows = [strange.delta(torch.zeros(24, 20)).double(), dense(low_rank((24, 20), 4, 4.0))]
    wanted = float((rows[0] * rows[1]).sum() / (rows[0].norm() * rows[1].norm()))
    assert found.cosine(0, 1) == pytest.approx(wanted, abs=1e-5) and abs(wanted) > 1e-3
    assert list(found.blocks) == ["IN01"]


def test_factors_of_blocks_belong_to_the_adapter() -> None:
    a, b, _ = three()
    off = replace(a, blocks=BlockWeights.parse("BASE:0"))
    found = measure_interference([off, b])
    assert found.cosine(0, 1, "BASE") is None and found.cosine(0, 1, "IN01") is not None
    told = json.loads(json.dumps(found.as_dict()))
    assert told["blocks"]["BASE"]["cosine"][0] == [None, None]


def test_one_alone_has_nothing_in_common() -> None:
    with pytest.raises(AdapterError, match="at least two"):
        measure_interference(three()[:1])
