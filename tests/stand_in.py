"""A stand-in for the Hugging Face Hub on this machine: models from folders, with the real one's answers."""

from __future__ import annotations

import hashlib
import json
import threading
from base64 import b64decode
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "c" * 40
TOKEN = "hf_let_me_in"


@dataclass
class StandIn:
    """What the server holds, and what it was asked."""

    models: dict[str, Path] = field(default_factory=dict[str, Path])  # by "owner/name"
    gated: set[str] = field(default_factory=set[str])  # known, and for those with TOKEN only
    private: set[str] = field(default_factory=set[str])  # as if it did not exist, without TOKEN
    breaks: set[str] = field(default_factory=set[str])  # files that the connection breaks in the middle of
    asked: list[str] = field(default_factory=list[str])  # "GET /path", in order
    home: Path = Path()  # where what is uploaded goes
    foreign: set[str] = field(default_factory=set[str])  # owners that TOKEN may not write for
    full: bool = False  # no commit is taken any more
    stored: dict[str, bytes] = field(default_factory=dict[str, bytes])  # large files, by sha256
    endpoint: str = ""

    def sent(self) -> list[str]:
        """The files whose bytes were asked for."""
        return [
            what.split("/resolve/")[1].split("/", 1)[1]
            for what in self.asked
            if what[:3] == "GET" and "/resolve/" in what
        ]


@contextmanager
def stand_in() -> Generator[StandIn]:
    """A server on a free port until the block ends."""
    hub = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_POST(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"POST {path}")
            content = self._content()
            if self.headers.get("authorization") != f"Bearer {TOKEN}":
                return self._refuse(401, "", "Invalid username or password.")
            if path == "/api/repos/create":
                told = json.loads(content)
                repo = f"{told['organization']}/{told['name']}"
                if told["organization"] in hub.foreign:
                    return self._refuse(403, "", "You don't have the rights to create a model there")
                hub.models[repo] = hub.home / repo
                hub.models[repo].mkdir(parents=True)
                if told.get("private") or told.get("visibility") == "private":
                    hub.private.add(repo)
                return self._send(json.dumps({"url": f"{hub.endpoint}/{repo}"}).encode(), True)
            if path == "/api/validate-yaml":
                return self._send(b'{"errors": [], "warnings": []}', True)
            if path.endswith("/objects/batch"):
                objects = json.loads(content)["objects"]
                for one in objects:
                    one["actions"] = {"upload": {"href": f"{hub.endpoint}/lfs/{one['oid']}"}}
                return self._send(json.dumps({"transfer": "basic", "objects": objects}).encode(), True)
            words = path.removeprefix("/api/models/").split("/")
            repo, what = "/".join(words[:2]), words[2]
            if what == "preupload":
                files = [
                    {
                        "path": one["path"],
                        "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                    }
                    for one in json.loads(content)["files"]
                ]
                return self._send(json.dumps({"files": files}).encode(), True)
            if hub.full:
                return self._refuse(507, "", "no room")
            return self._commit(repo, [json.loads(line) for line in content.splitlines()])

        def do_PUT(self) -> None:
            hub.asked.append(f"PUT {self.path}")
            hub.stored[self.path.rsplit("/", 1)[1]] = self._content()
            self._send(b"", False)

        def _content(self) -> bytes:
            if (length := self.headers.get("content-length")) is not None:
                return self.rfile.read(int(length))
            content = b""  # in chunks, each after its length in hexadecimal
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def _commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
            for line in lines:
                value = line["value"]
                if line["key"] == "header":
                    continue
                large = line["key"] == "lfsFile"
                content = hub.stored[value["oid"]] if large else b64decode(value["content"])
                file = hub.models[repo] / value["path"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            told = {"commitUrl": f"{hub.endpoint}/{repo}/commit/{COMMIT}", "commitOid": COMMIT}
            self._send(json.dumps(told).encode(), True)

        def log_message(self, format: str, *args: object) -> None:
            """Silence: pytest has the last word."""

        def _answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            words = path.removeprefix("/api/models/").strip("/").split("/")
            repo, rest = "/".join(words[:2]), words[2:]
            allowed = self.headers.get("authorization") == f"Bearer {TOKEN}"
            if repo not in hub.models or (repo in hub.private and not allowed):
                return self._refuse(401, "RepoNotFound", "Repository not found")
            if repo in hub.gated and not allowed:
                return self._refuse(403, "GatedRepo", "Access to this model is restricted")
            folder = hub.models[repo]
            files = {str(f.relative_to(folder).as_posix()): f for f in folder.rglob("*") if f.is_file()}
            if rest[:1] == ["refs"]:
                branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}
                return self._send(
                    json.dumps({"branches": [branch], "tags": [], "converts": []}).encode(), body
                )
            revision = rest[1] if len(rest) > 1 else "main"
            if revision not in ("main", COMMIT):
                return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            if rest[:1] == ["tree"]:
                return self._send(json.dumps([_entry(n, f) for n, f in files.items()]).encode(), body)
            if rest[:1] == ["resolve"]:
                name = "/".join(rest[2:])
                if name not in files:
                    return self._refuse(404, "EntryNotFound", "Entry not found")
                return self._send(files[name].read_bytes(), body, breaks=name in hub.breaks)
            siblings = [{"rfilename": n, "size": f.stat().st_size} for n, f in files.items()]
            told = {
                "id": repo,
                "modelId": repo,
                "sha": COMMIT,
                "private": repo in hub.private,
                "tags": [],
                "siblings": siblings,
            }
            return self._send(json.dumps(told).encode(), body)

        def _send(self, content: bytes, body: bool, *, breaks: bool = False) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                self.wfile.write(content[: len(content) // 2] if breaks else content)
            if breaks:
                self.close_connection = True

        def _refuse(self, status: int, code: str, message: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", message)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point_at(hub: StandIn, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub asks this stand-in, emptied, with a cache in `folder` and without a token."""
    for what in (hub.models, hub.gated, hub.private, hub.breaks, hub.asked, hub.foreign, hub.stored):
        what.clear()
    hub.home, hub.full = folder / "uploaded", False
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # large files by git's LFS
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    where = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", where)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(folder / "no token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)


def _entry(name: str, file: Path) -> dict[str, object]:
    oid = hashlib.sha1(file.read_bytes()).hexdigest()
    return {"type": "file", "path": name, "size": file.stat().st_size, "oid": oid}
