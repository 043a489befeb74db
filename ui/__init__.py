"""The page, `lorastyle.ui`. Only this package may import gradio, and only `serve` does so.

What the page does is in modules without gradio: `studio` (drawing for many visitors), `shelf` (adapters by
id), `visitors` (what belongs to one of them), `starts` (pictures to
start from), `form`, `slots`, `restore`, `command`, `drawing`, `stage`. The page itself is thin: `page`
(assembly), `draw_tab`, `fields`, `adapter_rows`, `start_fields`, `draw_events`. `serve` and `guard` are the
door.
"""

from __future__ import annotations

from .logins import read_logins
from .serve import Options, serve

__all__ = ["Options", "read_logins", "serve"]
