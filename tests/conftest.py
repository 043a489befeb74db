"""For every test."""

from __future__ import annotations

import torch

# The models here are tiny: a second thread costs more than it brings, and 30 times more where cores are busy.
torch.set_num_threads(1)
