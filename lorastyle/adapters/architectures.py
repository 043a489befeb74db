"""Every module of the published bases and the shape of its weight, without a base at hand.

Names in files are looked up among the modules of a model. Where none is loaded (converting a file, comparing
two), this is the list of a family's modules: Linear, Conv2d and norm layers, as diffusers and transformers
name them. Source: the families' config.json files; compared with the classes themselves in the tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _UNet:
    """depths: transformer blocks of each attention, by level; 0 is a level without attention."""

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    middle: int
    text: int
    linear: bool
    added: int = 0  # width of the pooled sentence with the time ids


@dataclass(frozen=True)
class _Text:
    layers: int
    width: int
    projection: int = 0


_BASES: Mapping[str, tuple[_UNet, tuple[_Text, ...]]] = {
    "sd1": (_UNet((320, 640, 1280, 1280), (1, 1, 1, 0), 1, 768, False), (_Text(12, 768),)),
    "sd2": (_UNet((320, 640, 1280, 1280), (1, 1, 1, 0), 1, 1024, True), (_Text(23, 1024),)),
    "sdxl": (
        _UNet((320, 640, 1280), (0, 2, 10), 10, 2048, True, 2816),
        (_Text(12, 768), _Text(32, 1280, 1280)),
    ),
}
_LAYERS = 2  # residual blocks a level on the way down; one more on the way up


def family_modules(family: str) -> dict[str, dict[str, Shape]] | None:
    """{component: {module path: shape of its weight}} of a family's base; None for one not listed here."""
    if family not in _BASES:
        return None
    unet, texts = _BASES[family]
    components = {"unet": dict(_unet(unet))}
    for component, text in zip(("text_encoder", "text_encoder_2"), texts, strict=False):
        components[component] = dict(_text(text))
    return components


def _unet(unet: _UNet) -> Iterator[tuple[str, Shape]]:
    channels, last = unet.channels, len(unet.channels) - 1
    first, time = channels[0], 4 * channels[0]
    yield "conv_in", (first, 4, 3, 3)
    yield from _pair("time_embedding", first, time)
    if unet.added:
        yield from _pair("add_embedding", unet.added, time)
    width = first
    for level, out in enumerate(channels):
        block = f"down_blocks.{level}"
        for i in range(_LAYERS):
            yield from _resnet(f"{block}.resnets.{i}", width if i == 0 else out, out, time)
            yield from _attention(f"{block}.attentions.{i}", out, unet, unet.depths[level])
        if level < last:
            yield f"{block}.downsamplers.0.conv", (out, out, 3, 3)
        width = out
    yield from _resnet("mid_block.resnets.0", width, width, time)
    yield from _attention("mid_block.attentions.0", width, unet, unet.middle)
    yield from _resnet("mid_block.resnets.1", width, width, time)
    for place, level in enumerate(reversed(range(last + 1))):
        block, out = f"up_blocks.{place}", channels[level]
        for i in range(_LAYERS + 1):
            skipped = out if i < _LAYERS else channels[max(level - 1, 0)]
            yield from _resnet(f"{block}.resnets.{i}", (width if i == 0 else out) + skipped, out, time)
            yield from _attention(f"{block}.attentions.{i}", out, unet, unet.depths[level])
        if level > 0:
            yield f"{block}.upsamplers.0.conv", (out, out, 3, 3)
        width = out
    yield "conv_norm_out", (first,)
    yield "conv_out", (4, first, 3, 3)


def _pair(path: str, width: int, out: int) -> Iterator[tuple[str, Shape]]:
    yield f"{path}.linear_1", (out, width)
    yield f"{path}.linear_2", (out, out)


def _resnet(path: str, width: int, out: int, time: int) -> Iterator[tuple[str, Shape]]:
    yield f"{path}.norm1", (width,)
    yield f"{path}.conv1", (out, width, 3, 3)
    yield f"{path}.time_emb_proj", (out, time)
    yield f"{path}.norm2", (out,)
    yield f"{path}.conv2", (out, out, 3, 3)
    if width != out:
        yield f"{path}.conv_shortcut", (out, width, 1, 1)


def _attention(path: str, width: int, unet: _UNet, depth: int) -> Iterator[tuple[str, Shape]]:
    if not depth:
        return
    whole = (width, width) if unet.linear else (width, width, 1, 1)
    yield f"{path}.norm", (width,)
    yield f"{path}.proj_in", whole
    for i in range(depth):
        block = f"{path}.transformer_blocks.{i}"
        for n, text in ((1, width), (2, unet.text)):
            yield f"{block}.norm{n}", (width,)
            yield f"{block}.attn{n}.to_q", (width, width)
            yield f"{block}.attn{n}.to_k", (width, text)
            yield f"{block}.attn{n}.to_v", (width, text)
            yield f"{block}.attn{n}.to_out.0", (width, width)
        yield f"{block}.norm3", (width,)
        yield f"{block}.ff.net.0.proj", (8 * width, width)
        yield f"{block}.ff.net.2", (width, 4 * width)
    yield f"{path}.proj_out", whole


def _text(text: _Text) -> Iterator[tuple[str, Shape]]:
    # as transformers names them; the version decides over the prefix, and files are read either way
    prefix, width = ("text_model." if text.projection else ""), text.width
    for i in range(text.layers):
        layer = f"{prefix}encoder.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"{layer}.self_attn.{name}", (width, width)
        yield f"{layer}.mlp.fc1", (4 * width, width)
        yield f"{layer}.mlp.fc2", (width, 4 * width)
        yield f"{layer}.layer_norm1", (width,)
        yield f"{layer}.layer_norm2", (width,)
    yield f"{prefix}final_layer_norm", (width,)
    if text.projection:
        yield "text_projection", (text.projection, width)
