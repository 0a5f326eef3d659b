"""The Hub over its real protocol: a small server on this machine answers the Hub's own client."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runner.models import catalog

from .conftest import MODEL, NAME, World

pytestmark = pytest.mark.slow("subprocess")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
EXTRA = {"pytorch_model.bin": b"\x80\x04", "modeling_tiny.py": b"x = 1", "onnx/model.safetensors": b"x"}
REPOS = {
    "somebody/tiny": {**MODEL, **EXTRA},
    "somebody/pickled": {"config.json": b"{}", "tokenizer.json": b"{}", "pytorch_model.bin": b"\x80\x04"},
}


class Hub(BaseHTTPRequestHandler):
    """The few answers that the client asks for: a repository's head, its tree, its files."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0].strip("/")
        for repo, files in REPOS.items():
            if path in (f"api/models/{repo}", f"api/models/{repo}/revision/main"):
                return self.answer(json.dumps({"id": repo, "sha": COMMIT, "siblings": []}).encode())
            if path == f"api/models/{repo}/tree/{COMMIT}":
                tree = [
                    {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                    for name, body in files.items()
                ]
                return self.answer(json.dumps(tree).encode())
            name = path.removeprefix(f"{repo}/resolve/{COMMIT}/")
            if name in files:
                return self.answer(files[name])
        known = any(path.startswith(f"api/models/{repo}/") for repo in REPOS)
        return self.answer(b"{}", 404, "RevisionNotFound" if known else "RepoNotFound")

    def answer(self, body: bytes, status: int = 200, error: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def ensure(ref: str, endpoint: str, home: Path, revision: str | None = None) -> dict[str, str]:
    """``ensure`` in a fresh process, because the client reads its settings when it is imported."""
    code = (
        "import json, sys\n"
        "from runner.models import ModelError, ensure\n"
        "said = []\n"
        "try:\n"
        f"    path = str(ensure({ref!r}, {revision!r}, progress=said.append))\n"
        "    print(json.dumps({'path': path, 'said': said}))\n"
        "except ModelError as error:\n"
        "    print(json.dumps({'error': str(error), 'said': said}))\n"
    )
    variables = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    variables.pop("HF_HUB_OFFLINE", None)
    variables.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(catalog.__file__).parents[2],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def test_a_hub_model_comes_without_pickles_and_code(endpoint: str, tmp_path: Path) -> None:
    answer = ensure("somebody/tiny", endpoint, tmp_path)
    folder = Path(answer["path"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == MODEL
    assert folder.name == COMMIT
    again = ensure("somebody/tiny", "http://127.0.0.1:9", tmp_path)
    assert again == {"path": answer["path"], "said": []}, "the second time from the cache, in silence"


def test_a_catalog_model_comes_from_the_hub_first(world: World, endpoint: str, tmp_path: Path) -> None:
    world.whole()
    answer = ensure(f"catalog:{NAME}", endpoint, tmp_path / "hub")
    assert {path.name: path.read_bytes() for path in Path(answer["path"]).iterdir()} == MODEL
    assert answer["said"][0].startswith("asking the Hub for somebody/tiny")
    assert not [text for text in answer["said"] if "package" in text]


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_an_unreachable_hub_gives_way_to_the_packages_in_seconds(world: World, tmp_path: Path, revision: str) -> None:
    world.whole()
    world.catalog.write_text(world.catalog.read_text().replace("revision: main", f"revision: '{revision}'"))
    answer = ensure(f"catalog:{NAME}", "http://127.0.0.1:9", tmp_path / "hub")  # the client retries for 20 s
    assert [text.split(" ")[0] for text in answer["said"]] == ["asking", "fetching", "unpacking", "checking"]


@pytest.mark.parametrize(
    ("ref", "revision", "message"),
    [
        ("somebody/absent", None, "is not on the Hub, or is private"),
        ("somebody/tiny", "v9", "has no revision 'v9' on the Hub"),
        ("somebody/pickled", None, "has no weights (*.safetensors); pickled weights are never fetched"),
    ],
)
def test_what_the_hub_refuses_is_said_plainly(
    endpoint: str, tmp_path: Path, ref: str, revision: str | None, message: str
) -> None:
    assert message in ensure(ref, endpoint, tmp_path, revision)["error"]
