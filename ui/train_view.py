"""The Train tab's pictures, plan and run as HTML. Every text in it is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from lorastyle.train import Plan, RunStatus

from .curve import curve
from .places import without_folders
from .stage import bullets, duration, message
from .trainings import Prospect
from .tray import Verdict

_SHOWN_FIRST = ("steps", "time", "memory", "trigger", "prompts", "kind")
_STATES = {
    "queued": "starting",
    "preparing": "getting ready",
    "training": "training",
    "finishing": "drawing the sheet",
    "finished": "finished",
    "stopped": "stopped",
    "failed": "failed",
    "crashed": "broke off",
}
_MARKS = {"used": "✓", "left out": "✕", "words": "¶"}


def tray(prospect: Prospect, refused: Sequence[str] = ()) -> str:
    """A card for each file, under a line that counts them."""
    verdicts = prospect.verdicts
    if not verdicts:
        return bullets("error", "Not taken", refused)
    used = sum(v.verdict == "used" for v in verdicts)
    out = sum(v.verdict == "left out" for v in verdicts)
    count = f"<b>{_count(used, 'picture')}</b> to train on" + (f", <b>{out}</b> left out" if out else "")
    cards = "".join(_card(verdict) for verdict in verdicts)
    clear = '<button type="button" class="lt-link" data-remove="*">Remove all</button>'
    return (
        bullets("error", "Not taken", refused)
        + f'<div class="lt-count"><span>{count}</span>{clear}</div><div class="lt-tray">{cards}</div>'
        + bullets("note", "Note", [*prospect.notes, *_advice(used)])
    )


def plan(prospect: Prospect) -> str:
    """What would happen, before anything starts; or why nothing can."""
    if prospect.plan is None:
        return message("error", "Not yet.", prospect.problem) if prospect.problem else ""
    return plan_rows(prospect.plan.describe(), "Plan", short=_is_short(prospect.plan))


def plan_rows(rows: Sequence[tuple[str, str]], title: str, *, short: bool = False) -> str:
    """The rows that most people want, and the others below. Files have their names alone."""
    rows = [(what.strip(), value) for what, value in rows]
    said = [(what, _plain(what, value)) for what, value in rows if what not in ("dropped", "note")]
    first = [row for name in _SHOWN_FIRST for row in said if row[0] == name]
    others = [row for row in said if row[0] not in _SHOWN_FIRST]
    wide = message("note", "Memory is short.", "It may be slow, or end with an error.") if short else ""
    more = f"<details><summary>More of the plan</summary>{_table(others)}</details>" if others else ""
    return f'{wide}<div class="lt-plan"><h4>{escape(title)}</h4>{_table(first)}{more}</div>'


def run(status: RunStatus | None) -> str:
    """What a run is at: its state, how far it is, its curve, and what came of it."""
    if status is None or status.state == "none":
        return (
            '<div class="lt-empty"><p>Your training appears here.</p>'
            "<p>Drop five to twenty pictures that share a style, or show one thing. "
            "Then press <b>Start training</b>.</p></div>"
        )
    state = "stopping" if status.stopping else _STATES[status.state]
    kind = "live" if status.active else "good" if status.state == "finished" else "bad"
    kind = "calm" if status.state == "stopped" else kind
    head = (
        f'<div class="lt-head"><h3>{escape(status.name)}</h3>'
        f'<span class="lt-state lt-{kind}" role="status">{state}</span></div>'
    )
    body = head + _bar(status) + _facts(status) + curve(status.losses, status.steps)
    return f'<div class="lt-run">{body}</div>{_end(status)}'


def _end(status: RunStatus) -> str:
    warnings = [
        without_folders(w, [status.path.parent])
        for w in status.warnings
        if not w.startswith("Stopped at step")
    ]
    said = bullets("note", "Note", warnings)
    if status.error:
        on = " Go on from its checkpoint." if status.can_resume else ""
        title = "It broke off." if status.state == "crashed" else "It failed."
        return message("error", title, without_folders(status.error, [status.path.parent]) + on) + said
    if status.state == "finished":
        word = f'Its word is "{status.trigger}".' if status.trigger else ""
        return message("done", f"{status.name} is ready", f"and among the adapters. {word}") + said
    if status.state == "stopped" and status.step:
        title = f"Stopped after {status.step} steps."
        return message("note", title, "What there is can be drawn with.") + said
    return said


def _bar(status: RunStatus) -> str:
    if status.state in ("preparing", "finishing") and status.total:
        share = status.done / status.total
    elif status.state in ("queued", "preparing"):
        return '<div class="lt-bar lt-waiting" role="progressbar"><i></i></div>'
    else:
        share = 1.0 if status.state == "finished" else status.step / status.steps if status.steps else 0.0
    percent = min(100.0, 100 * share)
    return (
        f'<div class="lt-bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent:.0f}"><i style="width:{percent:.1f}%"></i></div>'
    )


def _facts(status: RunStatus) -> str:
    facts: list[str] = []
    if status.state == "queued":
        facts.append("A process is started, and loads the base.")
    elif status.state in ("preparing", "finishing"):
        facts.append(
            f"{escape(status.what)} {status.done} of {status.total}" if status.total else "loads the base"
        )
    if status.step or status.state == "training":
        facts.append(f"step <b>{status.step:,}</b> of {status.steps:,}")
    if status.losses:
        facts.append(f"loss <b>{_mean([loss for _, loss in status.losses[-20:]]):.4f}</b>")
    if status.active and status.images_per_second:
        facts.append(f"{status.images_per_second:.1f} pictures a second")
    if status.seconds_left is not None:
        facts.append(f"<b>{duration(status.seconds_left)}</b> left")
    if status.seconds is not None:
        facts.append(f"took {duration(status.seconds)}")
    return f'<p class="lt-facts">{" · ".join(facts)}</p>'


def _card(verdict: Verdict) -> str:
    name = escape(verdict.file)
    shown = (
        f'<img src="{verdict.thumbnail}" alt="">'
        if verdict.thumbnail
        else f'<span class="lt-blank">{escape(verdict.file.rpartition(".")[2][:5])}</span>'
    )
    kind = verdict.verdict.replace(" ", "-")
    size = "" if verdict.size is None else f" · {verdict.size[0]} × {verdict.size[1]}"  # noqa: RUF001
    lines = [f"<em>{escape(verdict.prompt)}</em>"] if verdict.prompt else []
    lines += [f'<span class="lt-why">{escape(verdict.reason)}</span>'] if verdict.reason else []
    lines += [f'<span class="lt-note">{escape(note)}</span>' for note in verdict.notes]
    return (
        f'<div class="lt-card lt-{kind}"><div class="lt-thumb">{shown}</div><div class="lt-words">'
        f'<b title="{name}">{name}</b><span class="lt-verdict"><i>{_MARKS[verdict.verdict]}</i> '
        f"{verdict.verdict}{size}</span>{''.join(lines)}</div>"
        f'<button type="button" class="lt-remove" data-remove="{name}" aria-label="Remove {name}">✕</button>'
        "</div>"
    )


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f"<dt>{escape(what)}</dt><dd>{escape(value)}</dd>" for what, value in rows)
    return f"<dl>{cells}</dl>"


def _plain(what: str, value: str) -> str:
    """The plan in words of the page: no folders, and no flags of the command line."""
    if what == "file":
        path, _, size = value.rpartition(" (")
        return f"{path.replace(chr(92), '/').rpartition('/')[2]} ({size}"
    if what == "kind":
        return value.partition(" (if ")[0] + ")" if " (if " in value else value
    return value


def _advice(used: int) -> list[str]:
    return [f"{_count(used, 'picture')} is few: five to twenty teach more."] if 0 < used < 3 else []


def _is_short(of: Plan) -> bool:
    return of.memory_bytes > of.free > 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
