"""The image-text encoder of the embedded base: how alike are two pictures, how true is one to its words?

A CLIP model of three megabytes (Radford et al. 2021, arXiv:2103.00020) that knows icons, so that
scores need no network. Embeddings have length 1: their dot product is the cosine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from lorastyle.errors import BaseError

EMBEDDED = Path(__file__).with_name("embedded")


class Likeness:
    """Image and text towers with a shared space of 128 dimensions."""

    def __init__(self, model: CLIPModel, tokenizer: CLIPTokenizer, side: int) -> None:
        self.model = model.float().eval()
        self.tokenizer = tokenizer
        self.side = side

    @classmethod
    def load(cls, folder: Path = EMBEDDED) -> Likeness:
        """The encoder beside a base in `folder`.

        Raises:
            BaseError: the folder has no `likeness/`.
        """
        if not (folder / "likeness" / "config.json").exists():
            raise BaseError(
                f"{folder} has no likeness/ folder: only the embedded base ships an image-text encoder. "
                "Leave `folder` out to use that one."
            )
        facts = json.loads((folder / "likeness" / "config.json").read_text())
        return cls(
            CLIPModel.from_pretrained(folder / "likeness", local_files_only=True),
            CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            side=facts["vision_config"]["image_size"],
        )

    @torch.no_grad()
    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """PIL pictures of any size -> embeddings (n, 128) of length 1."""
        side = (self.side, self.side)
        arrays = [np.asarray(p.convert("RGB").resize(side, Image.Resampling.LANCZOS)) for p in pictures]
        pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1
        vision = self.model.vision_model(pixel_values=pixels).pooler_output
        return torch.nn.functional.normalize(self.model.visual_projection(vision), dim=-1)

    @torch.no_grad()
    def texts(self, words: Sequence[str]) -> Tensor:
        """Prompts -> embeddings (n, 128) of length 1."""
        tokens = self.tokenizer(list(words), padding="max_length", truncation=True, return_tensors="pt")
        text = self.model.text_model(input_ids=tokens.input_ids).pooler_output
        return torch.nn.functional.normalize(self.model.text_projection(text), dim=-1)
