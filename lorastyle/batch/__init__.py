"""Many pictures from one file: a manifest is expanded, ordered, drawn, and can be stopped and gone on with.

    manifest = read_manifest("cats.yaml")
    expansion = expand(manifest, base="embedded")
    with Results.opened(Path("pictures")) as results:
        plan = make_plan(expansion, results.history, manifest.folder)
        for outcome in run(plan.todo, Drawer(), results):
            print(outcome.path or outcome.error)

Nothing here imports torch before a picture is drawn.
"""

from __future__ import annotations

from .entries import Entry
from .expand import Expansion, Item, digest, expand
from .grid import GridAxis, draw_grid, grid_manifest, parse_axis
from .history import History, Kept, State
from .keys import ONE_ADAPTER
from .manifest import Manifest, read_manifest
from .names import Template
from .order import cost, order, parse_shard, shard
from .places import Place, Problem
from .resolve import Job, resolve
from .results import Results
from .run import Drawer, Outcome, Plan, make_plan, run
from .sheet import MOST_ON_SHEET, Cell, contact_sheets, to_jpeg, to_png

__all__ = [
    "MOST_ON_SHEET",
    "ONE_ADAPTER",
    "Cell",
    "Drawer",
    "Entry",
    "Expansion",
    "GridAxis",
    "History",
    "Item",
    "Job",
    "Kept",
    "Manifest",
    "Outcome",
    "Place",
    "Plan",
    "Problem",
    "Results",
    "State",
    "Template",
    "contact_sheets",
    "cost",
    "digest",
    "draw_grid",
    "expand",
    "grid_manifest",
    "make_plan",
    "order",
    "parse_axis",
    "parse_shard",
    "read_manifest",
    "resolve",
    "run",
    "shard",
    "to_jpeg",
    "to_png",
]
