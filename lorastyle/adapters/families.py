"""Which base models exist, and how an adapter file shows which one it was made for.

Three witnesses, best first: what the metadata says, how wide the text is that cross-attention reads
(a shape, so it cannot be misspelt), and names that only one architecture has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .foreign import TRANSFORMER, foreign_family, names_of
from .formats.suffixes import split_suffix


@dataclass(frozen=True)
class Family:
    """One family of bases whose adapters fit each other."""

    id: str
    title: str
    text_width: int | None  # input width of attn2.to_k, where it tells this family from the others
    ss_base: str  # value of ss_base_model_version, kohya's word
    architecture: str  # value of modelspec.architecture, without "/lora"
    drawn: bool = True  # whether lorastyle has bases of it


FAMILIES: Mapping[str, Family] = {
    family.id: family
    for family in (
        Family(
            "lorastyle-icons", "lorastyle's embedded icons base", None, "lorastyle-icons", "lorastyle-icons"
        ),
        Family("sd1", "Stable Diffusion 1.x", 768, "sd_v1", "stable-diffusion-v1"),
        Family("sd2", "Stable Diffusion 2.x", 1024, "sd_v2", "stable-diffusion-v2-512"),
        Family("sdxl", "Stable Diffusion XL", 2048, "sdxl_base_v1-0", "stable-diffusion-xl-v1-base"),
        *(
            Family(family, title, None, ss_base, architecture, drawn=False)
            for family, title, ss_base, architecture in (
                ("sd3", "Stable Diffusion 3", "sd3_m", "stable-diffusion-3-m"),
                ("flux", "Flux", "flux1", "flux-1-dev"),
                ("flux2", "Flux.2", "flux2", "flux-2-dev"),
                ("chroma", "Chroma", "chroma", "chroma"),
                ("qwen_image", "Qwen-Image", "qwen_image", "qwen-image"),
                ("z_image", "Z-Image", "z_image", "z-image"),
                ("lumina2", "Lumina 2", "lumina2", "lumina-2"),
                ("hidream", "HiDream", "hidream", "hidream-i1"),
                ("wan", "Wan", "wan", "wan2.1"),
                ("hunyuan_video", "HunyuanVideo", "hunyuan_video", "hunyuan-video"),
                ("hunyuan_dit", "HunyuanDiT", "hunyuan_dit", "hunyuan-dit-g2"),
                ("ltx", "LTX-Video", "ltx", "ltx-video"),
                ("cosmos", "Cosmos Predict", "cosmos", "cosmos-predict"),
                ("mochi", "Mochi", "mochi", "mochi-1"),
                ("kandinsky5", "Kandinsky", "kandinsky5", "kandinsky-5"),
                ("pixart", "PixArt", "pixart", "pixart"),
                ("sana", "Sana", "sana", "sana"),
                ("aura_flow", "AuraFlow", "auraflow", "auraflow-v1"),
                ("kolors", "Kolors", "kolors", "kolors"),
                ("cascade", "Stable Cascade", "stable_cascade", "stable-cascade-v1"),
                ("video", "a video model", "video", "video"),
                (TRANSFORMER, "a diffusion transformer", "dit", "dit"),
            )
        ),
    )
}

# What trainers and ModelSpec write, in lower case and without marks, the longer before the shorter.
_WRITTEN: Mapping[str, str] = {
    "sdxl": "sdxl", "stablediffusionxl": "sdxl", "sdv1": "sd1", "sd1": "sd1", "stablediffusionv1": "sd1",
    "sdv2": "sd2", "sd2": "sd2", "stablediffusionv2": "sd2", "sd3": "sd3", "stablediffusion3": "sd3",
    "flux2": "flux2", "flux": "flux", "chroma": "chroma", "qwenimage": "qwen_image", "zimage": "z_image",
    "lumina": "lumina2", "hidream": "hidream", "wan": "wan", "hunyuanvideo": "hunyuan_video",
    "hunyuandit": "hunyuan_dit", "ltx": "ltx", "cosmos": "cosmos", "mochi": "mochi",
    "kandinsky5": "kandinsky5", "pixart": "pixart", "sana": "sana", "auraflow": "aura_flow",
    "kolors": "kolors",
    "stablecascade": "cascade",
}  # fmt: skip
_UNETS = ("kolors", "cascade", "video")  # of those that are not drawn, the ones with a UNet
_SDXL = re.compile(
    r"(?:lora_te2_|text_encoder_2[._]|te2[._]|clip_g[._])(?:\w{1,40}[._])?(?:text_model|encoder[._]layers|text_projection)"
)
_DEPTH = re.compile(r"blocks[._](?:[78][._]1|2[._]attentions[._][01])[._]transformer_blocks[._]9")


@dataclass(frozen=True)
class Witnesses:
    """What a file's names and sizes say of its base.

    Attributes:
        foreign: a family that is not Stable Diffusion 1.x, 2.x or XL.
        second_encoder: whether there is CLIP as SDXL's second text encoder.
        deep: whether attention has as many blocks as in SDXL's UNet, and its kin.
        unet: whether there is a UNet as Stable Diffusion has one.
        width: of the text that its cross-attention reads.
    """

    foreign: str | None
    second_encoder: bool
    deep: bool
    unet: bool
    width: int | None


def witnesses(tensors: Mapping[str, tuple[int, ...]]) -> Witnesses:
    """Of the tensors of a file, {key: shape}."""
    split = [(key, *_module(key)) for key in tensors]
    names = names_of(tensors, split)
    foreign = foreign_family(names)
    second_encoder, deep = sdxl_names("\n".join(names.modules))
    downs = {module: tensors[key] for key, module, role in split if role == "down"}
    return Witnesses(
        foreign,
        second_encoder,
        deep,
        names.is_unet,
        None if foreign and foreign not in _UNETS else cross_attention_width(downs),
    )


def sdxl_names(text: str) -> tuple[bool, bool]:
    """Whether names of SDXL's second text encoder are in a text, and of its deep attention."""
    second = any(mark in text for mark in ("te2", "encoder_2", "clip_g"))  # quicker than the expression
    return second and _SDXL.search(text) is not None, _DEPTH.search(text) is not None


def _module(key: str) -> tuple[str, str]:
    """A key's module and role; a key that is none of an adapter's is its own."""
    found = split_suffix(key)
    return (key, "") if found is None else found[:2]


def tell_family(metadata: Mapping[str, str], seen: Witnesses) -> tuple[str | None, str, str, tuple[str, ...]]:
    """The family, what says so, how sure that is, and a note on disagreement. Shapes and names outweigh
    metadata.
    """
    said = family_from_metadata(metadata)
    if is_foreign(said) and seen.unet and said not in _UNETS:
        said = None  # a UNet is none of a transformer
    if is_foreign(said) and seen.foreign == TRANSFORMER:
        return said, "metadata", "likely", ()
    by_width = family_from_width(seen.width)
    by_names = seen.foreign or ("sdxl" if seen.second_encoder or seen.deep else None)
    shown, source = (by_names, "names") if by_names else (by_width, "text width")
    if said == "kolors" and shown == "sdxl":
        return said, "metadata", "likely", ()  # their UNets are the same
    if said is None:
        if shown == TRANSFORMER:
            return shown, source, "unknown", ("the file does not tell which diffusion transformer it is for",)
        if shown:
            # Kolors has SDXL's UNet, and reads text as wide
            sure = by_width and (by_width != "sdxl" or seen.second_encoder) and shown == by_width
            return shown, source, "certain" if sure else "likely", ()
        why = f"; its cross-attention reads text of width {seen.width}" if seen.width else ""
        return None, "nothing", "unknown", (f"the file does not tell which base it was made for{why}",)
    # Families of our own (and bases nobody listed) may have any width, so only listed ones can disagree.
    if shown and shown != said and (by_names or _listed_width(said) is not None):
        note = f"the metadata says {said}, but the weights are those of {family_title(shown)}"
        return shown, source, "likely", (note,)
    return said, "metadata", "certain" if shown == said else "likely", ()


def _listed_width(family: str) -> int | None:
    return FAMILIES[family].text_width if family in FAMILIES else None


def family_title(family: str | None) -> str:
    """A name for people: the family's title, or the id itself where it is not one of ours."""
    if family is None:
        return "an unknown base"
    return FAMILIES[family].title if family in FAMILIES else family


def is_foreign(family: str | None) -> bool:
    """Whether it is a family that lorastyle knows and does not draw with."""
    return family is not None and family in FAMILIES and not FAMILIES[family].drawn


def family_from_metadata(metadata: Mapping[str, str]) -> str | None:
    """The family that a file's metadata names: our own key first, then kohya's, then ModelSpec's."""
    if own := metadata.get("lorastyle.base"):
        return own
    for key in ("ss_base_model_version", "modelspec.architecture"):
        word = re.sub(r"[^a-z0-9]", "", metadata.get(key, "").lower())
        if found := next((family for start, family in _WRITTEN.items() if word.startswith(start)), None):
            return found
    return None


def family_from_width(width: int | None) -> str | None:
    """The family whose cross-attention reads text of this width (768, 1024, 2048), if one does."""
    return next((f.id for f in FAMILIES.values() if width is not None and f.text_width == width), None)


def cross_attention_width(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Input width of `attn2.to_k` among {module name: shape of its down factor or weight}.

    None where there is none, or where they differ: then it tells nothing of the base.
    """
    widths = {
        shape[1]
        for name, shape in shapes.items()
        if "attn2" in name and name.endswith("to_k") and len(shape) >= 2
    }
    return widths.pop() if len(widths) == 1 else None
