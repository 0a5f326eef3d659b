"""Who may talk to the page's server, and what it says when something is wrong."""

import importlib
import json
import socket
import sys

import pytest
from served import items, question
from starlette.testclient import TestClient

from runner.review.decisions import Writer, read
from runner.review.page.guards import HEADERS
from runner.review.page.server import About, Status, _listen, application, serve
from runner.review.page.session import Session
from runner.rundir.folder import Folder
from runner.system.errors import BusyError, UserError

HERE = "http://127.0.0.1:4711"
PAGE = f"{HERE}/secret/"


@pytest.fixture
def run(tmp_path):
    return Folder(str(tmp_path))


@pytest.fixture
def client(run):
    session = Session({"sample": items("sample", 3)}, question(["no", "yes"]), "anna", [], Writer(run).append)
    about = About("a job", "Say\x00 yes.", question(["no", "yes"]))
    page = application(session, about, lambda name: Status(f"of the {name}"), "secret")
    return TestClient(page, base_url=HERE, raise_server_exceptions=False, headers={"origin": HERE})


def asked(client, name, **body):
    return client.post(PAGE + name, json=body)


DECISION = {"list": "sample", "view": "a", "id": "sample-0", "action": "label", "value": "yes", "decision": "one"}


def test_the_page_and_its_parts_come_with_a_policy_that_allows_nothing_else(client):
    index = client.get(PAGE)
    for path in ("", "page.js", "api.js", "choices.js", "clock.js", "text.js", "style.css"):
        answer = client.get(PAGE + path)
        assert answer.status_code == 200
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "<script type=" in index.text and "server" not in index.headers
    for said in ("http:", "https:", "//", " onclick", " style=", "<style"):
        assert said not in index.text.replace("<!DOCTYPE", ""), said


def test_what_is_asked_is_answered(client, run):
    task = asked(client, "task").json()
    assert task["question"]["choices"][1] == {"value": "yes", "name": "yes", "description": ""}
    assert (task["name"], task["instructions"], task["reviewer"]) == ("a job", "Say\u2400 yes.", "anna")
    assert task["lists"] == [{"name": "sample", "answered": 0, "unclear": 0, "skipped": 0, "total": 3}]
    assert asked(client, "next", list="sample", view="a").json()["row"]["id"] == "sample-0"
    assert asked(client, "decide", **DECISION, seconds=2).json()["row"]["id"] == "sample-1"
    assert [(each.id, each.value, each.seconds) for each in read(run)] == [("sample-0", "yes", 2.0)]
    assert asked(client, "status", list="sample").json() == {"sentence": "of the sample", "enough": False}
    assert asked(client, "undo", list="sample", view="a", decision="u").json()["undone"]["value"] == "yes"
    assert asked(client, "alive", view="a").json() == asked(client, "leave", view="a").json() == {}


@pytest.mark.parametrize("host", ["evil.example", "evil.example:4711", "127.0.0.1.evil.example", "", "0.0.0.0", "::1"])
def test_another_name_for_this_machine_is_refused(client, host):
    answer = client.get(PAGE, headers={"host": host})
    assert answer.status_code == 421 and "127.0.0.1 alone" in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:4711", "localhost:4711", "localhost:9000", "LOCALHOST"])
def test_this_machine_is_answered_also_through_a_tunnel(client, host):
    assert client.post(PAGE + "task", json={}, headers={"host": host, "origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/secre/", "/secret", "/secrets/", "/SECRET/", "/x/secret/", "/page.js"])
def test_without_the_token_nothing_is_found(client, path):
    answer = client.get(HERE + path)
    assert answer.status_code == 404 and "token" in answer.text and "secret" not in answer.text


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:4712", "https://127.0.0.1:4711"])
def test_another_page_may_ask_for_nothing(client, run, origin):
    answer = client.post(PAGE + "decide", json=DECISION, headers={"origin": origin})
    assert answer.status_code == 403 and read(run) == []


def test_a_post_must_say_where_it_comes_from(client, run):
    del client.headers["origin"]
    assert client.post(PAGE + "decide", json=DECISION).status_code == 403 and read(run) == []


@pytest.mark.parametrize("path", ["../server.py", "..%2fserver.py", "%2e%2e/guards.py", "static/page.js", "nothing"])
def test_no_other_file_is_served(client, path):
    assert client.get(PAGE + path).status_code == 404


def test_what_changes_something_is_no_get(client):
    for name in ("task", "next", "decide", "undo", "leave"):
        assert client.get(PAGE + name).status_code in (404, 405)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "Expecting property name"),
        (b"[]", 400, "JSON object"),
        (b"\xff", 400, "decode"),
        (b"{}", 400, "lacks 'list'"),
        (json.dumps(DECISION | {"view": 3}).encode(), 400, "lacks 'view'"),
        (json.dumps(DECISION | {"value": "maybe"}).encode(), 400, "no answer to this question"),
        (json.dumps(DECISION | {"seconds": "soon"}).encode(), 400, "seconds"),
        (json.dumps(DECISION | {"seconds": float("nan")}).encode(), 400, "seconds"),
        (json.dumps(DECISION | {"id": "\ud800"}).encode(), 409, r"no row '\ud800'"),
        (json.dumps(DECISION | {"list": "queue"}).encode(), 409, "no list 'queue'"),
        (b'"' + b"x" * 70_000 + b'"', 413, "too large"),
    ],
)
def test_a_request_that_is_wrong_is_told_what_and_stores_nothing(client, run, body, status, said):
    answer = client.post(PAGE + "decide", content=body)
    assert answer.status_code == status and said in answer.json()["error"] and read(run) == []


def test_a_full_disk_is_said_and_the_answer_can_be_sent_again(run):
    full = [True]

    def append(decisions):
        if full[0]:
            raise UserError("run.disk-full", "decisions: the disk is full; free some space and run again")
        writer.append(decisions)

    writer = Writer(run)
    session = Session({"sample": items("sample", 3)}, question(["no", "yes"]), "anna", [], append)
    about = About("a job", "", session.question)
    page = TestClient(application(session, about, lambda name: Status(), "secret"), HERE, headers={"origin": HERE})
    answer = asked(page, "decide", **DECISION)
    assert answer.status_code == 507 and "the disk is full" in answer.json()["error"]
    full[0] = False
    assert asked(page, "decide", **DECISION).json()["row"]["id"] == "sample-1"
    assert len(read(run)) == 1


def test_where_the_estimate_fails_the_page_goes_on(run):
    def status(name):
        raise ZeroDivisionError("no rows")

    session = Session({"sample": items("sample", 3)}, question(["no", "yes"]), "anna", [], Writer(run).append)
    about = About("a job", "", session.question)
    page = TestClient(application(session, about, status, "secret"), HERE, headers={"origin": HERE})
    answer = asked(page, "status", list="sample")
    assert (answer.status_code, answer.json()["error"]) == (500, "ZeroDivisionError: no rows")
    assert asked(page, "decide", **DECISION).status_code == 200


def test_a_reviewer_opens_the_page_of_a_run_once(run):
    about, seen = About("a job", "", question(["no", "yes"])), []

    class Stop(Exception):
        pass

    def opened(address):
        seen.append(address)
        with pytest.raises(BusyError, match=r"anna has the review page of .* open already: use that one"):
            serve(run, {"sample": items("sample", 1)}, about, "anna")
        if len(seen) == 1:
            serve(run, {"sample": items("sample", 1)}, about, "ben", opened=stop)

    def stop(address):
        raise Stop

    with pytest.raises(Stop):
        serve(run, {"sample": items("sample", 1)}, about, "anna", opened=opened)
    assert seen[0].startswith("http://127.0.0.1:") and len(seen[0].split("/")[3]) == 32
    with pytest.raises(Stop):
        serve(run, {"sample": items("sample", 1)}, about, "anna", opened=stop)


def test_a_port_that_is_taken_is_said(run):
    about = About("a job", "", question(["no", "yes"]))

    def opened(address):
        port = int(address.split(":")[2].split("/")[0])
        serve(run, {"sample": []}, about, "ben", port=port)

    with pytest.raises(UserError, match=r"port \d+ of 127.0.0.1 cannot be used"):
        serve(run, {"sample": []}, about, "anna", opened=opened)


def test_no_answer_waits_for_nagles_algorithm():
    """asyncio turns it off where the protocol is named; else each answer takes 40 ms more."""
    with _listen(0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.proto == socket.IPPROTO_TCP


def test_without_its_libraries_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "runner.review.page.server")
    with pytest.raises(UserError, match=r"pip install 'tutelage\[review\]'"):
        importlib.import_module("runner.review.page.server")
