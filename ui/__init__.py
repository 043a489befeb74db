"""The page, `lorastyle.ui`: grows with its own issue. Only this package may import gradio."""

from __future__ import annotations

__all__: list[str] = []
