"""Singular values and vectors of dense differences, all of them or the first."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lorastyle.adapters.decompose import dense_spectrum

from .examples import dense


def matrix(rows: int = 160, columns: int = 240, *, noise: float = 0.02) -> Tensor:
    """A few strong directions over noise, as the difference of two models is."""
    random = torch.Generator().manual_seed(1)
    strong = torch.randn(rows, 8, generator=random) @ torch.randn(8, columns, generator=random)
    return strong * 0.1 + noise * torch.randn(rows, columns, generator=random)


@pytest.mark.parametrize(("first", "parts"), [(None, 160), (60, 160), (8, 24)])
def test_the_best_of_each_rank(first: int | None, parts: int) -> None:
    whole = matrix()
    spectrum = dense_spectrum(whole, (160, 240), first=first)
    assert len(spectrum.values) == parts
    u, s, vh = torch.linalg.svd(whole.double(), full_matrices=False)
    best = u[:, :8] * s[:8] @ vh[:8]
    found = dense(spectrum.cut(8))
    error = float((whole - found).norm() / whole.norm())
    assert spectrum.error(8) == pytest.approx(error, rel=1e-4)
    assert error == pytest.approx(float((whole - best).norm() / whole.norm()), rel=1e-4)
    assert spectrum.error(7) > 3 * error > 0.1
    assert spectrum.energy == pytest.approx(float(whole.double().square().sum()), rel=1e-5)


def test_what_is_of_low_rank_is_found_whole() -> None:
    exact = matrix(noise=0.0)
    assert dense_spectrum(exact, (160, 240), first=8).error(8) < 1e-5
    assert dense_spectrum(exact, (160, 240), first=8).error(7) > 0.1


def test_it_repeats_itself_and_leaves_chance_alone() -> None:
    state = torch.get_rng_state()
    a, b = (dense_spectrum(matrix(), (160, 240), first=4).cut(4) for _ in range(2))
    assert torch.equal(a.up, b.up) and torch.equal(torch.get_rng_state(), state)


def test_a_convolution_keeps_its_shape() -> None:
    cut = dense_spectrum(matrix(32, 27), (32, 3, 3, 3)).cut(4)
    assert cut.shape == (32, 3, 3, 3) and cut.rank == 4
    assert float((cut.delta().flatten(1) - matrix(32, 27)).norm()) < float(matrix(32, 27).norm())
