"""What a checkpoint file is and holds, told from its header alone, so that a wrong file costs no time."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lorastyle.adapters import Header, read_header
from lorastyle.errors import AdapterFileError, BaseError

from ..inputs import is_inpainting
from .kinds import SUPPORTED, Kind, tell_kind
from .parts import LayoutError, Part
from .prediction import Prediction, check_prediction_type, stated_prediction
from .text import clip_part, open_clip_part
from .unet import unet_part
from .vae import vae_part

_AGAIN = "Download it again, or choose another base"
_PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_MOST_TENSORS = 20_000  # SDXL has 2,515, and as many again with averaged weights
_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})
_SD2_EPSILON_RESOLUTION = 512  # Stability trained SD 2.x on noise at 512 and on v at 768
# the paths stay outside the code, so that no name can be read as part of it
_CONVERT = (
    "import sys, torch; from safetensors.torch import save_file; d = torch.load(sys.argv[1], "
    "weights_only=True, map_location='cpu'); d = d.get('state_dict', d); "
    "save_file({k: v.contiguous().clone() for k, v in d.items() if torch.is_tensor(v)}, sys.argv[2])"
)


@dataclass(frozen=True)
class Checkpoint:
    """A file that can be loaded.

    Attributes:
        path: the file.
        name: what the user called it.
        kind: its family's facts; `kind.id` is "sd1", "sd2" or "sdxl".
        parts: "unet", "vae", "text_encoder" and for SDXL "text_encoder_2".
        prediction: what its UNet predicts; None where nothing says so and the UNet will be asked.
        inpainting: whether the UNet also reads a mask and the masked picture: 9 input channels instead of 4.
    """

    path: Path
    name: str
    kind: Kind
    header: Header
    parts: Mapping[str, Part]
    prediction: Prediction | None
    inpainting: bool = False

    @property
    def text_width(self) -> int:
        """Width of the text that the UNet reads: 768 for SD 1.x, 1024 for 2.x, 2048 for XL."""
        return int(self.parts["unet"].config["cross_attention_dim"])

    def resolution_for(self, prediction: Prediction) -> int:
        """The native side in pixels: the metadata's, else its family's, else for SD 2.x that of its kind."""
        told = _resolution(self.header.metadata)
        if told is None and self.kind.id == "sd2" and prediction.type == "epsilon":
            return _SD2_EPSILON_RESOLUTION
        return self.kind.resolution if told is None else told


def inspect_checkpoint(path: Path, name: str, *, prediction_type: str | None = None) -> Checkpoint:
    """Read the header of the checkpoint at `path` and tell what it is.

    Args:
        name: what the user called it, for messages.
        prediction_type: "epsilon" or "v_prediction" where the caller knows better; None asks the file.

    Raises:
        BaseError: a pickle, a damaged file, an adapter, one part alone, another family, or a checkpoint whose
            parts do not fit together; with the next step.
    """
    if prediction_type is not None:
        check_prediction_type(prediction_type)
    _refuse_other_files(path, name)
    try:
        header = read_header(path)
    except AdapterFileError as error:
        raise BaseError(f'The base "{name}" cannot be loaded. {error}') from error
    try:
        kind = tell_kind(header.tensors)
    except LayoutError as error:
        raise BaseError(f'The base "{name}" cannot be loaded: {error}.') from error
    try:
        parts = _parts(header, kind)
    except LayoutError as error:
        raise cannot_be(name, kind, str(error)) from error
    unet = parts["unet"].config
    inpainting = is_inpainting(name, unet["in_channels"], unet["out_channels"])
    default = None if kind.id == "sd2" else "epsilon"
    return Checkpoint(
        path,
        name,
        kind,
        header,
        parts,
        stated_prediction(path, header.tensors, header.metadata, wanted=prediction_type, default=default),
        inpainting,
    )


def cannot_be(name: str, kind: Kind, why: str) -> BaseError:
    """The error for a file with the names of a family and something that is not of it."""
    return BaseError(
        f'The base "{name}" has the names of a {kind.title} checkpoint, but {why}. It is damaged, or a '
        f"variant that lorastyle does not know. {_AGAIN}."
    )


def _refuse_other_files(path: Path, name: str) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise BaseError(f'The base "{name}" cannot be read ({error.strerror or error}).') from error
    if start.startswith(b"GGUF"):
        raise BaseError(f'The base "{name}" is a GGUF model. lorastyle needs {SUPPORTED}, as .safetensors.')
    if start[8:9] == b"{":  # a header; the length before it may be any bytes, a pickle's first among them
        return
    if _is_text(start):
        raise BaseError(f'The base "{name}" is a text file. lorastyle needs {SUPPORTED}, as .safetensors.')
    if start.startswith((b"PK\x03\x04", b"\x80")) or path.suffix.lower() in _PICKLES:
        old, new = str(path), f"{path.with_suffix('')}-converted.safetensors"
        raise BaseError(
            f'The base "{name}" is a pickle, which can run code when it is opened, so lorastyle does not '
            "open it. Get the .safetensors file, or convert it by PyTorch's restricted reader: "
            f'python -c "{_CONVERT}" {shlex.quote(old)} {shlex.quote(new)}'
        )


def _is_text(start: bytes) -> bool:
    """Plain words; `read_header` knows more of web pages, JSON and what Git LFS leaves."""
    known = start.startswith((b"<", b"{", b"version h"))
    return len(start) == 9 and not known and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start)


def _parts(header: Header, kind: Kind) -> dict[str, Part]:
    if len(header.tensors) > _MOST_TENSORS:
        raise LayoutError(
            f"it has {len(header.tensors):,} tensors, where at most {_MOST_TENSORS:,} are allowed"
        )
    shapes = {name: entry.shape for name, entry in header.tensors.items()}
    parts = {"unet": unet_part(shapes, head_size=kind.head_size), "vae": vae_part(shapes)}
    if kind.id == "sd1":
        parts["text_encoder"] = clip_part(shapes, kind.text)
    elif kind.id == "sd2":
        parts["text_encoder"] = open_clip_part(shapes, kind.text, projection=False)
    else:
        parts["text_encoder"] = clip_part(shapes, "conditioner.embedders.0.transformer.")
        parts["text_encoder_2"] = open_clip_part(shapes, kind.text, projection=True)
    _check_fit(parts)
    for source in (source for part in parts.values() for source in part.sources.values()):
        dtype = header.tensors[source.key].dtype
        if dtype not in _FLOATS:
            raise LayoutError(f"{source.key} is stored as {dtype}, where a float type is needed")
    return parts


def _check_fit(parts: Mapping[str, Part]) -> None:
    """Do the parts fit each other? Each fits itself, or it will not be built."""
    unet = parts["unet"].config
    widths = [part.config["hidden_size"] for name, part in parts.items() if name.startswith("text")]
    if unet["cross_attention_dim"] != sum(widths):
        raise LayoutError(
            f"its UNet reads text of width {unet['cross_attention_dim']} and its text encoders give {widths}"
        )
    latent = parts["vae"].config["latent_channels"]
    if unet["out_channels"] != latent:
        raise LayoutError(
            f"its UNet gives {unet['out_channels']} channels and its autoencoder takes {latent}"
        )
    if ("text_encoder_2" in parts) != ("addition_embed_type" in unet):
        raise LayoutError("its UNet and its text encoders differ on whether it reads a pooled sentence")
    if "text_encoder_2" in parts:
        pooled = parts["text_encoder_2"].config["projection_dim"]
        numbers = unet["projection_class_embeddings_input_dim"] - pooled
        if numbers <= 0 or numbers % 12:  # six sizes, each as pairs of sine and cosine
            raise LayoutError(f"its UNet has room for {numbers} numbers about size and crop")


def _resolution(metadata: Mapping[str, str]) -> int | None:
    """ModelSpec's native size, where it is a square that a model can draw."""
    found = re.fullmatch(r"\s*(\d{2,4})\s*x\s*(\d{2,4})\s*", metadata.get("modelspec.resolution", ""))
    if found is None or found[1] != found[2] or int(found[1]) not in range(64, 4097, 64):
        return None
    return int(found[1])
