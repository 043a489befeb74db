"""What adapters fill while they are attached, beside their files' sizes."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import cast

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lorastyle.adapters import load_adapter, save_adapter
from lorastyle.bank import AdapterBank, GatedLayer, adaptable_modules, attach


def residents(args: argparse.Namespace) -> None:
    """Eight adapters on SD 1.5's UNet in bfloat16: none in use, then all of them."""
    from .speed import SD15, random_adapters, random_unet

    torch.set_num_threads(args.threads)
    unet = random_unet(SD15)
    modules = adaptable_modules(unet).items()
    shapes = {"unet": {path: tuple(cast(Tensor, module.weight).shape) for path, module in modules}}
    table = Table(
        "files in", "file", "attached, off", "in use", title="Memory of each of eight, per byte of file"
    )
    for dtype in ("float16", "bfloat16"):
        with tempfile.TemporaryDirectory() as folder, attach(unet) as bank:
            made = random_adapters(unet, 8, args.rank)
            files = [save_adapter(a, Path(folder) / f"{a.name}.safetensors", dtype=dtype) for a in made]
            size = Path(files[0]).stat().st_size
            for file in files:
                bank.add(load_adapter(file, shapes), scale=0.0)
            off = _held(bank, unet)
            bank.set_scales(dict.fromkeys(bank.names, 1.0))
            on = _held(bank, unet)
            each = [f"{held / size / len(files):.2f}" for held in (off, on)]
            table.add_row(dtype, f"{size / 1e6:.1f} MB", *each)
    Console().print(table)


def _held(bank: AdapterBank, model: nn.Module) -> int:
    """Bytes of the storages that hold the adapters' factors and what layers read of them, each once."""
    updates = [u for name in bank.names for u in bank.export(name).components["unet"].values()]
    tensors = [factor for update in updates for factor in (update.down, update.up)]
    tensors += [b for m in model.modules() if isinstance(m, GatedLayer) for b in m.buffers(recurse=False)]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())
