"""Writing an adapter file that every tool reads, and not saying "done" before it has been read back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lorastyle.errors import AdapterError, AdapterFileError, near_miss

from .adapter import Adapter
from .disk_space import FULL, write_advice
from .files import write_tensors
from .folder import write_folder
from .formats import diffusers, kohya
from .formats.lora_tensors import check_peft_can_hold
from .load import load_adapter_report
from .lowrank import LowRank, is_finite
from .metadata import file_metadata
from .updates import DoRA, Update

# Largest relative error of a delta (Frobenius norm) that rounding both factors can explain, with room to
# spare.
_TOLERANCE: Mapping[str, float] = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5}
_TENSORS = {"kohya": kohya.write, "diffusers": diffusers.write}
FORMATS = ("kohya", "diffusers", "peft")
"""What `save_adapter` can write."""
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


class TooManyBytes(AdapterFileError):
    """The file would have more bytes than were allowed; it has `bytes`."""

    def __init__(self, path: Path, bytes: int, most: int) -> None:
        super().__init__(
            f"{path}: would have {bytes / 1e6:.2f} MB, more than {most / 1e6:.2f} MB; not written."
        )
        self.bytes = bytes


def save_adapter(
    adapter: Adapter,
    path: str | os.PathLike[str],
    *,
    dtype: str = "float16",
    format: str = "kohya",
    private: bool = False,
    most_bytes: int | None = None,
) -> Path:
    """Write `adapter` where every tool can read it, and answer with its path.

    Names and scales are written so that every reader draws the same picture: with kohya's names one alpha per
    component, and the rest of each scale is folded into `up`; with diffusers' names all of it is. What is
    written is complete or it is not there: it is written beside `path`, read back, compared module by module
    with what was given, and only then renamed. A file already there is replaced.

    Args:
        dtype: "float16", "bfloat16" or "float32". A module that it cannot hold (values out of its range) is
            stored in float32.
        format: "kohya", which A1111, ComfyUI, kohya's and diffusers' programs read; "diffusers", dotted
            names; or "peft", a new folder with a subfolder for each component.
        private: write captions, folder names and paths that the adapter's metadata carry, which are left out
            otherwise.
        most_bytes: of one file, header and all.

    Raises:
        AdapterError: nothing to write, a value that is not a number, an unknown dtype or format.
        AdapterFileError: the file cannot be written, or does not read back as the same adapter.
        TooManyBytes: it would have more than `most_bytes`.
    """
    path = Path(path)
    for what, value, allowed in (("dtype", dtype, DTYPES), ("format", format, FORMATS)):
        if value not in allowed:
            raise AdapterError(
                f"{what} is {value!r}; allowed are {', '.join(allowed)}.{near_miss(value, allowed)}"
            )
    _check_place(path, format)
    if adapter.parameters == 0:
        raise AdapterError(f"Adapter {adapter.name!r} holds no update, so there is nothing to save.")
    exact = _prepared(adapter, format)
    everything = (*adapter.updates(), *adapter.dense_updates(), *exact.updates(), *exact.dense_updates())
    for component, module, update in everything:
        if not update.finite:
            raise AdapterError(
                f"{component} {module} of adapter {adapter.name!r} holds NaN or infinity; "
                "nothing was written. Training went wrong before this: try a lower learning rate."
            )
    rounded, metadata = _rounded(exact, dtype), file_metadata(exact, format=format, private=private)

    def check(written: Path) -> None:
        if most_bytes is not None and (size := written.stat().st_size) > most_bytes:
            raise TooManyBytes(path, size, most_bytes)
        _compare(adapter, rounded, written, dtype)

    try:
        if format == "peft":
            write_folder(rounded, path, metadata, check=check)
        else:
            write_tensors(path, _TENSORS[format](rounded), metadata, check=check)
    except OSError as error:
        size = rounded.parameters * DTYPES[dtype].itemsize
        raise AdapterFileError(_advice(path, error, size)) from error
    return path


def _check_place(path: Path, format: str) -> None:
    if format != "peft":
        if path.suffix != ".safetensors":
            raise AdapterFileError.at(path, "an adapter file's name must end in .safetensors.")
    elif path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise AdapterFileError.at(path, "is there already; a peft folder needs a name that is free.")


def _prepared(adapter: Adapter, format: str) -> Adapter:
    """The scales as the format wants them, and the factors in float32 on the CPU."""
    if format == "kohya":
        adapter = kohya.with_constant_alpha(adapter)
    else:
        check_peft_can_hold(adapter, format)
    fold = format == "diffusers"
    components = {
        component: {p: _on_cpu(u.folded() if fold else u) for p, u in modules.items()}
        for component, modules in adapter.components.items()
    }
    dense = {
        component: {p: (_folded(u) if fold else u).mapped(_plain) for p, u in modules.items()}
        for component, modules in adapter.dense.items()
    }
    words = {w: {c: _plain(v) for c, v in vectors.items()} for w, vectors in adapter.words.items()}
    return replace(adapter, components=components, dense=dense, words=words)


def _folded(update: Update) -> Update:
    inside = update.inside if isinstance(update, DoRA) else None
    return replace(update, inside=inside.folded()) if isinstance(inside, LowRank) else update


def _on_cpu(update: LowRank) -> LowRank:
    return LowRank(_plain(update.down), _plain(update.up), update.alpha)


def _plain(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    return tensor.float() if tensor.is_floating_point() else tensor


def _rounded(adapter: Adapter, dtype: str) -> Adapter:
    """The factors in `dtype`; in float32 where that is too coarse."""
    components = {
        component: {path: _round(update, dtype) for path, update in modules.items()}
        for component, modules in adapter.components.items()
    }

    def rounded(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        coarse = tensor.to(DTYPES[dtype])
        lost = float((coarse.double() - tensor.double()).norm())
        fine = is_finite(coarse) and lost <= _TOLERANCE[dtype] * float(tensor.double().norm())
        return coarse if fine else tensor

    dense = {
        component: {path: update.mapped(rounded) for path, update in modules.items()}
        for component, modules in adapter.dense.items()
    }
    words = {w: {c: rounded(v) for c, v in vectors.items()} for w, vectors in adapter.words.items()}
    return replace(adapter, components=components, dense=dense, words=words)


def _round(exact: LowRank, dtype: str) -> LowRank:
    source = exact.balanced() if dtype == "float16" else exact
    down, up = source.down.to(DTYPES[dtype]), source.up.to(DTYPES[dtype])
    if not (is_finite(down) and is_finite(up)):
        return exact
    # up @ down - source.up @ source.down, written so that nothing cancels
    lost = LowRank(
        torch.cat([source.down, down.float() - source.down]),
        torch.cat([up.float() - source.up, up.float()], dim=1),
        2.0 * exact.alpha,
    )
    return LowRank(down, up, exact.alpha) if lost.norm() <= _TOLERANCE[dtype] * source.norm() else exact


def _compare(adapter: Adapter, rounded: Adapter, written: Path, dtype: str) -> None:
    """Read it back: the same bits as were meant to be written, and the same deltas as the adapter's."""
    shapes: dict[str, dict[str, tuple[int, ...] | None]] = {}
    for component, path, _ in adapter.dense_updates():
        shapes.setdefault(component, {})[path] = None
    for component, path, update in adapter.updates():
        shapes.setdefault(component, {})[path] = update.shape
    again, report = load_adapter_report(written, shapes, name=adapter.name)
    if not report.complete or len(report.matched) != sum(len(paths) for paths in shapes.values()):
        raise _differs(report.summary())
    for component, path, meant in rounded.updates():
        stored = again.components[component][path]
        for factor, value in (("down", meant.down), ("up", meant.up)):
            if not torch.equal(value.float(), getattr(stored, factor).float()):
                raise _differs(f"{factor} of {component} {path} changed on its way to the disk")
    for component, path, update in rounded.dense_updates():
        found = again.dense[component][path].tensors()
        for end, value in update.tensors().items():
            if end not in found or not torch.equal(value.double(), found[end].double()):
                raise _differs(f"{end} of {component} {path} changed on its way to the disk")
    for word, vectors in rounded.words.items():
        for component, value in vectors.items():
            if not torch.equal(value.float(), again.words[word][component]):
                raise _differs(f"the word {word!r} changed on its way to the disk")
    for component, path, update in adapter.updates():
        size, error = update.norm(), _distance(update, again.components[component][path])
        # Where the factors nearly cancel, float32 itself is coarse beside their product.
        factors = abs(update.scale) * float(update.up.double().norm() * update.down.double().norm())
        if not error <= max(2 * _TOLERANCE[dtype] * size, 1e-6 * factors):
            raise _differs(f"{component} {path} differs by {error:.3g}, with a norm of {size:.3g}")


def _distance(a: LowRank, b: LowRank) -> float:
    """The Frobenius norm of a.delta() - b.delta(), as that of one stacked update of twice the rank."""
    down = torch.cat([a.down.detach().cpu().double(), b.down.detach().cpu().double()])
    up = torch.cat([a.scale * a.up.detach().cpu().double(), -b.scale * b.up.detach().cpu().double()], dim=1)
    return LowRank(down, up, float(down.shape[0])).norm()


def _differs(why: str) -> AdapterFileError:
    return AdapterFileError(
        f"The file does not read back as the adapter that was saved, so it was not kept: {why}."
    )


def _advice(path: Path, error: OSError, size: int) -> str:
    needed = f"It needs {size / 1e6:.1f} MB. " if error.errno in FULL else ""
    step = f"{needed}{write_advice(error)}, or choose another folder."
    what = f"{path} was not written: {error.strerror or error}."
    return f"{what} {step} A file that was there before is unchanged."
