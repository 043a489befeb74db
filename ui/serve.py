"""Serve the page: the environment that gradio is imported into, the private folder, who is let in."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lorastyle.bases import default_base, default_memory, load_base
from lorastyle.errors import ConfigError
from lorastyle.generate import Engine
from lorastyle.library import adapter_folders

from .guard import LOOPBACK, Guard
from .logins import VARIABLE
from .shelf import Shelf
from .studio import Studio
from .trainings import Trainings
from .visitors import Visitors

PORT = 7860
MAX_UPLOAD = 2_000_000_000


@dataclass(frozen=True)
class Options:
    """How the page is served.

    Raises:
        ConfigError: open to others without a password, a port or a size that cannot be.
    """

    base: str | None = None
    out: Path = Path("pictures")
    port: int | None = None
    listen: bool = False
    share: bool = False
    logins: tuple[tuple[str, str], ...] = ()
    """(user, password) of everybody who may enter; nobody is asked where there are none."""
    hosts: tuple[str, ...] = ()
    max_upload: int = MAX_UPLOAD
    open_browser: bool = False

    def __post_init__(self) -> None:
        problems: list[str] = []
        if (self.listen or self.share) and not self.logins:
            flag = "--listen" if self.listen else "--share"
            problems.append(
                f"{flag} lets others in. Ask them for a password: put user:password into a file and name it "
                f"with --auth-file, or set {VARIABLE}."
            )
        if self.port is not None and not 1 <= self.port <= 65535:
            problems.append(f"--port is {self.port}; a number from 1 to 65535 is needed.")
        if self.max_upload < 1:
            problems.append(f"--max-upload is {self.max_upload} bytes; at least 1 is needed.")
        if problems:
            raise ConfigError(problems)

    def guard(self) -> dict[str, Any]:
        """Arguments of `Guard`."""
        own = {socket.gethostname().lower(), socket.getfqdn().lower()} if self.listen else set[str]()
        shared = {".gradio.live"} if self.share else set[str]()
        return {"hosts": {*LOOPBACK, *own, *shared, *self.hosts}, "addresses": self.listen}


def serve(options: Options, wait: Callable[[str, str | None], None]) -> list[str]:
    """Load the base, and serve the page until `wait` returns. Drawings end then; trainings go on without it.

    Args:
        wait: called with the page's address, and the one for others where it is shared.

    Returns:
        The names of trainings that go on.

    Raises:
        BaseError: the base cannot be loaded.
        ConfigError: gradio is missing, or no port is free.
    """
    folders = tuple(folder.absolute() for folder in adapter_folders())
    out = options.out.absolute()
    base = load_base(options.base, memory=default_memory())
    flag = None if base.name == default_base() else base.name
    with TemporaryDirectory(prefix="lorastyle-ui-", ignore_cleanup_errors=True) as name:
        private = Path(name).resolve()
        prepare_environment(private)
        visitors = Visitors(private)
        shelf = Shelf(folders, base.family, base.name)
        studio = Studio(Engine(base), shelf, out=out, base_flag=flag)
        # a training reads neither the password nor anything else of the page
        trainings = Trainings(folders[0], lambda: base, environment={VARIABLE: ""})
        page = launch(options, studio, trainings, visitors)
        try:
            wait(page.local_url, page.share_url)
        finally:
            visitors.leave_all()
            studio.wait()  # a thread inside of torch while Python ends would crash it
            page.server.force_exit = True  # open pages ask for news for ever,
            logging.getLogger("uvicorn.error").disabled = True  # and each would be told of with a traceback
            page.close(verbose=False)
        return trainings.active()


def prepare_environment(private: Path) -> None:
    """Tell gradio, which reads the environment, to keep uploads in a private folder and to send nothing.

    Call this once, before gradio is imported and before threads start: the process is the page's own.
    Nothing in it may be served from the shared folder of temporary files, where gradio would keep uploads.
    """
    uploads = private / "gradio"
    uploads.mkdir()
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    os.environ["GRADIO_EXAMPLES_CACHE"] = str(private / "examples")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def launch(options: Options, studio: Studio, trainings: Trainings, visitors: Visitors) -> Any:
    """Serve the page from threads of its own. Returns its `gradio.Blocks`, which has `close()`.

    Raises:
        ConfigError: gradio is missing, or no port is free.
    """
    try:
        import gradio  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise ConfigError('The page needs gradio: pip install "lorastyle[ui]"') from error
    from starlette.middleware import Middleware

    from .page import CSS, build_page, head, theme

    page = build_page(studio, trainings, visitors)
    page.queue(max_size=64)
    try:
        page.launch(
            server_name="0.0.0.0" if options.listen else "127.0.0.1",
            server_port=options.port,
            share=options.share,
            auth=list(options.logins) or None,
            inbrowser=options.open_browser,
            max_file_size=options.max_upload,
            app_kwargs={"middleware": [Middleware(Guard, **options.guard())]},
            theme=theme(),
            css_paths=list(CSS),
            head=head(),
            footer_links=[],
            run_history=False,
            show_error=False,
            enable_monitoring=False,
            strict_cors=True,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            allowed_paths=[],
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise ConfigError(f"The page cannot be served ({error}). Name another --port.") from error
    return page
