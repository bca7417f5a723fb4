"""A small hub on this machine: the parts of the Hugging Face hub's API by which huggingface_hub makes repositories,
uploads (small files in the commit, large ones by LFS) and downloads."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

LARGE = (".safetensors", ".parquet")  # files that go by LFS


@dataclass
class Repository:
    """Branches are names of commits; a commit is its files."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        digest = hashlib.sha1(repr((len(self.commits), sorted(files.items()))).encode()).hexdigest()
        self.commits[digest] = files
        self.branches[branch] = digest
        return digest

    def find(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.branches.get(revision)


@dataclass
class Hub:
    """What a hub holds. writers: tokens that may write and read what is private; refused: requests answered 500."""

    url: str = ""
    writers: set[str] = field(default_factory=lambda: {"hf_writer"})
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    is_down: bool = False

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        repository = self.repositories[name]
        return repository.commits[repository.find(revision) or ""]


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    # --- answers ----------------------------------------------------------------------------------------------------

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value: Any, status: int = 200) -> None:
        self.reply(status, json.dumps(value).encode(), Content_Type="application/json")

    def fail(self, status: int, code: str, message: str = "no") -> None:
        self.reply(status, json.dumps({"error": message}).encode(), X_Error_Code=code, X_Error_Message=message)

    @property
    def may_write(self) -> bool:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") in self.hub.writers

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    # --- requests ---------------------------------------------------------------------------------------------------

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def answer(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self.body()
        self.hub.requests.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if self.hub.is_down:
            return self.fail(500, "", "the hub is down")
        if path == "/api/validate-yaml":
            return self.validate(json.loads(body)["content"])
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if parts[0] == "lfs":
            self.hub.blobs[parts[1]] = body
            return self.reply(200)
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.batch(json.loads(body))
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self.may_write):
            return self.fail(401, "RepoNotFound", "Repository not found")
        if parts[0] != "api":
            return self.resolve(repository, parts[3], "/".join(parts[4:]))
        kind, revision = (parts[4], parts[5]) if len(parts) > 5 else ("revision", "main")
        if self.command == "POST" and not self.may_write:
            return self.fail(403, "", "You have no right to write")
        if kind == "branch":
            repository.branches.setdefault(revision, repository.branches["main"])
            return self.json({})
        digest = repository.find(revision)
        if digest is None:
            return self.fail(404, "RevisionNotFound", "Invalid rev id")
        if kind == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = {n: "lfs" if n.endswith(LARGE) else "regular" for n in names}
            return self.json({"files": [{"path": n, "uploadMode": m, "shouldIgnore": False} for n, m in modes.items()]})
        if kind == "commit":
            return self.commit(name, repository, revision, [json.loads(line) for line in body.splitlines()])
        files = repository.commits[digest]
        if kind == "tree":
            entries = [{"type": "file", "path": n, "size": len(b), "oid": sha1(b)} for n, b in files.items()]
            return self.json(entries)
        siblings = [{"rfilename": n} for n in files]
        self.json({"id": name, "sha": digest, "private": repository.private, "siblings": siblings})

    def resolve(self, repository: Repository, revision: str, file: str) -> None:
        digest = repository.find(revision)
        if repository.gated:
            return self.fail(403, "GatedRepo", "Access to this repository is restricted")
        if digest is None:
            return self.fail(404, "RevisionNotFound", "Invalid rev id")
        if file not in repository.commits[digest]:
            return self.fail(404, "EntryNotFound", "Entry not found")
        content = repository.commits[digest][file]
        self.reply(200, content, ETag=f'"{sha1(content)}"', X_Repo_Commit=digest)

    def create(self, wish: dict[str, Any]) -> None:
        name = "/".join(filter(None, (wish.get("organization"), wish["name"])))
        if not self.may_write:
            return self.fail(401, "", "Invalid username or password.")
        if not name.startswith("ann/"):
            return self.fail(403, "", "You don't have the rights to create a model under this namespace")
        if name in self.hub.repositories:
            return self.json({"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}, 409)
        self.hub.repositories[name] = Repository(
            private="private" in (wish.get("visibility"), wish.get("private") and "private")
        )
        self.hub.repositories[name].commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"})
        self.json({"url": f"{self.hub.url}/{name}", "id": name, "name": name})

    def validate(self, content: str) -> None:
        data = yaml.safe_load(content.split("---")[1]) if content.startswith("---") else {}
        errors = []
        if not isinstance(data, dict):
            errors.append({"message": "the metadata are no mapping"})
        elif "license" in data and data["license"] not in ("mit", "apache-2.0", "cc-by-nc-4.0", "other"):
            errors.append({"message": f'"license" must be one of [...], not {data["license"]}'})
        self.json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def batch(self, wish: dict[str, Any]) -> None:
        upload = [
            {**o, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{o['oid']}"}}}
            if o["oid"] not in self.hub.blobs
            else o
            for o in wish["objects"]
        ]
        self.json({"transfer": "basic", "objects": upload})

    def commit(self, name: str, repository: Repository, branch: str, lines: list[dict[str, Any]]) -> None:
        files = dict(repository.commits[repository.branches[branch]])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        digest = repository.commit(branch, files)
        self.json({"success": True, "commitOid": digest, "commitUrl": f"{self.hub.url}/{name}/commit/{digest}"})


def sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
