"""Norm and ranks of updates, against a dense singular value decomposition in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lorastyle.adapters import Difference, Kronecker, LowRank
from lorastyle.adapters.formats.suffixes import split_suffix
from lorastyle.adapters.measure import Measure, measure
from lorastyle.adapters.updates import Built, DoRA, build
from tests.adapters.examples import dense, low_rank
from tests.adapters.lycoris_files import CASES, Made, made


def by_hand(update: Tensor) -> tuple[float, float, int]:
    """(norm, effective rank, fewest ranks for 99 %) of a dense update, one number after another."""
    values = torch.linalg.svdvals(update.double().flatten(1)).tolist()
    norm = math.sqrt(sum(v * v for v in values))
    shares = [v / sum(values) for v in values if v > 1e-12 * values[0]]
    effective = math.exp(-sum(p * math.log(p) for p in shares))
    rank, kept = 0, 0.0
    while kept < 0.99 * norm**2 * (1 - 1e-9):
        kept += values[rank] ** 2
        rank += 1
    return norm, effective, rank


def assert_measured(found: Measure | None, update: Tensor, most: float = 1e-9) -> None:
    assert found is not None and found.effective_rank is not None
    norm, effective, rank = by_hand(update)
    assert found.norm == pytest.approx(norm, rel=most)
    assert found.effective_rank == pytest.approx(effective, rel=most)
    assert found.energy_rank == rank
    assert found.gain == pytest.approx(norm / update.shape[0] ** 0.5, rel=most)


@pytest.mark.parametrize("shape", [(24, 20), (24, 24, 1, 1), (24, 20, 3, 3), (5, 40)])
def test_low_rank_is_measured_by_its_factors(shape: tuple[int, ...]) -> None:
    update = low_rank(shape, 4, 3.0, seed=1)
    found = measure(update, None)
    assert_measured(found, dense(update))
    assert found is not None and found.rank == 4
    other = by_hand(dense(low_rank(shape, 4, 3.0, seed=2)))
    assert abs(found.norm / other[0] - 1) > 1e-3 and abs((found.effective_rank or 0) / other[1] - 1) > 1e-4


def test_more_ranks_than_the_matrix_has() -> None:
    update = low_rank((5, 40), 12, 1.0)
    found = measure(update, None)
    assert_measured(found, dense(update))
    assert found is not None and found.rank == 5


@pytest.mark.parametrize("equal", [1, 3, 8])
def test_equal_directions_are_counted(equal: int) -> None:
    """The definition's own property: of n equal singular values the effective rank is n."""
    basis = torch.eye(20)[:equal]
    found = measure(LowRank(basis, 5 * torch.eye(24)[:, :equal], -2.0 * equal), None)
    assert found is not None and found.norm == pytest.approx(10 * math.sqrt(equal))
    assert (found.rank, found.energy_rank) == (equal, equal)
    assert found.effective_rank == pytest.approx(equal)


def test_the_share_that_99_percent_is() -> None:
    def of(second: float) -> int | None:
        found = measure(LowRank(torch.eye(2, 20), torch.diag(torch.tensor([1.0, second])), 2.0), None)
        return None if found is None else found.energy_rank

    assert of(0.1) == 1  # 1 of 1.01 is 99.01 %
    assert of(0.11) == 2  # 1 of 1.0121 is 98.8 %


def test_the_gain_is_what_random_inputs_become() -> None:
    update = low_rank((24, 20), 4, 3.0)
    random = torch.Generator().manual_seed(0)
    outputs = torch.randn(20_000, 20, generator=random, dtype=torch.float64) @ dense(update).T
    found = measure(update, None)
    assert found is not None
    assert float(outputs.square().mean().sqrt()) == pytest.approx(found.gain, rel=0.03)
    assert abs(found.norm / found.gain - 1) > 1


def test_nothing_has_no_effective_rank() -> None:
    found = measure(LowRank(torch.ones(2, 20), torch.zeros(24, 2), 2.0), None)
    assert found == Measure(0.0, 24, 2, None, None)


def built_of(theirs: Made) -> Built:
    named = {split_suffix(f"lora_unet_a.{end}"): tensor for end, tensor in theirs.tensors.items()}
    parts = {name[1]: tensor for name, tensor in named.items() if name is not None}
    return build(parts, lambda rank: float(rank or 0), tuple(theirs.weight.shape))


@pytest.mark.parametrize("name", [n for n in CASES if not n.startswith(("oft", "boft", "ia3", "dora"))])
@pytest.mark.filterwarnings("ignore")
def test_every_algorithm_of_lycoris(name: str) -> None:
    pytest.importorskip("lycoris")
    theirs = made(CASES[name])
    built = built_of(theirs)
    found = measure(built.low_rank, built.dense)
    if built.low_rank is not None:
        expected = dense(built.low_rank)
    else:
        assert built.dense is not None
        delta = built.dense.delta(theirs.weight)
        assert delta is not None
        expected = delta
    if "norm" in name:
        assert found is not None and found.norm == pytest.approx(float(expected.double().norm()))
        assert found.rank is None and found.effective_rank is None and found.energy_rank is None
    else:
        assert_measured(found, expected, 1e-5)


@pytest.mark.parametrize("name", ["oft", "boft", "ia3"])
@pytest.mark.filterwarnings("ignore")
def test_what_depends_on_the_base_is_not_measured(name: str) -> None:
    pytest.importorskip("lycoris")
    theirs = made(CASES[name])
    built = built_of(theirs)
    assert measure(built.low_rank, built.dense) is None


def test_of_dora_the_update_inside() -> None:
    inside = low_rank((24, 20), 4, 4.0)
    assert measure(None, DoRA(inside=inside, magnitude=torch.ones(24), axis=0)) == measure(inside, None)


def test_low_rank_with_a_difference_beside_it() -> None:
    update, more = low_rank((24, 20), 2, 2.0), torch.randn(24, 20)
    assert_measured(measure(update, Difference(weight=more)), dense(update) + more, 1e-5)
    assert measure(update, Difference(bias=more[:, 0])) == measure(update, None)
    assert measure(None, Difference(bias=more[:, 0])) is None


def test_a_kronecker_product_too_large_to_form() -> None:
    """Its sides are small, and so are their factors: 10^12 numbers that nobody wants to see."""
    random = torch.Generator().manual_seed(0)
    sides = {"w1": (1000, 1000), "w2": (1000, 1000)}
    parts = {
        f"{side}_{end}": torch.randn(shape, generator=random)
        for side, (out, width) in sides.items()
        for end, shape in (("a", (out, 2)), ("b", (2, width)))
    }
    found = measure(None, Kronecker(parts=parts, alpha=2.0))
    norms = [float((parts[f"{s}_a"].double() @ parts[f"{s}_b"].double()).norm()) for s in sides]
    assert found is not None and found.norm == pytest.approx(math.prod(norms))
    assert found.rank == 4 and found.outputs == 10**6
