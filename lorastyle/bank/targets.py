"""Which modules carry an adapter: presets, names, endings and globs. Zero matches is an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from lorastyle.errors import TargetError, near_miss

from .layers import GatedLayer, can_carry

_UNET = {
    "attention": ("*.attn[12].to_[qkv]", "*.attn[12].to_out.0"),
    "ff": ("*.ff.net.0.proj", "*.ff.net.2", "*.attentions.*.proj_in", "*.attentions.*.proj_out"),
    "conv": (
        "*.resnets.*.conv[12]",
        "*.resnets.*.conv_shortcut",
        "*.resnets.*.time_emb_proj",
        "*.downsamplers.*.conv",
        "*.upsamplers.*.conv",
    ),
}
_TEXT_ENCODER = {
    "attention": ("*.self_attn.[qkv]_proj", "*.self_attn.out_proj"),
    "ff": ("*.mlp.fc[12]",),
    "conv": (),
}
_PARTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "unet": _UNET,
    "text_encoder": _TEXT_ENCODER,
    "text_encoder_2": _TEXT_ENCODER,
}

PRESETS: Mapping[str, tuple[str, ...]] = {
    "attention": ("attention",),
    "attention+ff": ("attention", "ff"),
    "all": ("attention", "ff", "conv"),
}
"""What each preset takes: the q, k, v and output projections; feed-forward and proj_in/proj_out;
convolutions, time embeddings and samplers. On the UNet of SD 1.5 that is 128, 192 and 278 modules; on its
text encoder 48, 72, 72.
"""


def adaptable_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Every module that can carry an adapter, by dotted path, in the model's order.

    Linear and ungrouped Conv2d; not the projection inside nn.MultiheadAttention, which reads the weight and
    never calls the layer. A module that already carries one appears under its own path, as itself. One
    that is reached twice appears under its first path.
    """
    found: dict[str, nn.Module] = {}
    _find(model, "", found, {id(model)})
    return found


def _find(parent: nn.Module, prefix: str, found: dict[str, nn.Module], seen: set[int]) -> None:
    for name, child in parent.named_children():
        if id(child) in seen:
            continue
        seen.add(id(child))
        inner = child.base if isinstance(child, GatedLayer) else child
        if can_carry(inner):
            found[prefix + name] = inner
        if not isinstance(child, GatedLayer):
            _find(child, f"{prefix}{name}.", found, seen)


def select_targets(model: nn.Module, patterns: Sequence[str], component: str) -> tuple[str, ...]:
    """The paths of the modules that the patterns name, in the model's order, each once.

    A pattern is one of
    - a preset: "attention", "attention+ff" or "all";
    - a module's whole path, or the end of it after a dot: "to_q", "attn1.to_q";
    - a glob over whole paths, where `*` crosses dots: "mid_block.*", "*.attn2.to_[kv]".

    Args:
        component: "unet", "text_encoder" or "text_encoder_2": decides what a preset means.

    Raises:
        TargetError: a pattern matches nothing, or there is no pattern. The message has near misses.
    """
    if isinstance(patterns, str):
        patterns = (patterns,)
    if not patterns:
        raise TargetError(
            f"No targets for {component}. Give a preset ({', '.join(PRESETS)}) or module names."
        )
    if component not in _PARTS:
        raise TargetError(f"Unknown component {component!r}; allowed are {', '.join(_PARTS)}.")
    paths = tuple(adaptable_modules(model))
    chosen: set[str] = set()
    for pattern in patterns:
        matches = match_paths(paths, pattern, component)
        if not matches:
            raise TargetError(_nothing_matches(model, paths, pattern, component))
        chosen.update(matches)
    return tuple(path for path in paths if path in chosen)


def match_paths(paths: Iterable[str], pattern: str, component: str) -> list[str]:
    """Those of some paths that a pattern of `select_targets` names."""
    return [path for path in paths if _matches(path, pattern, component)]


def _matches(path: str, pattern: str, component: str) -> bool:
    if pattern in PRESETS:
        globs = (glob for part in PRESETS[pattern] for glob in _PARTS[component][part])
        return any(fnmatchcase(path, glob) for glob in globs)
    if any(letter in pattern for letter in "*?["):
        return fnmatchcase(path, pattern)
    return path == pattern or path.endswith("." + pattern)


def _nothing_matches(model: nn.Module, paths: Sequence[str], pattern: str, component: str) -> str:
    problem = f"No module of {component} matches {pattern!r}."
    if not paths:
        return f"{problem} {type(model).__name__} has no Linear or Conv2d at all."
    if any(path.startswith(pattern + ".") for path in paths):
        return f"{problem} It is a block; write {pattern + '.*'!r} for everything in it."
    for path, module in model.named_modules():
        if path and (path == pattern or path.endswith("." + pattern)):
            return (
                f"{problem} {path} is a {type(module).__name__}; only Linear and ungrouped Conv2d can carry "
                "an adapter."
            )
    endings = list(dict.fromkeys(_ending(path) for path in paths))
    hint = near_miss(pattern, [*PRESETS, *endings, *paths])
    shown = ", ".join(endings[:16]) + (", ..." if len(endings) > 16 else "")
    return f"{problem}{hint} Presets: {', '.join(PRESETS)}. Its modules end in: {shown}."


def _ending(path: str) -> str:
    """The shortest end of a path that says something: "to_q", but "to_out.0" and "net.2"."""
    parts = path.split(".")
    return ".".join(parts[-2:]) if parts[-1].isdigit() else parts[-1]
