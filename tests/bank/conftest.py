"""A small UNet with two adapters; and one thread, since more cost more than they bring at these sizes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from lorastyle.bank import AdapterBank, attach
from tests.bank.adapters import random_adapter
from tests.tiny import tiny_pipeline


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def unet() -> Iterator[nn.Module]:
    yield tiny_pipeline().unet.eval().requires_grad_(False)


@pytest.fixture
def bank(unet: nn.Module) -> AdapterBank:
    bank = attach(unet)
    for i, rank in enumerate((4, 3)):
        bank.add(random_adapter(f"a{i}", {"unet": unet}, ["all"], rank=rank, seed=i))
    return bank
