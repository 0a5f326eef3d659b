"""push: a folder that plain transformers and datasets load, nothing in it that should not leave, nothing lost.

The Hub is a small server here that answers as huggingface_hub 2.4 asks it; the real one was never asked.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard

from runner.commands.cli import main
from runner.publish import push as pushing
from runner.publish.push import MARKER, push, spec_text
from runner.rundir.folder import Folder
from runner.spec import load_spec
from runner.system.errors import DataError, UserError

pytestmark = pytest.mark.slow("long")  # all of it together: seconds

CANARY = "hf_canaryCANARYcanary0123456789"
MODEL = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
WRITTEN = {*MODEL, "README.md", "spec.yaml", "report.html", "report.json", MARKER}
DATA = {"dataset/README.md", "dataset/data/train.parquet"}


@pytest.fixture(autouse=True)
def no_login(monkeypatch, tmp_path):
    """Nobody is logged in, and nothing is cached."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.fixture(scope="module")
def student(tiny_model, tmp_path_factory):
    """A real student of three labels, trained for a moment."""
    import torch

    from runner.student import fit as training
    from runner.student.fit_config import Fit
    from runner.student.rows import Rows
    from runner.tasks.single_label import learner

    torch.set_num_threads(1)
    saved = tmp_path_factory.mktemp("trained") / "student"
    words = {"negative": "loss fell", "neutral": "plant town", "positive": "profit rose"}
    texts = [f"{words[name]} {k}" for k in range(12) for name in words]
    rows = Rows(texts, np.tile(np.eye(3, dtype=np.float32) * 0.8 + 0.2 / 3, (12, 1)))
    fit = Fit(tiny_model, tuple(words), 8, 1.5e-2, 8, 32, "fp32", 0)
    training.fit(learner, fit, rows, rows, saved)
    return saved


@pytest.fixture
def run(folder, student, tmp_path):
    """A finished run folder with that student, whose spec is whole."""
    made = folder(train=40, test=30)
    file = tmp_path / "spec.yaml"
    file.write_text(made.info["spec_text"], encoding="utf-8")
    made.info["spec"] = load_spec(file).to_dict()
    for number, stage in enumerate(("load", "vote", "train")):
        made.summaries[stage]["warnings"] = [f"a text stands twice: {made.votes['text'][number][:80]!r}"]
    made.write()
    shutil.copytree(student, made.file("train", "student"))
    return made


@pytest.fixture
def at(run):
    return Folder(str(run.root))


def names(top):
    return {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()}


def left_beside(target):
    return [path.name for path in target.parent.iterdir() if path.name.startswith(f".{target.name}")]


@pytest.mark.slow("long")
def test_a_folder_holds_the_model_its_card_spec_and_report(run, at, tmp_path):
    before = {name: (run.root / name).read_bytes() for name in names(run.root)}
    target = tmp_path / "out" / "mine"
    assert push(at, str(target)) == pushing.Pushed([str(target)], 0)
    assert names(target) == WRITTEN
    assert ModelCard.load(target / "README.md").data.pipeline_tag == "text-classification"
    assert (target / "spec.yaml").read_text() == run.info["spec_text"]
    assert json.loads((target / "report.json").read_text())["name"] == "company-news"
    files = json.loads((target / MARKER).read_text())["files"]
    assert files == {name: hashlib.sha256((target / name).read_bytes()).hexdigest() for name in WRITTEN - {MARKER}}
    assert {name: (run.root / name).read_bytes() for name in names(run.root)} == before, "push only reads"
    assert not left_beside(target)


def loading_code(card):
    (found,) = re.findall(r"^```python\n(.*?)^```$", card.read_text(encoding="utf-8"), re.S | re.M)
    return found


@pytest.mark.slow("long")
def test_the_code_in_the_card_loads_the_model(at, tmp_path, monkeypatch, capsys, one_thread):
    push(at, str(tmp_path / "mine"))
    monkeypatch.chdir(tmp_path / "mine")
    exec(loading_code(tmp_path / "mine" / "README.md"), {})
    said = capsys.readouterr().out.split()
    assert len(said) == 4 and {said[0], said[2]} <= {"negative", "neutral", "positive"}
    assert all(1 / 3 <= float(score) <= 1 for score in said[1::2])


@pytest.mark.slow("long")
def test_the_code_in_a_runs_own_card_does_so_too(run, tmp_path, monkeypatch, capsys, one_thread):
    assert main(["report", str(run.root), "--json"]) == 0
    monkeypatch.chdir(run.root)
    capsys.readouterr()
    exec(loading_code(run.root / "cards" / "model.md"), {})
    assert len(capsys.readouterr().out.split()) == 4
    assert DatasetCard.load(run.root / "cards" / "data.md").data.license == "unknown"


@pytest.mark.slow("long")
def test_a_pushed_student_is_the_one_that_was_trained(at, student, tmp_path, one_thread):
    from transformers import pipeline

    push(at, str(tmp_path / "mine"))
    classify = pipeline("text-classification", model=str(tmp_path / "mine"), truncation=True)
    assert [one["label"] for one in classify(["loss fell", "plant town", "profit rose " * 500])] == [
        *("negative", "neutral", "positive")
    ]


@pytest.mark.slow("long")
def test_texts_leave_only_with_data(run, at, tmp_path):
    texts = {text[:40] for text in (*run.votes["text"], *run.predictions["text"])}
    assert push(at, str(tmp_path / "without")).texts == 0
    for name in names(tmp_path / "without"):
        content = (tmp_path / "without" / name).read_bytes()
        assert not [text for text in texts if text.encode() in content], name
    pushed = push(at, str(tmp_path / "with"), data=True)
    labelled = [k for k, label in enumerate(run.votes["label"]) if label]
    assert pushed.texts == len(labelled) == 38
    assert names(tmp_path / "with") == WRITTEN | DATA
    table = pq.read_table(tmp_path / "with" / "dataset" / "data" / "train.parquet")
    assert table.column_names == ["id", "text", "label", "probabilities"]
    assert table["text"].to_pylist() == [run.votes["text"][k] for k in labelled]
    assert table["label"].to_pylist() == [run.votes["label"][k] for k in labelled]
    for name in names(tmp_path / "with") - {"dataset/data/train.parquet"}:
        assert not [text for text in texts if text.encode() in (tmp_path / "with" / name).read_bytes()], name


@pytest.mark.slow("subprocess")
def test_datasets_loads_the_data(at, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    push(at, str(tmp_path / "mine"), data=True)
    code = "import sys; from datasets import load_dataset; print(load_dataset(sys.argv[1], cache_dir=sys.argv[2]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "mine" / "dataset"), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
    )
    assert "train: Dataset" in done.stdout and "num_rows: 38" in done.stdout, done.stderr[-2000:]


@pytest.mark.parametrize(
    "variable", ["HF_TOKEN", "TUTELAGE_ENDPOINT_TOKEN", "AWS_SECRET_ACCESS_KEY", "DJANGO_SECRET_KEY", "DB_PASS"]
)
def test_no_secret_of_the_environment_is_written_or_said(at, tmp_path, monkeypatch, capsys, variable):
    monkeypatch.setenv(variable, CANARY)
    assert main(["push", at.url, "--to", str(tmp_path / "mine"), "--data"]) == 0
    said = capsys.readouterr()
    assert CANARY not in said.out + said.err
    for name in names(tmp_path / "mine"):
        assert CANARY.encode() not in (tmp_path / "mine" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"# token: {CANARY}", r"would hold the value of \$HF_TOKEN"),
        ("# s3://anna:geheim@store/x", "spec.yaml would hold an address with a password"),
        ("# https://hub_geheim@host/x", "spec.yaml would hold an address with a password"),
        ("# https://store/x?sig=geheim", "spec.yaml would hold an address with a password"),
    ],
)
def test_a_secret_in_the_spec_is_not_handed_on(run, at, tmp_path, monkeypatch, line, said):
    monkeypatch.setenv("HF_TOKEN", CANARY)
    info = json.loads((run.root / "run.json").read_text())
    (run.root / "run.json").write_text(json.dumps({**info, "spec_text": f"{info['spec_text']}{line}\n"}))
    with pytest.raises(UserError, match=said) as caught:
        push(at, str(tmp_path / "mine"))
    assert CANARY not in str(caught.value) and "geheim" not in str(caught.value)
    assert not (tmp_path / "mine").exists() and not left_beside(tmp_path / "mine")


def test_no_path_of_the_machine_is_written(at, tmp_path):
    push(at, str(tmp_path / "mine"), data=True)
    for name in names(tmp_path / "mine"):
        assert str(tmp_path).encode() not in (tmp_path / "mine" / name).read_bytes(), name


@pytest.mark.slow("long")
def test_an_earlier_push_is_replaced(at, tmp_path):
    target = tmp_path / "mine"
    target.mkdir()
    push(at, str(target), data=True)
    push(at, str(target))
    assert names(target) == WRITTEN
    assert not left_beside(target)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("notes.txt", "mine", "holds what push did not write, or what was changed since: notes.txt"),
        ("README.md", "rewritten", "holds what push did not write, or what was changed since: README.md"),
        (MARKER, "[]", "is not empty, and no earlier push wrote it"),
        (MARKER, "{", "is not empty, and no earlier push wrote it"),
    ],
)
def test_what_push_did_not_write_is_never_overwritten(at, tmp_path, name, content, said):
    target = tmp_path / "mine"
    push(at, str(target))
    (target / name).write_text(content)
    before = {path: (target / path).read_bytes() for path in names(target)}
    with pytest.raises(UserError, match=re.escape(said)):
        push(at, str(target))
    assert {path: (target / path).read_bytes() for path in names(target)} == before


def test_targets_that_will_not_do(run, at, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "file.txt").write_text("mine")
    for to, said in (
        (str(tmp_path / "full"), "is not empty"),
        (str(run.root), "is not empty"),
        (str(tmp_path / "file"), "is a file"),
        (str(tmp_path / "file.txt" / "below"), "cannot be written"),
        ("s3://bucket/mine", "a local folder or to hf:OWNER/NAME"),
        ("hf:name", "OWNER/NAME"),
        ("hf:../up/x", "OWNER/NAME"),
        ("hf:", "OWNER/NAME"),
    ):
        with pytest.raises(UserError, match=said):
            push(at, to)


@pytest.mark.slow("long")
def test_a_push_that_breaks_off_leaves_the_old_one(at, tmp_path, monkeypatch):
    target = tmp_path / "mine"
    push(at, str(target))
    before = names(target)
    real = os.rename

    def full(source, to):
        if Path(to) == target and Path(source).suffix == ".tmp":
            raise OSError(28, "No space left on device")
        real(source, to)

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(UserError, match="No space left"):
        push(at, str(target), data=True)
    assert names(target) == before
    assert not left_beside(target)


def test_runs_that_cannot_be_pushed(run, at, tmp_path, capsys):
    assert main(["push", str(tmp_path / "nothing"), "--to", str(tmp_path / "mine")]) == 1
    assert "no finished run is there" in capsys.readouterr().err
    shutil.rmtree(run.file("train", "student"))
    with pytest.raises(DataError, match=r"the trained student is gone .*; run the spec again"):
        push(at, str(tmp_path / "mine"))
    run.file("train", "done.json").unlink()
    with pytest.raises(DataError, match="train: this stage has not finished in this run folder"):
        push(at, str(tmp_path / "mine"))
    assert not (tmp_path / "mine").exists()


def test_pickled_weights_are_not_handed_on(run, at, tmp_path):
    student = run.file("train", "student")
    (student / "extra.bin").write_bytes(b"pickle")
    push(at, str(tmp_path / "mine"))
    assert names(tmp_path / "mine") == WRITTEN
    (student / "model.safetensors").rename(student / "pytorch_model.bin")
    with pytest.raises(DataError, match="only as pickle"):
        push(at, str(tmp_path / "other"))


def test_a_run_on_another_file_system(run, tmp_path):
    memory = fsspec.filesystem("memory")
    memory.put(f"{run.root}/", "/runs/company-news/", recursive=True)
    try:
        push(Folder("memory://runs/company-news"), str(tmp_path / "mine"), data=True)
    finally:
        memory.rm("/runs", recursive=True)
    assert names(tmp_path / "mine") == WRITTEN | DATA


def test_a_spec_that_was_overridden_is_written_as_it_was_run(run, tmp_path):
    run.info["spec"]["student"]["epochs"] = 7
    text = spec_text(run.info)
    assert yaml.safe_load(text)["student"]["epochs"] == 7
    (tmp_path / "again.yaml").write_text(text, encoding="utf-8")
    assert load_spec(tmp_path / "again.yaml").to_dict() == run.info["spec"]


class Hub(BaseHTTPRequestHandler):
    """The Hub's part in an upload: who asks, whether a repository is there, and git's large files over HTTP."""

    def log_message(self, *arguments):
        pass

    def answer(self, value, status=200, **headers):
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)

    def handle_any(self):
        hub, path = self.server, self.path.split("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.asked.append((self.command, path))
        if path.startswith("/lfs/"):
            hub.blobs[path.removeprefix("/lfs/")] = body
            return self.answer({})
        if self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self.answer({"error": "Invalid credentials in Authorization header"}, 401)
        if path == "/api/whoami-v2":
            return self.answer({"name": "anna", "type": "user"})
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.answer({"objects": [self.place(one) for one in json.loads(body)["objects"]]})
        kind, name, action = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(/.*)?", path).groups()
        repo = hub.repos.get((kind, name))
        if repo is None:
            return self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        if action == "/preupload/main":
            files = [{"path": one["path"], "shouldIgnore": False} for one in json.loads(body)["files"]]
            mode = lambda path: "lfs" if path.endswith((".safetensors", ".parquet")) else "regular"  # noqa: E731
            return self.answer({"files": [{**one, "uploadMode": mode(one["path"])} for one in files]})
        if action == "/commit/main":
            return self.commit(repo, body)
        siblings = [{"rfilename": file} for file in repo["files"]]
        return self.answer({"id": name, "private": repo["private"], "siblings": siblings, "sha": "0" * 40})

    do_GET = do_POST = do_PUT = handle_any

    def create(self, wanted):
        if wanted["organization"] != "anna":
            return self.answer({"error": "You don't have the rights to create a model under this namespace"}, 403)
        kind = f"{wanted.get('type', 'model')}s"
        name = f"anna/{wanted['name']}"
        made = {"private": wanted.get("visibility") == "private", "files": {}}
        self.server.repos.setdefault((kind, name), made)
        return self.answer({"url": f"{self.server.url}/{'datasets/' if kind == 'datasets' else ''}{name}"})

    def place(self, wanted):
        upload = {"href": f"{self.server.url}/lfs/{wanted['oid']}"}
        return {"oid": wanted["oid"], "size": wanted["size"], "actions": {"upload": upload}}

    def commit(self, repo, body):
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                repo["files"][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repo["files"][value["path"]] = self.server.blobs[value["oid"]]
        return self.answer({"commitUrl": f"{self.server.url}/anna/x/commit/1", "commitOid": "1" * 40})


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.token, server.repos, server.blobs, server.asked = CANARY, {}, {}, []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def push_to(hub, run, tmp_path, *more, to="hf:anna/mine", **environment):
    """`tutelage push` in a process of its own, as huggingface_hub reads its environment once."""
    own = {"HF_ENDPOINT": hub.url, "HF_TOKEN": CANARY, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "hf")}
    own = {name: value for name, value in {**os.environ, **own, **environment}.items() if value is not None}
    root = str(Path(pushing.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "runner", "push", str(run.root), "--to", to, *more],
        capture_output=True,
        text=True,
        env={**own, "PYTHONPATH": root},
    )
    assert CANARY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.slow("subprocess")
def test_model_and_data_are_uploaded(run, hub, tmp_path):
    done = push_to(hub, run, tmp_path, "--data")
    assert done.returncode == 0, done.stderr
    assert f"pushed: {hub.url}/anna/mine\npushed: {hub.url}/datasets/anna/mine\n" in done.stdout
    model, data = hub.repos["models", "anna/mine"], hub.repos["datasets", "anna/mine"]
    assert (model["private"], data["private"]) == (True, True)
    assert set(model["files"]) == WRITTEN
    assert set(data["files"]) == {"README.md", "data/train.parquet", MARKER}
    assert model["files"]["model.safetensors"] == (run.file("train", "student") / "model.safetensors").read_bytes()
    assert b'model="anna/mine"' in model["files"]["README.md"]
    assert ("POST", "/api/validate-yaml") in hub.asked
    everything = b"".join([*model["files"].values(), *data["files"].values()])
    assert CANARY.encode() not in everything
    again = push_to(hub, run, tmp_path)
    assert again.returncode == 0, again.stderr
    assert "no texts of the data" in again.stdout


@pytest.mark.slow("subprocess")
def test_a_public_repository_is_asked_for_by_name(run, hub, tmp_path):
    assert push_to(hub, run, tmp_path, "--no-private").returncode == 0
    assert hub.repos["models", "anna/mine"]["private"] is False
    done = push_to(hub, run, tmp_path)
    assert done.returncode == 1
    assert "this model repository is public" in done.stderr


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize(
    ("to", "environment", "said"),
    [
        ("hf:anna/mine", {"HF_TOKEN": None}, "set HF_TOKEN"),
        ("hf:anna/mine", {"HF_TOKEN": "hf_wrong"}, "does not know this token"),
        ("hf:anna/mine", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE forbids"),
        ("hf:berta/mine", {}, "this token may not write there"),
        ("hf:anna/taken", {}, "holds files that push did not write"),
        ("hf:anna/mine", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "the upload failed"),
    ],
)
def test_what_the_hub_does_not_take_is_said_in_a_line(run, hub, tmp_path, to, environment, said):
    hub.repos["datasets", "anna/taken"] = {"private": True, "files": {"README.md": b"", ".gitattributes": b""}}
    done = push_to(hub, run, tmp_path, "--data", to=to, **environment)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not [path for _, path in hub.asked if "commit" in path], "nothing is uploaded"
