from __future__ import annotations

import math

import pytest
import torch

from lorastyle.adapters import LowRank
from lorastyle.errors import AdapterError
from tests.adapters.examples import dense, low_rank, relative_error

SHAPES = [(24, 20), (6, 40), (24, 20, 1, 1), (10, 7, 3, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_delta_has_the_weights_shape_and_values(shape: tuple[int, ...]) -> None:
    update = low_rank(shape, 4, 3.0)
    assert update.shape == shape == tuple(update.delta().shape)
    assert update.delta().dtype == torch.float32
    assert relative_error(update.delta(), dense(update)) < 1e-6
    forgot_alpha = LowRank(update.down, update.up, 4.0)
    assert relative_error(forgot_alpha.delta(), dense(update)) > 0.1


def test_delta_of_half_precision_factors_is_computed_in_float32() -> None:
    update = low_rank((24, 20), 4, 3.0)
    half = LowRank(update.down.half(), update.up.half(), 3.0)
    assert relative_error(half.delta(), dense(half)) < 1e-6


def test_conv_delta_is_what_down_then_up_compute() -> None:
    update = low_rank((10, 7, 3, 3), 4, 3.0)
    x = torch.randn(2, 7, 9, 9, generator=torch.Generator().manual_seed(1))
    conv = torch.nn.functional.conv2d
    by_factors = update.scale * conv(conv(x, update.down, stride=2, padding=1), update.up)
    assert relative_error(conv(x, update.delta(), stride=2, padding=1), by_factors) < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_norm_and_inner_product_need_no_dense_matrix(shape: tuple[int, ...]) -> None:
    a, b = low_rank(shape, 4, 3.0, seed=1), low_rank(shape, 2, -5.0, seed=2)
    assert math.isclose(a.norm(), float(dense(a).norm()), rel_tol=1e-9)
    assert math.isclose(a.inner(b), float((dense(a) * dense(b)).sum()), rel_tol=1e-9)
    assert not math.isclose(a.inner(b), float((dense(a) * dense(a)).sum()), rel_tol=1e-3)


def test_inner_product_of_different_weights_is_refused() -> None:
    with pytest.raises(AdapterError, match=r"\(24, 20\) and \(24, 21\)"):
        low_rank((24, 20), 4, 4.0).inner(low_rank((24, 21), 4, 4.0))


@pytest.mark.parametrize("shape", SHAPES)
def test_truncate_is_the_dense_svd(shape: tuple[int, ...]) -> None:
    update = low_rank(shape, 6, 3.0)
    for rank in (1, 3):
        u, s, vh = torch.linalg.svd(dense(update).flatten(1), full_matrices=False)
        best = (u[:, :rank] * s[:rank] @ vh[:rank]).reshape(shape)
        small = update.truncate(rank)
        assert small.rank == rank and small.shape == shape and small.down.dtype == torch.float32
        assert relative_error(small.delta(), best) < 1e-6
        assert relative_error(small.delta(), dense(update)) > 0.1  # it did lose something


def test_truncate_to_the_true_rank_loses_nothing() -> None:
    update = low_rank((24, 20), 3, 3.0)
    padded = LowRank(torch.cat([update.down, update.down]), torch.cat([update.up, update.up], 1), 6.0)
    assert relative_error(padded.truncate(3).delta(), dense(padded)) < 1e-6
    assert update.truncate(3) is update and update.truncate(9) is update


def test_truncate_where_the_rank_exceeds_the_weight() -> None:
    update = low_rank((3, 40), 8, 8.0)
    small = update.truncate(5)
    assert small.rank == 3
    assert relative_error(small.delta(), dense(update)) < 1e-6


def test_truncate_below_one_is_refused() -> None:
    with pytest.raises(AdapterError, match="rank is 0"):
        low_rank((24, 20), 4, 4.0).truncate(0)


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ((4, 20), (24, 5)),
        ((4, 20, 3, 3), (24, 4)),
        ((4, 20), (24, 4, 1, 1)),
        ((4,), (24, 4)),
        ((0, 20), (24, 0)),
    ],
)
def test_factors_that_do_not_belong_together(down: tuple[int, ...], up: tuple[int, ...]) -> None:
    with pytest.raises(AdapterError, match="factors of one update"):
        LowRank(torch.zeros(down), torch.zeros(up), 1.0)


def test_alpha_must_be_finite() -> None:
    with pytest.raises(AdapterError, match="alpha is nan"):
        LowRank(torch.zeros(1, 2), torch.zeros(3, 1), math.nan)
