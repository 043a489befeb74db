"""Manifests by their text, and a painter that stands for the engine where only files matter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from lorastyle.batch import Expansion, expand, read_manifest
from lorastyle.batch.expand import digest
from lorastyle.generate import GenerateRequest
from lorastyle.generate.engine import Picture

Expand = Callable[..., Expansion]


@pytest.fixture
def expanded(tmp_path: Path) -> Expand:
    """`expanded(text, "yaml")`: the pictures of a manifest."""

    def make(text: str | bytes, kind: str = "yaml", template: str | None = None) -> Expansion:
        path = tmp_path / f"manifest.{kind}"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return expand(read_manifest(path), base="embedded", template=template)

    return make


def paint(request: GenerateRequest) -> Picture:
    """A small picture whose colours are the request's."""
    values = bytes.fromhex(digest(request.to_dict()))
    return Picture(Image.frombytes("RGB", (2, 1), values[:6]).resize((16, 16)), request)


def prompts(expansion: Expansion) -> list[str]:
    return [item.request.prompt for item in expansion.items]


def told(expansion: Expansion) -> list[str]:
    return [str(problem) for problem in expansion.problems]
