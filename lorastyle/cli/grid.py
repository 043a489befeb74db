"""`lorastyle grid`: every value of one setting against every value of another, with labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from cyclopts import Parameter

from lorastyle.errors import ConfigError

from .console import base_line, say
from .drawing import cell_of, draw_plan, tell_outcome, tell_problems
from .names import Whole, check_out, near

if TYPE_CHECKING:
    from lorastyle.batch import GridAxis

_FLAG = Parameter(negative="")


def grid(
    prompt: str | None = None,
    /,
    *,
    x: str,
    y: str | None = None,
    adapter: Annotated[tuple[str, ...], Parameter(("--adapter", "-a"), negative="")] = (),
    negative: str | None = None,
    seed: Whole = 0,
    size: str | None = None,
    steps: Whole | None = None,
    guidance: float | None = None,
    scheduler: str | None = None,
    base: str | None = None,
    out: Annotated[Path | None, Parameter(("--out", "-o"))] = None,
    retry_failed: Annotated[bool, _FLAG] = False,
) -> int:
    """Draw a grid: every value of one setting against every value of another.

        lorastyle grid "a cat, sticker style" -a sticker --x sticker=0:1:0.25 --y seed=1:4

    The pictures are kept one by one beside the grid. Stopped or killed, the same command goes on.

    Args:
        prompt: what to draw, where no axis says it.
        x: the columns, KEY=VALUES: an adapter's name (its scale), seed, guidance, steps, size, scheduler,
            prompt, adapters, base ... Values are separated by commas, prompts by |; 0:1:0.25 is a range.
        y: the rows, likewise.
        adapter: NAME:SCALE, for all pictures. Repeat to stack.
        negative: what to keep out of the pictures.
        seed: of all pictures, where no axis says it.
        size: WIDTHxHEIGHT in pixels, or one number for a square; the base's own size if left out.
        steps: denoising steps; 30 if left out.
        guidance: how strictly to follow the prompt, 1 switches it off; the base's own if left out.
        scheduler: ddim, euler, "euler a" and others; the base's own if left out.
        base: "embedded", a checkpoint file, a folder, or a Hub id such as org/model.
        out: the folder for the pictures and grid.png; one in ./grids if left out.
        retry_failed: draw again what failed before.
    """
    from lorastyle.bases import default_base
    from lorastyle.batch import (
        Cell,
        Results,
        digest,
        draw_grid,
        expand,
        grid_manifest,
        make_plan,
        parse_axis,
        to_png,
    )
    from lorastyle.generate import AdapterUse, slug

    names = [AdapterUse.parse(text).name for text in adapter]
    columns, rows = parse_axis(x, names), parse_axis(y, names) if y is not None else None
    given = {
        "prompt": prompt,
        "negative": negative,
        "adapters": list(adapter) or None,
        "seed": seed,
        "size": size,
        "steps": steps,
        "guidance": guidance,
        "scheduler": scheduler,
        "base": base or default_base(),
    }
    settings = {key: value for key, value in given.items() if value is not None}
    axes = [axis for axis in (columns, rows) if axis is not None]
    if prompt is None and "prompt" not in [axis.key for axis in axes]:
        raise ConfigError('say what to draw: lorastyle grid "a cat" --x seed=1:4, or an axis of prompts.')
    expansion = expand(grid_manifest(settings, columns, rows), base=str(settings["base"]))
    this = digest([settings, *([axis.key, *axis.values] for axis in axes)])
    folder = out or Path("grids") / f"{slug(prompt or 'prompts', 40)}-{this[:6]}"
    check_out(folder)
    with Results.opened(folder) as results:
        plan = make_plan(expansion, results.history, Path(), retry_failed=retry_failed)
        tell_problems(plan.problems)
        if not plan.jobs:
            raise ConfigError("nothing of it can be drawn.")
        if plan.todo:
            say(base_line(str(settings["base"])))
        outcomes = draw_plan(plan, results)
        jobs = {job.item.index: job for job, _ in plan.jobs}
        count = len(columns.values) * (len(rows.values) if rows else 1)
        drawn_as = [expansion.same.get(index, index) for index in range(1, count + 1)]
        cells = [
            cell_of(jobs[index], results, "") if index in jobs else Cell(None, "", "cannot be drawn")
            for index in drawn_as
        ]
        sheet = draw_grid(
            cells,
            columns.labels,
            rows.labels if rows else (),
            prompt if prompt and "prompt" not in [axis.key for axis in axes] else "prompts",
            _in_words(settings, axes),
        )
        path = results.keep_sheet("grid.png", this, to_png(sheet))
        say(f"grid: {near(path.absolute())}")
        return tell_outcome(plan, outcomes, folder)


def _in_words(settings: Mapping[str, object], axes: list[GridAxis]) -> str:
    """What all pictures share, less what stands on the axes and the prompt."""
    from lorastyle.batch import ONE_ADAPTER
    from lorastyle.generate import AdapterUse

    varied = {axis.key for axis in axes}
    parts: list[str] = []
    for key, value in settings.items():
        if key == "adapters" and "adapters" not in varied:
            uses = [AdapterUse.parse(str(use)) for use in cast("list[object]", value)]
            parts += [f"{use.name} {use.scale:g}" for use in uses if ONE_ADAPTER + use.name not in varied]
        elif key not in varied | {"prompt", "adapters"}:
            parts.append(f"{key} {value}")
    return ", ".join(parts)
