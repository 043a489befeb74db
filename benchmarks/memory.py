"""How many bytes does a base want? Computed from the architecture, without a card and without weights.

    python -m benchmarks.memory             # SD 1.5, SD 2.1 and SDXL, a minute or two

Tensors are fake: they have shapes and no numbers. Every storage that is alive is counted, and the most at
once is told for each latent pixel of a batch and each channel of the UNet's first level, which is how
`lorastyle.bases.needs` keeps it. Autocast is the CPU's, with norms in float32 as on CUDA; attention keeps no
matrix of all pairs. The adapter is of rank 16 on attention and feed-forward. The last table is what the modes
want on a card by these figures: computed, not measured.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.models import make_autoencoder, make_unet
from lorastyle.bank import select_targets

RANK = 16
NAMES = {"sd1": "SD 1.5", "sd2": "SD 2.1", "sdxl": "SDXL"}


class Living(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, while they live.

    Args:
        known: tensors whose storages do not count: weights and inputs.
    """

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self._sizes = {_key(tensor): 0 for tensor in known}
        self._now = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        for tensor in (leaf for leaf in tree_leaves(answer) if isinstance(leaf, Tensor)):
            storage, key = tensor.untyped_storage(), _key(tensor)
            if key not in self._sizes:
                self._sizes[key] = storage.nbytes()
                self._now += storage.nbytes()
                self.most = max(self.most, self._now)
                weakref.finalize(storage, self._gone, key)
        return answer

    def _gone(self, key: int) -> None:
        self._now -= self._sizes.pop(key, 0)


def _key(tensor: Tensor) -> int:
    """The same for all views of a storage; one that was asked for its data would not be fake."""
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]


@contextmanager
def norms_in_float32() -> Generator[None]:
    """As autocast computes them on CUDA, whatever the processor's autocast does."""
    before = F.group_norm, F.layer_norm

    def in_float32(norm: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def of(*args: Any, **kwargs: Any) -> Tensor:
            with torch.autocast("cpu", enabled=False):
                wide = [a.float() if isinstance(a, Tensor) else a for a in args]
                named = {k: a.float() if isinstance(a, Tensor) else a for k, a in kwargs.items()}
                return norm(*wide, **named)

        return of

    F.group_norm, F.layer_norm = (in_float32(norm) for norm in before)
    try:
        yield
    finally:
        F.group_norm, F.layer_norm = before


def unet_bytes(family: str, side: int, batch: int, *, train: bool, checkpointing: bool = False) -> int:
    """The most at once besides weights and inputs, in a pass over latents of `side` x `side`."""
    with FakeTensorMode(allow_non_fake_inputs=True), norms_in_float32():
        unet = make_unet(family, torch.bfloat16).eval().requires_grad_(False)
        factors = _adapted(unet) if train else []
        if checkpointing:
            unet.enable_gradient_checkpointing()
            unet.train()
        width = int(unet.config["cross_attention_dim"])
        more: dict[str, Any] = {}
        if family == "sdxl":
            pooled = {"text_embeds": torch.randn(batch, 1280), "time_ids": torch.randn(batch, 6)}
            more = {"added_cond_kwargs": pooled}
        inputs = torch.randn(batch, 4, side, side), torch.ones(batch), torch.randn(batch, 77, width)
        living = Living([*unet.parameters(), *unet.buffers(), *factors, *inputs])
        with living, torch.set_grad_enabled(train):
            with torch.autocast("cpu", torch.bfloat16):
                answer = unet(*inputs, return_dict=False, **more)[0].float()
            if train:
                answer.pow(2).mean().backward()
    return living.most


def _adapted(unet: nn.Module) -> list[Tensor]:
    """A low-rank update on each module of the preset, which is what makes a step keep anything."""
    factors: list[Tensor] = []
    for path in select_targets(unet, ("attention+ff",), "unet"):
        module = unet.get_submodule(path)
        if isinstance(module, nn.Linear):
            down = nn.Parameter(torch.randn(RANK, module.in_features))
            up = nn.Parameter(torch.zeros(module.out_features, RANK))
            module.register_forward_hook(_Update(down, up))
            factors += [down, up]
    return factors


class _Update:
    def __init__(self, down: Tensor, up: Tensor) -> None:
        self._down, self._up = down, up

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        x = args[0].to(torch.bfloat16)
        return out - F.linear(F.linear(x, self._down.to(x.dtype)), self._up.to(x.dtype))


def autoencoder_bytes(side: int) -> int:
    """The most at once besides weights, decoding a picture of `side` pixels in float32."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        vae: Any = make_autoencoder().eval()
        latents = torch.randn(1, 4, side // 8, side // 8)
        with Living([*vae.parameters(), latents]) as living:
            vae.decode(latents)
    return living.most


def main() -> None:
    table = Table(title="bytes for each latent pixel and each channel of the first level; computed")
    for heading in ("base", "drawing", "training", "with gradient checkpointing"):
        table.add_column(heading, justify="left" if heading == "base" else "right")
    for family, side in {"sd1": 64, "sd2": 96, "sdxl": 128}.items():
        unit = side * side * 320
        figures = (
            unet_bytes(family, side, 2, train=False) / 2,
            unet_bytes(family, side, 1, train=True),
            unet_bytes(family, side, 1, train=True, checkpointing=True),
        )
        table.add_row(NAMES[family], *(f"{figure / unit:.0f}" for figure in figures))
    console = Console()
    console.print(table)
    console.print(
        f"autoencoder: {autoencoder_bytes(1024) / 1024**2 / 128:.1f} bytes for each pixel and channel"
    )
    console.print(weights_table())


def weights_table() -> Table:
    """Gigabytes of weights of each mode, in bfloat16 where they are not rounded."""
    from lorastyle.bases import MODES, weight_bytes

    table = Table(title="the UNet's weights on the card, GB; computed")
    for heading in ("base", "parameters", "in linear layers", "fast, offload", "int8", "nf4"):
        table.add_column(heading, justify="left" if heading == "base" else "right")
    for family, name in NAMES.items():
        with torch.device("meta"):
            unet = make_unet(family, torch.bfloat16)
        linear = sum(m.weight.numel() for m in unet.modules() if isinstance(m, nn.Linear))
        count = sum(p.numel() for p in unet.parameters())
        sizes = (weight_bytes(unet, MODES[mode].bits) for mode in ("fast", "int8", "nf4"))
        table.add_row(
            name, f"{count / 1e6:.0f} M", f"{linear / count:.0%}", *(f"{size / 1e9:.2f}" for size in sizes)
        )
    return table


if __name__ == "__main__":
    main()
