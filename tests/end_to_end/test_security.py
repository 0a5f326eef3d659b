"""What docs/security.md promises, where no other test holds it.

One real run, in a folder with a command for a name, over hostile rows, with a secret in every variable that could hold
one: whatever it wrote, said, logged, started or opened is looked at afterwards.
"""

from __future__ import annotations

import builtins
import csv
import gzip
import http.server
import importlib.util
import io
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
from jinja2.exceptions import SecurityError

from runner.cluster import bundle
from runner.commands import doctor
from runner.commands.cli import main
from runner.data import file_kinds, writing
from runner.data.reading import Source, read_rows
from runner.spec.engine_options import known_options, refused
from runner.student.embed import Encoder
from runner.student.load import load_tokenizer
from runner.system import sanitize
from runner.system.errors import DataError, ModelError
from runner.tasks.single_label import learner
from runner.teacher.renderer import render_chat

ROOT = Path(__file__).parents[2]
CANARY = "canary5fb1c0de"
SECRETS = {
    name: f"{CANARY}{number}"
    for number, name in enumerate(
        ["HF_TOKEN", "TUTELAGE_ENDPOINT_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "WANDB_API_KEY"]
    )
}
COMMAND = "x; touch owned $(touch owned) `touch owned` & touch owned"
MARK = "mark77aa"  # stands in texts, so that these can be looked for
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x1b[31m \x9b31m"
TEXTS = [
    f"{ESCAPES} {MARK} rose",
    f"<script>alert('{MARK}')</script><img src=x onerror=alert(1)>",
    f"| a | b |\n# {MARK}\n[click](javascript:alert(1)) ![x](http://evil.example/x.png)",
    f'=HYPERLINK("http://evil.example","{MARK}")',
    f"\u202e{MARK}\u2066 turned",
    f"{{{{7*7}}}} {{0.__class__}} %(x)s $(touch owned) `touch owned` {MARK}",
]
LABELS = ["<b>up</b>", "[down](http://evil.example)", "|flat|"]
SPEC = """\
version: 1
name: small
task: {{labels: {labels}, instructions: "<script>alert(2)</script> Label it."}}
data:
  train: {{path: train.csv}}
  test: {{path: test.csv, label: label}}
  corpus: {{path: "${{TUTELAGE_DATA}}/corpus.csv"}}
teacher: {{engine: recorded, model: "<b>three</b> people", columns: [anna, ben, carl]}}
student: {{model: {model}, epochs: 1, precision: fp32}}
evaluate: {{resamples: 100}}
benchmark: {{rows: 8, batch_sizes: [1]}}
"""


def write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])


@dataclass
class Watched:
    """What was seen of the processes of one run: their words, and where they listen."""

    ray: Path
    commands: set[bytes] = field(default_factory=set)
    listening: set[tuple[str, str]] = field(default_factory=set)
    answers: list[str] = field(default_factory=list)

    def look(self) -> None:
        mine = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes()
            except OSError:  # it has ended
                continue
            self.commands.add(words)
            if str(self.ray).encode() in words or words.startswith(b"ray::"):
                mine.append(folder)
        self.listening |= {found for folder in mine for found in _listens(folder, self.ray)}
        if len(self.answers) < 2 and (port := next(self.ray.glob("ray/session_latest/gcs_server_port_*"), None)):
            token = (self.ray / "home" / ".ray" / "auth_token").read_text().strip()
            given = [("authorization", f"Bearer {token}")]
            self.answers = [_ask(int(port.read_text()), metadata) for metadata in ([], given)]


def _listens(process: Path, ray: Path) -> Iterator[tuple[str, str]]:
    """A process of this run, with each address at which it accepts connections."""
    try:
        if f"RAY_TMPDIR={ray}".encode() not in (process / "environ").read_bytes():
            return
        kind = (process / "comm").read_text().strip()
        open_ = {os.readlink(one) for one in (process / "fd").iterdir()}
        tables = [
            line.split() for name in ("tcp", "tcp6") for line in (process / "net" / name).read_text().splitlines()
        ]
    except OSError:  # it has ended
        return
    for row in tables:
        if row[3] == "0A" and f"socket:[{row[9]}]" in open_:
            raw = struct.pack(f"<{len(row[1].split(':')[0]) // 8}I", *_words(row[1].split(":")[0]))
            yield kind, socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _words(digits: str) -> list[int]:
    return [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]


def _ask(port: int, metadata: list[tuple[str, str]]) -> str:
    """Ask Ray's control service who it is; the gRPC status of the answer."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
        try:
            call(b"", metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


@dataclass
class Finished:
    """A run that has ended, with a report made again, a push and a manifest."""

    root: Path
    watched: Watched
    run: Path
    out: str
    err: str

    def files(self, *folders: Path) -> Iterator[tuple[Path, bytes]]:
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.is_symlink():
                    yield path, path.read_bytes()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a corpus on a server that wants a password."""
    folder = tmp_path_factory.mktemp("served")
    write_csv(folder / "corpus.csv", ["text"], [[text] for text in TEXTS])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://anna:{CANARY}-url@127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def finished(tiny_model: Path, served: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    root = tmp_path_factory.mktemp("run") / COMMAND
    root.mkdir()
    votes = [[text, LABELS[n % 3], *[LABELS[n % 3]] * 3] for n, text in enumerate(TEXTS)]
    header = ["text", "label", "anna", "ben", "carl"]
    write_csv(root / "train.csv", header, [*votes, *([f"{row[0]} again", *row[1:]] for row in votes)])
    write_csv(root / "test.csv", header, [[f"{row[0]} in the test", *row[1:]] for row in votes])
    written = SPEC.format(labels=json.dumps(LABELS), model=json.dumps(str(tiny_model)))
    (root / "spec.yaml").write_text(written, encoding="utf-8")
    ray = Path(tempfile.mkdtemp(prefix="tut"))  # short: sockets lie in it
    own = {"TUTELAGE_DATA": served, "RAY_TMPDIR": str(ray), "HOME": str(ray / "home"), "NO_PROXY": "127.0.0.1"}
    own |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "TUTELAGE_CACHE": str(ray / "cache"), "HF_HOME": str(ray)}
    (ray / "home").mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    start = partial(subprocess.Popen, cwd=root, env=inherited | own | SECRETS, stdin=subprocess.DEVNULL)
    watched = Watched(ray)
    try:
        with open(ray / "out", "wb") as out, open(ray / "err", "wb") as err:
            words = [sys.executable, "-m", "runner", "run", "spec.yaml", "--runs-dir", "runs"]
            process = start(words, stdout=out, stderr=err)
            while process.poll() is None:
                watched.look()
                time.sleep(1)
            assert process.returncode == 0, (ray / "err").read_text()
            more = [["report", "runs/small"], ["push", "runs/small", "--to", "pushed"]]
            more += [["render", "spec.yaml", "--set", "student.model=org/student", "-o", "job.yaml"]]
            code = "import json, sys; from runner.commands.cli import main;"
            code += " sys.exit(max(map(main, json.loads(sys.argv[1]))))"
            process = start([sys.executable, "-c", code, json.dumps(more)], stdout=out, stderr=err)
            assert process.wait() == 0, (ray / "err").read_text()
        said = [(ray / name).read_text(encoding="utf-8") for name in ("out", "err")]
        yield Finished(root, watched, root / "runs" / "small", *said)
    finally:
        shutil.rmtree(ray)


@pytest.mark.slow("subprocess")
def test_secrets_of_the_environment_are_written_said_and_logged_nowhere(finished: Finished) -> None:
    ray = finished.watched.ray
    assert list(ray.glob("ray/session_2*/logs/worker-*.out")), "Ray's logs are among what is looked at"
    assert (finished.root / "pushed" / "README.md").exists() and (finished.root / "job.yaml").exists()
    looked = 0
    for path, content in finished.files(finished.root, ray):
        assert CANARY.encode() not in content, path
        looked += 1
    assert looked > 60
    parts = list((finished.run / "applied").rglob("*.parquet"))
    table = pa.concat_tables(reading_of(part) for part in parts)
    assert {name for name in table["file"].to_pylist() if re.fullmatch(r"http://127\.0\.0\.1:\d+/corpus\.csv", name)}
    assert CANARY not in str(table.to_pylist())


def reading_of(part: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(part)


@pytest.mark.slow("ray")
def test_no_secret_is_an_argument_of_a_process(finished: Finished) -> None:
    seen = finished.watched.commands
    assert any(b"gcs_server" in words for words in seen) and any(words.startswith(b"ray::") for words in seen)
    assert not [words for words in seen if CANARY.encode() in words]


@pytest.mark.slow("ray")
def test_ray_in_this_process_is_for_this_user_alone(finished: Finished) -> None:
    listening = finished.watched.listening
    assert {"gcs_server", "raylet"} <= {kind for kind, _ in listening}
    # PyTorch's own meeting point, in the process of a training worker, listens everywhere and cannot be told otherwise.
    ours = {(kind, at) for kind, at in listening if not kind.startswith("ray::")}
    assert {at for _, at in ours} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}, ours
    assert finished.watched.answers == ["UNAUTHENTICATED", "OK"], "without the token, and with it"
    token = finished.watched.ray / "home" / ".ray" / "auth_token"
    assert (token.stat().st_mode & 0o077, token.parent.stat().st_mode & 0o077) == (0, 0)
    assert not list(finished.watched.ray.rglob("usage_stats.json"))


@pytest.mark.slow("ray")
def test_no_text_of_the_data_stands_in_rays_logs(finished: Finished) -> None:
    for path, content in finished.files(finished.watched.ray / "ray"):
        assert MARK.encode() not in content, path


@pytest.mark.slow("ray")
def test_a_name_that_is_a_command_is_a_name(finished: Finished) -> None:
    assert finished.run.is_dir() and COMMAND in str(finished.run)
    for folder in (finished.root.parent, finished.watched.ray, Path.cwd()):
        assert not list(folder.rglob("owned"))


@pytest.mark.slow("ray")
def test_hostile_rows_reach_report_cards_and_terminal_as_text(finished: Finished) -> None:
    said = finished.out + finished.err
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", said)
    pages = [finished.run / "report.html", finished.root / "pushed" / "report.html"]
    cards = [*finished.run.glob("cards/*.md"), finished.root / "pushed" / "README.md"]
    assert len(cards) == 3
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "<script" not in text and "<img" not in text and "<b>up" not in text and "\x1b" not in text
        assert "&lt;b&gt;up" in text
    assert MARK in pages[0].read_text(encoding="utf-8") and MARK not in pages[1].read_text(encoding="utf-8")
    from markdown_it import MarkdownIt

    for card in cards:
        body = card.read_text(encoding="utf-8").split("\n---\n", 1)[1]
        html = MarkdownIt("commonmark").enable("table").render(body)
        assert "<script" not in html and "<b>" not in html and 'evil.example"' not in html and "\x1b" not in html


def test_a_models_own_code_is_never_run_and_nobody_is_asked(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to itself, transformers asks at the terminal, and what was typed for something else may be a yes."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    code = f"open({str(tmp_path / 'owned')!r}, 'w')\nfrom transformers import BertConfig, BertModel, BertTokenizer\n"
    code += "class Config(BertConfig):\n    model_type = 'strange'\n"
    code += "class Model(BertModel): pass\nclass Tokenizer(BertTokenizer): pass\n"
    (folder / "strange.py").write_text(code)
    autos = ("AutoModel", "AutoModelForSequenceClassification")
    edit(
        folder / "config.json",
        model_type="strange",
        auto_map={"AutoConfig": "strange.Config"} | dict.fromkeys(autos, "strange.Model"),
    )
    edit(
        folder / "tokenizer_config.json",
        tokenizer_class="Tokenizer",
        auto_map={"AutoTokenizer": ["strange.Tokenizer", None]},
    )
    monkeypatch.setattr(builtins, "input", lambda *_: "y")
    said = r"it brings code of its own, which is never run"
    for load in (partial(learner.fresh, labels=LABELS), learner.trained, Encoder.load):
        with pytest.raises(ModelError, match=said):
            load(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError):
        load_tokenizer(folder)
    assert not (tmp_path / "owned").exists()


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('touch owned').read() }}",
    ],
)
def test_a_chat_template_reaches_nothing_but_the_conversation(tiny_model: Path, template: str) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = template
    with pytest.raises(SecurityError):
        render_chat(tokenizer, [{"role": "user", "content": "x"}])


def test_options_of_the_engine_that_name_code_or_hold_a_secret_are_refused() -> None:
    pytest.importorskip("vllm")
    known = known_options()
    assert set(refused) <= known, "an option that is gone need not be refused"
    naming = {name for name in known if re.search(r"_cls$|plugin|processors$|class_overrides$|token$", name)}
    assert naming <= set(refused)


def packed(path: Path, head: bytes, size: int) -> None:
    with gzip.open(path, "wb", compresslevel=1) as handle:
        handle.write(head)
        for _ in range(size >> 20):
            handle.write(b"\0" * 2**20)


@pytest.mark.parametrize(("name", "head"), [("bomb.csv.gz", b"text\n"), ("bomb.jsonl.gz", b'{"text": "')])
def test_a_small_file_that_unpacks_into_an_endless_line_is_refused(tmp_path: Path, name: str, head: bytes) -> None:
    packed(tmp_path / name, head, 2 * file_kinds.LONGEST_BYTES)
    assert (tmp_path / name).stat().st_size < 2**20
    with pytest.raises(DataError, match=rf"{name}:\d: a line of more than 64 MiB"):
        list(read_rows(Source(str(tmp_path / name)), ["text"]))


def test_a_cell_that_never_ends_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = csv.field_size_limit(1000)  # the same limit, small
    try:
        (tmp_path / "open.csv").write_text('text\nfine\n"' + "words and no end of them\n" * 100)
        with pytest.raises(DataError, match=r"open.csv:3: broken csv in the row that starts here: field larger than"):
            list(read_rows(Source(str(tmp_path / "open.csv")), ["text"]))
    finally:
        csv.field_size_limit(before)
    assert before == file_kinds.LONGEST_BYTES


def test_a_line_limit_holds_for_files_that_are_elsewhere_too(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_kinds, "LONGEST_BYTES", 60)
    with pytest.raises(DataError, match=r"corpus.csv:\d: a line of more than"):
        list(read_rows(Source(f"{served}/corpus.csv"), ["text"]))


@pytest.mark.parametrize("command", [["validate"], ["plan"], ["run"]])
def test_what_a_terminal_would_obey_is_shown_instead(
    job: Any, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Column names and file names are data too."""
    job.csv(f"{ESCAPES}.csv", [("A loss.", "negative")], (f"{ESCAPES}\u202e", "Label"))
    words = [str(job.path), "--set", 'data.train.path="*.csv"', "--set", "data.train.limit=1"]
    assert main([*command, *words]) != 0
    said = "".join(capsys.readouterr())
    assert "has no column 'text'" in said and "\u241b]0;owned" in said
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", said)


def test_what_a_stage_says_does_not_speak_to_the_terminal() -> None:
    from runner.observe.progress import Progress

    out = io.StringIO()
    Progress(out, "plain").say(f"warning: {ESCAPES} \u202e", "load")
    assert out.getvalue() == "load: warning: \u241b]0;owned\u2407\u241b[2J\u241b[31m \ufffd31m \ufffd\n"


def test_a_password_in_an_address_is_not_repeated(
    job: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUTELAGE_DATA", f"http://anna:{CANARY}@127.0.0.1:9/x?sig={CANARY}")
    for mode in ([], ["--json"]):
        words = ["run", str(job.path), "--runs-dir", str(job.runs_dir), *mode]
        assert main([*words, "--set", "data.train.path=${TUTELAGE_DATA}/train.csv"]) != 0
        said = "".join(capsys.readouterr())
        assert "127.0.0.1:9" in said and CANARY not in said


def test_no_password_goes_along_with_a_job(
    job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = f"s3://key:{CANARY}@bucket"
    assert main(["submit", str(job.path), "--runs-dir", f"{secret}/runs"]) == 1
    said = capsys.readouterr().err
    assert "--runs-dir: no password, token or signature may stand in it" in said and CANARY not in said
    for name, value in (("TUTELAGE_DATA", secret), ("TUTELAGE_PLAIN", "s3://plain")):
        monkeypatch.setenv(name, value)
    spec = job.spec("data.train.path=${TUTELAGE_DATA}/train.csv", "data.test.path=${TUTELAGE_PLAIN}/test.csv")
    package = tmp_path / "package"
    package.mkdir()
    bundle.pack(spec, [], "s3://bucket/runs", [], package)
    assert json.loads((package / bundle.JOB_FILE).read_text())["environment"] == {"TUTELAGE_PLAIN": "s3://plain"}
    assert not [path for path in package.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


def test_the_log_of_a_bug_holds_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise ZeroDivisionError(f"{ESCAPES} s3://anna:{CANARY}@bucket/x")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(doctor, "doctor", fail)
    assert main(["doctor"]) == 3
    (log,) = tmp_path.glob("*.log")
    assert "s3://bucket/x" in log.read_text() and CANARY not in log.read_text() + capsys.readouterr().err
    assert log.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("address", "left"),
    [
        ("s3://key:secret@bucket/x", "s3://bucket/x"),
        ("https://token@host/x?a=1", "https://host/x?a=1"),
        ("see https://a:b@host:80/x, then ftp://c:d@h", "see https://host:80/x, then ftp://h"),
        (
            "https://h/x?X-Amz-Credential=AK&X-Amz-Signature=0a1b&b=2",
            "https://h/x?X-Amz-Credential=...&X-Amz-Signature=...&b=2",
        ),
        ("https://h/x?sv=1&sig=abc%3D", "https://h/x?sv=1&sig=..."),
        *(
            (fine, fine)
            for fine in ("abfss://box@account/x", "sftp://anna@h/x", "https://h:80/a@b:c", "a:b@c", "x@y.z")
        ),
    ],
)
def test_what_of_an_address_is_shown(address: str, left: str) -> None:
    assert sanitize.without_secrets(address) == left
    assert sanitize.has_secret(address) == (address != left)


def test_text_goes_into_csv_as_it_is(tmp_path: Path) -> None:
    """A formula in a text is the text's: what is changed would match no other table (docs/security.md)."""
    out = io.StringIO()
    writing._write_csv(iter([pa.table({"text": ["=1+1", "-5", "@x", "+x"], "label": ["a", "b", "c", "d"]})]), out)
    assert list(csv.reader(io.StringIO(out.getvalue())))[1:] == [["=1+1", "a"], ["-5", "b"], ["@x", "c"], ["+x", "d"]]


@pytest.mark.slow("subprocess")
def test_nothing_is_told_about_how_the_runner_is_used(tmp_path: Path) -> None:
    vllm = Path(importlib.util.find_spec("vllm").origin or "").parent / "envs.py"  # type: ignore[union-attr]
    code = "from runner.commands.cli import main; main(['init', 'a']); import runpy, huggingface_hub.constants as hub;"
    code += f"print([hub.HF_HUB_DISABLE_TELEMETRY, runpy.run_path({str(vllm)!r})['__getattr__']('VLLM_DO_NOT_TRACK')])"
    environment = {name: value for name, value in os.environ.items() if "TRACK" not in name and "TELEMETRY" not in name}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[True, True]", done.stderr


def test_every_test_that_the_document_names_is_there() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", text)
    assert len(named) > 40
    for file, test in named:
        assert re.search(rf"^def {test}\(", (ROOT / "tests" / file).read_text(encoding="utf-8"), re.MULTILINE), test
