"""`lorastyle ui`: the page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .console import base_line, say
from .interrupt import gentle
from .names import Whole, check_out


def ui(
    *,
    base: str | None = None,
    out: Annotated[Path, Parameter(("--out", "-o"))] = Path("pictures"),
    port: Whole | None = None,
    open: Annotated[bool, Parameter(negative="")] = False,
    listen: Annotated[bool, Parameter(negative="")] = False,
    share: Annotated[bool, Parameter(negative="")] = False,
    auth: str | None = None,
    auth_file: Path | None = None,
    host: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    max_upload: Whole = 2000,
) -> None:
    """Draw and train in the browser, on a page that this machine serves.

        lorastyle ui --open

    Only this machine can open it, and it needs no network. Ctrl-C ends it.

    Args:
        base: "embedded", a checkpoint file, a folder, or a Hub id such as org/model.
        out: the folder in which all pictures are kept.
        port: 7860, or the next that is free, if left out.
        open: open the page in the browser.
        listen: let other machines on the network in. Needs a password.
        share: a public address through gradio's servers, which needs the network and a password.
        auth: "user:password" that visitors must enter. Other users of this machine can read it in the list
            of processes; --auth-file or the environment variable LORASTYLE_AUTH keeps it private.
        auth_file: a text file with one "user:password" a line.
        host: with --listen, a name by which others call this machine. Repeat for several.
        max_upload: the largest file that can be uploaded, in megabytes.
    """
    from lorastyle.ui import Options, read_logins, serve

    options = Options(
        base=base,
        out=out,
        port=port,
        listen=listen,
        share=share,
        logins=read_logins(auth, auth_file),
        hosts=host,
        max_upload=max_upload * 1_000_000,
        open_browser=open,
    )
    check_out(out / "picture.png")
    say(base_line(base))
    for name in serve(options, _until_interrupted):
        say(f"{name} is being trained, and that goes on. To stop it: lorastyle ui, and Stop in its Train tab")


def _until_interrupted(address: str, shared: str | None) -> None:
    say(f"the page: {address}")
    if shared:
        say(f"for others: {shared}")
    say("Ctrl-C ends it")
    with gentle() as asked:
        asked.wait()
