"""Which base models exist, and how an adapter file shows which one it was made for.

Three witnesses, best first: what the metadata says, how wide the text is that cross-attention reads
(a shape, so it cannot be misspelt), and names that only one architecture has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass


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
        Family("sd3", "Stable Diffusion 3", None, "sd3_m", "stable-diffusion-3-m", drawn=False),
        Family("flux", "Flux", None, "flux1", "flux-1-dev", drawn=False),
    )
}

# The order matters: SD3 and Flux files have a second text encoder too.
_TELLING_NAMES: tuple[tuple[str, str], ...] = (
    ("joint_blocks", "sd3"),
    ("attn.add_q_proj", "sd3"),
    ("double_blocks", "flux"),
    ("single_blocks", "flux"),
    ("single_transformer_blocks", "flux"),
    ("lora_te2_", "sdxl"),
    ("text_encoder_2.", "sdxl"),
    ("input_blocks_7_1_transformer_blocks_9", "sdxl"),
    ("input_blocks_8_1_transformer_blocks_9", "sdxl"),
    ("down_blocks_2_attentions_0_transformer_blocks_9", "sdxl"),
    ("down_blocks.2.attentions.0.transformer_blocks.9", "sdxl"),
)


def family_title(family: str | None) -> str:
    """A name for people: the family's title, or the id itself where it is not one of ours."""
    if family is None:
        return "an unknown base"
    return FAMILIES[family].title if family in FAMILIES else family


def family_from_metadata(metadata: Mapping[str, str]) -> str | None:
    """The family that a file's metadata names: our own key first, then kohya's, then ModelSpec's."""
    if own := metadata.get("lorastyle.base"):
        return own
    words = metadata.get("ss_base_model_version", ""), metadata.get("modelspec.architecture", "")
    for word, prefixes in (
        (words[0], {"sdxl": "sdxl", "sd_v1": "sd1", "sd_v2": "sd2", "sd3": "sd3", "flux": "flux"}),
        (
            words[1],
            {
                "stable-diffusion-xl": "sdxl",
                "stable-diffusion-v1": "sd1",
                "stable-diffusion-v2": "sd2",
                "stable-diffusion-3": "sd3",
                "flux": "flux",
            },
        ),
    ):
        for prefix, family in prefixes.items():
            if word.startswith(prefix):
                return family
    return None


def family_from_width(width: int | None) -> str | None:
    """The family whose cross-attention reads text of this width (768, 1024, 2048), if one does."""
    return next((f.id for f in FAMILIES.values() if width is not None and f.text_width == width), None)


def family_from_names(names: Collection[str]) -> str | None:
    """The family that some tensor name gives away (SDXL, SD3 and Flux have names of their own)."""
    return next((family for part, family in _TELLING_NAMES if any(part in name for name in names)), None)


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
