"""The page's process is killed at any moment: no answer that was told to be saved is lost, and none is doubled."""

import http.client
import json
import random
import signal
import threading
import urllib.request
from uuid import uuid4

import pytest
from chromium import Served

from runner.review.decisions import read
from runner.rundir.folder import Folder

pytestmark = pytest.mark.slow("subprocess")

DECISIONS, KILLS = 200, 20


def ask(server, name, **body):
    """What the page's own requests are. :raises OSError: when no answer came."""
    headers = {"Content-Type": "application/json", "Origin": server.origin}
    request = urllib.request.Request(server.address + name, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def kill_soon(server, seconds):
    timer = threading.Timer(seconds, server.process.send_signal, [signal.SIGKILL])
    timer.start()
    return timer


def test_sigkill_at_twenty_random_moments_of_two_hundred_decisions_loses_and_doubles_none(tmp_path):
    """Each answer is sent until the page would say that it is saved."""
    chance, server, kills = random.Random(0), Served(tmp_path / "run", {"sample": 2 * DECISIONS}), 0
    told, timer = {}, None
    try:
        while len(told) < DECISIONS or kills < KILLS:
            if timer is None and kills < min(KILLS, KILLS * len(told) // DECISIONS + 1):
                timer = kill_soon(server, chance.uniform(0.0, 0.03))
            decision, value = uuid4().hex, chance.choice(["no", "yes"])
            row = None
            while True:  # a browser keeps what it could not send, and sends the same again
                try:
                    if row is None:
                        row = ask(server, "next", list="sample", view="a")["row"]["id"]
                    body = {"list": "sample", "view": "a", "id": row, "action": "label", "value": value}
                    ask(server, "decide", **body, decision=decision, seconds=1)
                    break
                except (OSError, http.client.HTTPException):
                    timer.join()
                    server.stop()
                    assert server.process.returncode == -signal.SIGKILL
                    kills, timer = kills + 1, None
                    server.start()
            assert row not in told, "asked twice"
            told[row] = (decision, value)
    finally:
        if timer is not None:
            timer.join()
        server.stop()
    stored = read(Folder(str(tmp_path / "run")))
    assert {each.id: (each.decision, each.value) for each in stored} == told
    assert len(stored) == len(told) >= DECISIONS and kills == KILLS


def test_a_row_that_was_taken_back_before_the_kill_is_asked_again_after_it(tmp_path):
    server = Served(tmp_path / "run", {"sample": 3})
    try:
        row = ask(server, "next", list="sample", view="a")["row"]["id"]
        body = {"list": "sample", "view": "a", "id": row, "action": "label", "value": "no"}
        ask(server, "decide", **body, decision="one")
        ask(server, "undo", list="sample", view="a", decision="back")
        server.stop(signal.SIGKILL)
        server.start()
        assert ask(server, "next", list="sample", view="b")["row"]["id"] == row
        ask(server, "undo", list="sample", view="b", decision="back")  # the answer to it was lost: sent again
        assert len(read(Folder(str(tmp_path / "run")))) == 2
    finally:
        server.stop()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_server_though_a_tab_is_open(tmp_path, number, status):
    server = Served(tmp_path / "run", {"sample": 3})
    try:
        ask(server, "next", list="sample", view="a")
    finally:
        server.stop(number)
    assert server.process.returncode == status
