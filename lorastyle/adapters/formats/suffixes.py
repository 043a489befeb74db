"""What a tensor is to its module: told by the end of its key, in the same way by every naming family."""

from __future__ import annotations

from collections.abc import Mapping

# end of the key: (role, the algorithm that has such tensors)
_ENDS: Mapping[str, tuple[str, str]] = {
    **{
        f"{spelled}.weight": (role, "")
        for role in ("down", "up", "mid")
        for spelled in (f"lora_{role}", f"lora.{role}", f"lora_linear_layer.{role}")
    },
    "lora_A": ("down", ""),
    "lora_B": ("up", ""),
    "alpha": ("alpha", ""),
    "scale": ("scale", ""),  # A1111: in the place of alpha / rank
    "dora_scale": ("magnitude", "DoRA"),
    "lora_magnitude_vector": ("row_magnitude", "DoRA"),
    **{f"hada_{part}": (f"hada_{part}", "LoHa") for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{
        f"lokr_{part}": (f"lokr_{part}", "LoKr")
        for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
    },
    **{part: (part, "OFT") for part in ("oft_blocks", "oft_diag", "rescale")},
    **{part: (part, "full difference") for part in ("diff", "diff_b")},
    **{part: (part, "norm") for part in ("w_norm", "b_norm")},
    **{part: (part, "LoRA with bias") for part in ("bias_indices", "bias_values", "bias_size")},
}
# Ends so short that other files have them too; they count after flattened names only.
_SHORT: Mapping[str, tuple[str, str]] = {
    "weight": ("weight", "IA3"),
    "on_input": ("on_input", "IA3"),
    "bias": ("bias", "LoRA with bias"),
    **{f"{part}.weight": (part, "GLoRA") for part in ("a1", "a2", "b1", "b2", "bm1", "bm2")},
    "set_weight": ("set_weight", "a weight that replaces the base's"),
}
_PEFT: Mapping[tuple[str, str], tuple[str, str]] = {
    ("lora_A", "weight"): ("down", ""),
    ("lora_B", "weight"): ("up", ""),
    ("lora_B", "bias"): ("up_bias", "LoRA with bias"),
    ("lora_magnitude_vector", "weight"): ("row_magnitude", "DoRA"),
}

UNSUPPORTED = frozenset({"GLoRA", "a weight that replaces the base's"})
"""Algorithms that are recognised and not read."""


def split_suffix(key: str) -> tuple[str, str, str] | None:
    """(module as spelled, role, algorithm), or None if no adapter tensor's key ends so."""
    parts = key.split(".")
    for count in (3, 2, 1):
        if len(parts) <= count:
            continue
        end, module = ".".join(parts[-count:]), ".".join(parts[:-count])
        if end in _ENDS:
            return (module, *_ENDS[end])
        if end in _SHORT and "." not in module:
            return (module, *_SHORT[end])
    return _peft(parts) or _processor(parts)


def _peft(parts: list[str]) -> tuple[str, str, str] | None:
    """`lora_A.weight`, and `lora_A.<adapter>.weight`, which keeps the name that the adapter had in memory."""
    for count in (2, 3):
        if len(parts) > count and (found := _PEFT.get((parts[-count], parts[-1]))):
            return (".".join(parts[:-count]), *found)
    if len(parts) > 2 and parts[-2] == "lora_magnitude_vector":
        return (".".join(parts[:-2]), *_ENDS["lora_magnitude_vector"])
    return None


def _processor(parts: list[str]) -> tuple[str, str, str] | None:
    """`processor.to_q_lora.down.weight`, as diffusers wrote before 0.20."""
    if len(parts) < 4 or parts[-1] != "weight" or parts[-2] not in ("down", "up"):
        return None
    name = parts[-3].removesuffix("_lora")
    return None if name == parts[-3] else (".".join([*parts[:-3], name]), parts[-2], "")
