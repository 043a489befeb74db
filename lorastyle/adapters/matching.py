"""Which tensors of a file belong to which module of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lorastyle.errors import AdapterFileError, BaseMismatchError

from .families import family_from_names, family_title
from .formats import FORMATS, Format, TensorName, parse_name
from .header import Header
from .lowrank import LowRank, is_finite

Spellings = Mapping[str, list[tuple[str, str]]]
"""{name in a file: the (component, module path)s of the model that a format spells so}"""

_TRANSFORMER = ("transformer.", "lora_transformer_", "lycoris_transformer_blocks_", "lora_te3_")
_PARTS = frozenset({"down", "up", "mid", "alpha", "scale"})


def spellings(modules: Mapping[str, Iterable[str]]) -> Spellings:
    """Every name that any format has for the modules of a model."""
    found: dict[str, list[tuple[str, str]]] = {}
    for component, paths in modules.items():
        for path in paths:
            for spelled in {name for fmt in FORMATS for name in fmt.spellings(component, path)}:
                found.setdefault(spelled, []).append((component, path))
    return found


@dataclass(frozen=True)
class Group:
    """The tensors of one module in the file."""

    fmt: Format
    spelled: str
    target: tuple[str, str] | None  # (component, module path) of the model
    keys: dict[str, str]  # role: key
    unsupported: str

    def update(self, path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> LowRank:
        """The update these tensors make, in float32.

        Raises:
            AdapterFileError: a factor is missing, holds NaN, or does not fit the other.
        """
        if missing := [role for role in ("down", "up") if role not in self.keys]:
            raise AdapterFileError(
                f"{path}: {self.spelled} has no {' and no '.join(missing)} factor; the file is incomplete. "
                "Download or export it again."
            )
        parts = {role: tensors[key].float() for role, key in self.keys.items()}
        for role, tensor in parts.items():
            if not is_finite(tensor):
                raise AdapterFileError(
                    f"{path}: {self.keys[role]} holds NaN or infinity, which turns every picture black. "
                    "Use an earlier checkpoint, or train again with a lower learning rate."
                )
        try:
            down = _tucker(parts["mid"], parts["down"]) if "mid" in parts else parts["down"]
            if "scale" in parts:
                alpha = float(parts["scale"]) * down.shape[0]
            elif "alpha" in parts:
                alpha = float(parts["alpha"])
            else:
                alpha = self.fmt.default_alpha(*(self.target or ("", self.spelled)), down.shape[0], metadata)
            return LowRank(down, parts["up"], alpha)
        except (
            ValueError,
            RuntimeError,
            IndexError,
            OverflowError,
        ) as error:  # shapes that do not go together
            raise AdapterFileError(f"{path}: {self.spelled}: {error}") from error


def _tucker(mid: Tensor, down: Tensor) -> Tensor:
    """LoCon's `mid` (r, r, h, w) after `down` (r, in, 1, 1), as one down factor (r, in, h, w)."""
    return (mid.flatten(2).movedim(2, 0) @ down.flatten(1)).movedim(0, 2).unflatten(2, mid.shape[2:])


def group_tensors(path: Path, header: Header, known: Spellings) -> tuple[list[Group], list[str]]:
    """The file's adapter tensors by module, whichever format each of their names is in; and the other names.

    Raises:
        AdapterFileError: no adapter tensor at all, one that is there twice, or an ambiguous name.
    """
    groups: dict[object, Group] = {}
    unknown: list[str] = []
    for key in header.tensors:
        parsed = parse_name(key)
        if parsed is None:
            unknown.append(key)
            continue
        fmt, name = parsed
        target = _target(path, name, known)
        group = groups.setdefault(target or name.module, Group(fmt, name.module, target, {}, ""))
        if name.role not in _PARTS:
            groups[target or name.module] = Group(fmt, name.module, target, group.keys, name.algorithm)
        elif name.role in group.keys:
            raise AdapterFileError(
                f"{path}: {key} and {group.keys[name.role]} are the same tensor of one module."
            )
        else:
            group.keys[name.role] = key
    if not groups:
        raise AdapterFileError(f"{path}: {_no_adapter(header)}")
    return list(groups.values()), unknown


def _target(path: Path, name: TensorName, known: Spellings) -> tuple[str, str] | None:
    hits = known.get(name.module, [])
    if len(hits) > 1:
        both = " and ".join(path if hits[0][0] == hits[1][0] else f"{c}.{path}" for c, path in hits[:2])
        raise AdapterFileError(
            f"{path}: {name.module} could be {both} of this model; its names are ambiguous."
        )
    return hits[0] if hits else None


def _no_adapter(header: Header) -> str:
    names = list(header.tensors)
    if any(
        name.startswith(("model.diffusion_model.", "first_stage_model.", "cond_stage_model."))
        for name in names
    ):
        return "this is a whole checkpoint, not an adapter. Use it as the base, and an adapter file here."
    shown = ", ".join(repr(name) for name in names[:3]) or "no tensor at all"
    known = ", ".join(fmt.name for fmt in FORMATS)
    return f"no adapter in a format that lorastyle knows ({known}); it holds {shown}."


def fit(update: LowRank, shape: tuple[int, ...] | None) -> LowRank | None:
    """The update in the weight's shape, Linear or 1x1 Conv2d; None if it is of another size."""
    if shape is None or update.shape == shape:
        return update
    if len(shape) == 2 and update.shape == (*shape, 1, 1):
        return LowRank(update.down.flatten(1), update.up.flatten(1), update.alpha)
    if len(shape) == 4 and (*update.shape, 1, 1) == shape:
        return LowRank(update.down[..., None, None], update.up[..., None, None], update.alpha)
    return None


def refuse_other_architectures(path: Path, header: Header) -> None:
    """Adapters of diffusion transformers are told apart, and not looked into.

    Raises:
        BaseMismatchError: it is one.
    """
    family = family_from_names(header.tensors)
    if family not in ("sd3", "flux") and not any(name.startswith(_TRANSFORMER) for name in header.tensors):
        return
    made_for = family_title(family) if family in ("sd3", "flux") else "a diffusion transformer"
    raise BaseMismatchError(
        f"{path} was made for {made_for}, and lorastyle draws with Stable Diffusion 1.x, 2.x and XL. "
        "Use an adapter made for one of these."
    )
