"""`lorastyle doctor`: what a bug report and a newcomer need."""

from __future__ import annotations

import json
import sys
from typing import Annotated

from cyclopts import Parameter

from lorastyle.doctor import examine

from .console import console, say
from .findings import told


def doctor(
    *, self_test: bool = True, as_json: Annotated[bool, Parameter("--json", negative="")] = False
) -> int:
    """Say what is here to work with and what is wrong with it, ready to paste into a bug report.

    Versions, devices and how fast they are, disks and caches, bases at hand, extras that are missing, and a
    self-test of about ten seconds: train, reload, compare. Names of users and hosts and tokens are left out.
    Nothing is changed or downloaded.

    Args:
        self_test: train a few steps with the embedded base, in a temporary folder.
        as_json: print JSON.
    """
    with console(sys.stderr).status("looking around") as status:  # seen on a terminal only
        report = examine(self_test=self_test, on_look=lambda what: status.update(f"looking at {what}"))
    if as_json:
        say(json.dumps(report.as_dict(), indent=2))
    else:
        for text, style in told(report):
            say(text, style)
    return 0 if report.self_test is None or report.self_test.passed else 1
