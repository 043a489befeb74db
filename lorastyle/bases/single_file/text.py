"""Text encoders: transformers' CLIPTextModel from either of the two codes that CLIP was trained with.

SD 1.x and SDXL's first encoder are OpenAI's CLIP ViT-L under transformers' own names. SD 2.x and SDXL's
second are OpenCLIP's, whose attention holds query, key and value as one matrix, and whose projection is
stored turned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..clip_words import WORDS
from .parts import LayoutError, Part, Shapes, Source, distinct, size, under

HEAD_SIZE = 64  # channels of a head in CLIP ViT-L (768), OpenCLIP ViT-H (1024) and ViT-bigG (1280)

_NOT_READ = re.compile(r"(text_model\.)?embeddings\.position_ids|text_projection(\.weight)?|logit_scale")
_NOT_READ_OPEN = re.compile(r"logit_scale|attn_mask|visual\..*")
_BLOCK = re.compile(r"transformer\.resblocks\.(?P<n>\d+)\.(?P<rest>.+)")
_EMBEDDING = "text_model.embeddings.token_embedding.weight"
_POSITIONS = "text_model.embeddings.position_embedding.weight"
_ENDS = {
    "token_embedding.weight": _EMBEDDING,
    "positional_embedding": _POSITIONS,
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection.weight": "text_projection.weight",
}
_LAYERS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_H_BLOCKS = 24  # of OpenCLIP ViT-H


def clip_part(shapes: Shapes, prefix: str) -> Part:
    """Config and sources of a text encoder under transformers' names, with or without `text_model.`.

    Raises:
        LayoutError: a tensor that gives a size is missing, or it knows fewer words than CLIP.
    """
    sources = distinct(
        (f"text_model.{name.removeprefix('text_model.')}", Source(prefix + name))
        for name in under(shapes, prefix)
        if not _NOT_READ.fullmatch(name)
    )
    return Part({**_config(shapes, sources), "hidden_act": "quick_gelu"}, sources)


def open_clip_part(shapes: Shapes, prefix: str, *, projection: bool) -> Part:
    """Config and sources of a text encoder under OpenCLIP's names.

    Args:
        projection: SDXL's second encoder: all blocks are kept, and the projection of the sentence. Otherwise
            that of SD 2.x, which reads the last but one block: the last is left out where the file has it.

    Raises:
        LayoutError: as of `clip_part`.
    """
    inside = {name: shape for name, shape in under(shapes, prefix).items() if not _NOT_READ_OPEN.match(name)}
    dropped = None if projection else _unused_block(inside)
    pairs: list[tuple[str, Source]] = []
    for name in inside:
        if name.startswith("text_projection") and not projection:
            continue
        if (block := _BLOCK.fullmatch(name)) is None:
            turned = name == "text_projection"
            new = "text_projection.weight" if turned else _ENDS.get(name, name)
            pairs.append((new, Source(prefix + name, turned=turned)))
        elif block["n"] != dropped:
            pairs += _block_sources(prefix + name, block["n"], block["rest"])
    sources = distinct(pairs)
    return Part({**_config(shapes, sources), "hidden_act": "gelu"}, sources)


def _unused_block(inside: Shapes) -> str | None:
    """The number of the block that SD 2.x does not read, or None where a converter left it out.

    Stability's files hold the whole text tower, with its projection; those made from a diffusers folder may
    hold the 23 blocks that are read, and no projection.
    """
    numbers = {int(block["n"]) for name in inside if (block := _BLOCK.fullmatch(name))}
    whole = len(numbers) == _H_BLOCKS or ("text_projection" in inside and len(numbers) != _H_BLOCKS - 1)
    return str(max(numbers)) if whole and numbers else None


def _block_sources(key: str, number: str, rest: str) -> list[tuple[str, Source]]:
    place = f"text_model.encoder.layers.{number}"
    for leaf in ("weight", "bias"):
        if rest == f"attn.in_proj_{leaf}":
            return [(f"{place}.self_attn.{x}_proj.{leaf}", Source(key, third=i)) for i, x in enumerate("qkv")]
    layer, _, leaf = rest.rpartition(".")
    return [(f"{place}.{_LAYERS.get(layer, layer)}.{leaf}", Source(key))]


def _config(shapes: Shapes, sources: Mapping[str, Source]) -> dict[str, Any]:
    def told(name: str, axis: int) -> int:
        if name not in sources:
            raise LayoutError(f"its text encoder lacks {name}")
        return size(shapes, sources[name].key, axis)

    words, width = told(_EMBEDDING, 0), told(_EMBEDDING, 1)
    if words < WORDS:
        raise LayoutError(f"its text encoder knows {words:,} words, where CLIP knows {WORDS:,}")
    layers = {name.split(".")[3] for name in sources if name.startswith("text_model.encoder.layers.")}
    projected = sources.get("text_projection.weight")
    return {
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": told("text_model.encoder.layers.0.mlp.fc1.weight", 0),
        "projection_dim": width if projected is None else projected.shape(shapes[projected.key])[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(1, width // HEAD_SIZE),
        "max_position_embeddings": told(_POSITIONS, 0),
        "bos_token_id": WORDS - 2,
        "eos_token_id": WORDS - 1,
    }
