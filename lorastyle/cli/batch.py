"""`lorastyle batch`: many pictures from one file, that can be stopped and gone on with."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from lorastyle.errors import ConfigError

from .console import base_line, note, say
from .drawing import PARTLY, cell_of, draw_plan, tell_outcome, tell_problems
from .names import check_out, near

if TYPE_CHECKING:
    from lorastyle.batch import Expansion, Job, Plan, Results

_FLAG = Parameter(negative="")
_SHEET = "contact-sheet.jpg"


def batch(
    file: Path,
    /,
    *,
    out: Annotated[Path | None, Parameter(("--out", "-o"))] = None,
    name: str | None = None,
    base: str | None = None,
    shard: str | None = None,
    retry_failed: Annotated[bool, _FLAG] = False,
    verify: Annotated[bool, _FLAG] = False,
    sheet: bool = True,
    metadata: bool = True,
    mode: Literal["auto", "bank", "fused"] = "auto",
    dry_run: Annotated[bool, _FLAG] = False,
    json: Annotated[bool, _FLAG] = False,
) -> int:
    """Draw many pictures from one file: a list, a spreadsheet, or settings that are multiplied.

        lorastyle batch cats.yaml

    Stopped or killed, the same command goes on: it draws what is missing or damaged, and nothing twice. One
    picture that fails does not stop the others; the exit code is then 3.

    Args:
        file: a manifest: .jsonl (an item a line), .csv (a header, an item a row) or .yaml.
        out: the folder for the pictures; pictures/NAME-OF-THE-FILE if left out.
        name: a template for the files' names; {index:05}-{seed}-{prompt} if left out.
        base: for items that name none: "embedded", a checkpoint file, a folder, or a Hub id.
        shard: draw one part of several, such as 1/4; run the others elsewhere, into the same folder.
        retry_failed: draw again what failed before.
        verify: compare every byte of the pictures that are there.
        sheet: make a contact sheet at the end.
        metadata: let the pictures carry the requests that drew them.
        mode: adapters beside the weights (bank), or added to them while a picture is drawn (fused); auto does
            what is quicker where it is the same picture.
        dry_run: only say what would be drawn.
        json: say it in JSON: with --dry-run the whole expansion, else a line for each picture.
    """
    from lorastyle.bases import default_base
    from lorastyle.batch import History, Results, expand, make_plan, parse_shard, read_manifest

    part = parse_shard(shard) if shard is not None else (1, 1)
    manifest = read_manifest(file)
    expansion = expand(manifest, base=base or default_base(), template=name)
    folder = out or Path("pictures") / file.stem
    planned = partial(make_plan, expansion, part=part, retry_failed=retry_failed, read=verify)
    if dry_run:
        plan = planned(History.read(folder), manifest.folder)
        _tell_plan(plan, expansion, folder, as_json=json)
        if not json:
            tell_problems(plan.problems, file)
        return PARTLY if plan.problems else 0
    _check_folder(folder)
    with Results.opened(folder, part) as results:
        plan = planned(results.history, manifest.folder)
        tell_problems(plan.problems, file)
        if not plan.jobs and plan.problems:
            raise ConfigError("nothing of it can be drawn.")
        _tell_start(plan, expansion, results, quiet=json)
        outcomes = draw_plan(plan, results, metadata=metadata, as_json=json, mode=mode)
        whole = part == (1, 1)
        made = _sheets(plan, results, file.name, new=bool(outcomes)) if sheet and whole else iter(())
        told = note if json else say
        for path in made:
            told(f"sheet: {near(path.absolute())}")
        if sheet and not whole and not json:
            say("the contact sheet comes with the same command without --shard, once all shards are drawn")
        return tell_outcome(plan, outcomes, folder, told)


def _check_folder(folder: Path) -> None:
    if folder.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp") and not folder.is_dir():
        raise ConfigError(f"--out {folder}: a batch draws many pictures. Name a folder.")
    check_out(folder)


def _tell_start(plan: Plan, expansion: Expansion, results: Results, *, quiet: bool) -> None:
    if expansion.same:
        note(f"{len(expansion.same):,} items ask for the very picture of an earlier one; it is drawn once.")
    if results.history.unread:
        what = f"{results.history.unread} lines of {results.folder}/results.jsonl"
        note(f"{what} cannot be read; they are passed over.")
    damaged = [job.item.name for job, state in plan.jobs if state == "damaged"]
    if damaged:
        more = f" and {len(damaged) - 5:,} more" if len(damaged) > 5 else ""
        note(f"damaged or changed, so drawn again: {', '.join(damaged[:5])}{more}. What was there is kept.")
    if plan.todo and not quiet:
        bases = dict.fromkeys(job.request.base for job in plan.todo)
        for base in bases:
            say(base_line(base))


def _tell_plan(plan: Plan, expansion: Expansion, folder: Path, *, as_json: bool) -> None:
    todo = {job.id for job in plan.todo}
    jobs = sorted(plan.jobs, key=lambda pair: pair[0].item.index)
    if as_json:
        document = {
            "folder": str(folder),
            "items": [
                {
                    "index": job.item.index,
                    "id": job.id,
                    "file": job.item.name,
                    "state": state,
                    "draw": job.id in todo,
                    "line": job.item.place.line,
                    "request": job.item.request.to_dict(),
                }
                for job, state in jobs
            ],
            "problems": [
                {"line": p.place.line, "column": p.place.column, "what": p.what} for p in plan.problems
            ],
            "same": {str(index): first for index, first in expansion.same.items()},
        }
        print(json_text.dumps(document, ensure_ascii=False, indent=1))
        return
    for job, state in jobs:
        print(f"{state:8}{job.item.name}  {_in_words(job)}")
    say(f"{len(todo):,} of {len(jobs):,} pictures would be drawn into {near(folder.absolute())}")


def _in_words(job: Job) -> str:
    asked = job.item.request
    parts = [f"seed {asked.seed}", *(str(use) for use in asked.adapters), f"{asked.steps} steps"]
    if asked.width or asked.height:
        parts.append(f"{asked.width or '?'}x{asked.height or '?'}")
    prompt = asked.prompt if len(asked.prompt) <= 60 else f"{asked.prompt[:59]}…"
    return f"{prompt} ({', '.join(parts)})"


def _note(job: Job) -> str:
    uses = [f"{Path(use.name).stem} {use.scale_on('unet'):g}" for use in job.item.request.adapters]
    return ", ".join([f"#{job.item.index}", f"seed {job.item.request.seed}", *uses])


def _sheets(plan: Plan, results: Results, title: str, *, new: bool) -> Iterator[Path]:
    """Make the contact sheets; only those that are not there, where nothing new was drawn."""
    from lorastyle.batch import MOST_ON_SHEET, contact_sheets, to_jpeg

    cells = [
        cell_of(job, results, _note(job)) for job, _ in sorted(plan.jobs, key=lambda pair: pair[0].item.index)
    ]
    count = -(-len(cells) // MOST_ON_SHEET)
    names = [_SHEET if count == 1 else f"contact-sheet-{i:02}.jpg" for i in range(1, count + 1)]
    if not new and all(results.sheet(name, title)[1] for name in names):
        return
    for name, sheet in zip(names, contact_sheets(cells, title), strict=True):
        yield results.keep_sheet(name, title, to_jpeg(sheet))
