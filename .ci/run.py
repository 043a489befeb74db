#!/usr/bin/env python3
"""What a stranger would do, on a copy of the last commit: the README's own lines, the checks, the wheel.

    bash .ci/run

Needs Python with pip, and a package index. Every step is timed; the first that fails ends it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT_MINUTES = 25
VENV_BIN = "Scripts" if os.name == "nt" else "bin"


def readme_line(name: str, readme: str) -> str:
    """The one command line in the fenced block after `<!-- ci: name -->`."""
    found = re.findall(rf"<!-- ci: {name} -->\s*```\w*\n(.+?)\n```", readme, re.DOTALL)
    if len(found) != 1 or "\n" in found[0].strip():
        raise SystemExit(
            f"README.md: one line is needed in one block after <!-- ci: {name} -->, found {found}"
        )
    return found[0].strip()


class Run:
    """Runs commands in a folder, times them, and stops at the first that fails."""

    def __init__(self, path: str) -> None:
        self.times: list[tuple[str, float]] = []
        kept = {
            k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "PIP_CONSTRAINT")
        }
        self.environment = {**kept, "CI": "true", "PATH": f"{path}{os.pathsep}{kept['PATH']}"}

    def __call__(self, title: str, command: str, folder: Path) -> None:
        print(f"\n=== {title}: {command}", flush=True)
        start = time.monotonic()
        code = subprocess.run(command, shell=True, cwd=folder, env=self.environment).returncode
        self.times.append((title, time.monotonic() - start))
        if code:
            self.report()
            raise SystemExit(f"\nFAILED ({code}): {title}: {command}")

    def line(self, title: str, command: str, folder: Path) -> None:
        """A README line, each of its `&&` parts timed."""
        for part in command.split(" && "):
            self(f"{title}, {part.split()[0].split('/')[-1]} {part.split()[1]}", part, folder)

    def report(self) -> None:
        print("\n  seconds  step")
        for title, seconds in self.times:
            print(f"{seconds:9.1f}  {title}")
        total = sum(seconds for _, seconds in self.times)
        print(f"{total:9.1f}  together, {total / 60:.1f} minutes of {LIMIT_MINUTES}")


def copy_of_last_commit(target: Path) -> None:
    """Tracked files only: what lies about in this checkout must not help."""
    archive = target.with_suffix(".tar")
    subprocess.run(["git", "archive", "--output", str(archive), "HEAD"], cwd=ROOT, check=True)
    target.mkdir()
    with tarfile.open(archive) as tar:
        if sys.version_info >= (3, 12):
            tar.extractall(target, filter="data")
        else:
            tar.extractall(target)
    if subprocess.check_output(["git", "status", "--porcelain", "--untracked-files=no"], cwd=ROOT):
        print("note: there are uncommitted changes; the last commit is tested, without them")


def chromium(run: Run, folder: Path) -> None:
    """The browser that the tests of the page drive, where it is not here yet."""
    if shutil.which("chromium") or shutil.which("google-chrome"):
        return
    if shutil.which("apt-get") is None:
        raise SystemExit("FAILED: the tests of the page need Chromium. Install it, and start again.")
    rights = "" if os.geteuid() == 0 else "sudo "
    install = "apt-get install -y -qq --no-install-recommends chromium"
    run("browser", f"{rights}apt-get update -qq && {rights}{install} > /dev/null", folder)


def need(folder: Path, pattern: str) -> Path:
    """The first file that matches; the run fails where there is none."""
    found = sorted(path for path in folder.glob(pattern) if path.stat().st_size > 0)
    if not found:
        raise SystemExit(f"FAILED: no {pattern} in {folder}")
    print(f"{found[0].name}: {found[0].stat().st_size / 1e6:.2f} MB")
    return found[0]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="lorastyle-ci-", ignore_cleanup_errors=True) as temporary:
        work = Path(temporary)
        clone, elsewhere = work / "lorastyle", work / "elsewhere"
        copy_of_last_commit(clone)
        elsewhere.mkdir()
        (work / "bin").mkdir()
        if os.name != "nt":  # the README says `python`; let it be the one that runs this
            wrapper = work / "bin" / "python"
            wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(os.path.realpath(sys.executable))} "$@"\n')
            wrapper.chmod(0o755)
        run = Run(str(work / "bin"))
        readme = (clone / "README.md").read_text(encoding="utf-8")

        run.line("demo", readme_line("demo", readme), clone)
        need(clone / "lorastyle-demo", "**/*.safetensors")
        need(clone / "lorastyle-demo", "*sheet*.png")
        chromium(run, elsewhere)
        run.line("tests", readme_line("tests", readme), clone)

        tools = clone / ".venv" / VENV_BIN
        run("ruff check", f"{tools}/ruff check .", clone)
        run("ruff format", f"{tools}/ruff format --check .", clone)
        run("pyright", f"{tools}/pyright --pythonpath {tools}/python", clone)

        run("wheel, build", f"{tools}/pip wheel -q --no-deps --wheel-dir {work}/dist .", clone)
        wheel = need(work / "dist", "*.whl")
        other = work / "other" / VENV_BIN
        run("wheel, venv", f"python -m venv {work}/other", elsewhere)
        run("wheel, install", f"{other}/pip install -q -c {clone}/constraints.txt {wheel}", elsewhere)
        run("wheel, demo", f"{other}/lorastyle demo --steps 20 --out short", elsewhere)
        adapter = shlex.quote(str(need(elsewhere / "short", "*.safetensors")))
        need(elsewhere / "short", "*sheet*.png")
        run("wheel, info", f"{other}/lorastyle info {adapter}", elsewhere)
        run("wheel, generate", f'{other}/lorastyle generate "a cat" -a {adapter} --steps 4', elsewhere)
        need(elsewhere / "pictures", "*.png")
        run.report()


if __name__ == "__main__":
    main()
