"""The next row of the review page: part of `make bench-review`, alone by `python bench/review_page.py`.

    python bench/review_page.py [--rows 100000] [--decided 20000] [--answers 300]

A queue of 100,000 rows, the first 20,000 of which are decided in an earlier session. ``server``: from a decision being
sent to the next row being there, with its fsync. ``page``: the same in headless Chromium, from the key to the frame in
which the next row stands (needs ``chromium`` on the PATH). Milliseconds, medians and 95th percentiles; written to
bench/out/review_page.json.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import keep

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out" / "review_page.json"
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "review" / "page")]  # the server and the browser of the tests

from chromium import Browser, Served, served  # noqa: E402

from runner.review.decisions import Decision, Writer, text_digest  # noqa: E402
from runner.rundir.folder import Folder  # noqa: E402

AT_MOST_MS = 50.0
KEY = """
new Promise((done) => {
  const start = performance.now();
  const seen = new MutationObserver(() => {
    seen.disconnect();
    requestAnimationFrame(() => done(performance.now() - start));
  });
  seen.observe(document.getElementById("text"), {childList: true, characterData: true, subtree: true});
  document.dispatchEvent(new KeyboardEvent("keydown", {key: "1", code: "Digit1", bubbles: true}));
})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--decided", type=int, default=20_000)
    parser.add_argument("--answers", type=int, default=300)
    asked = parser.parse_args()
    keep(cases(asked.rows, asked.decided, asked.answers), OUT)


def cases(rows: int = 100_000, decided: int = 20_000, answers: int = 300) -> list[dict[str, Any]]:
    """What ``bench.common.keep`` writes, one for each place where it is measured."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        _decide_before(Folder(str(run)), decided)
        start = time.perf_counter()
        with served(run, queue=rows) as server:
            opened = time.perf_counter() - start
            results = [_result("review page: next row, server", list(_by_requests(server, answers)), rows)]
            if shutil.which("chromium"):
                took = _by_keys(server, answers, Path(folder) / "profile")
                results.append(_result("review page: next row, page", took, rows))
    print(f"start: {opened:.2f} s")
    return [result | {"decided": decided, "start_seconds": round(opened, 2)} for result in results]


def _decide_before(run: Folder, count: int) -> None:
    common = {"list": "queue", "action": "label", "value": "no", "reviewer": "anna"}
    texts = [f"Text {number} of the queue." for number in range(count)]  # as served.py makes them
    Writer(run).append([Decision(id=f"queue-{n}", digest=text_digest(text), **common) for n, text in enumerate(texts)])


def _by_requests(server: Served, answers: int) -> Iterator[float]:
    host, _, token = server.address.removeprefix("http://").rstrip("/").partition("/")
    line = http.client.HTTPConnection(host)

    def ask(name: str, **body: Any) -> Any:
        headers = {"Content-Type": "application/json", "Origin": server.origin}
        line.request("POST", f"/{token}/{name}", json.dumps({"list": "queue", "view": "bench"} | body), headers)
        answer = line.getresponse()
        assert answer.status == 200, answer.read()
        return json.load(answer)

    row = ask("next")["row"]
    for _ in range(answers):
        start = time.perf_counter()
        row = ask("decide", id=row["id"], action="label", value="yes", seconds=1, decision=uuid.uuid4().hex)["row"]
        yield 1000 * (time.perf_counter() - start)
    ask("leave")


def _by_keys(server: Served, answers: int, profile: Path) -> list[float]:
    browser = Browser(profile)
    try:
        tab = browser.open(server.address + "#queue")
        tab.shows("Text")
        return [float(tab.value(KEY)) for _ in range(answers)]
    finally:
        browser.close()


def _result(name: str, took: list[float], rows: int) -> dict[str, Any]:
    middle, late = np.percentile(took, [50, 95])
    print(f"{name}: median {middle:.1f} ms, p95 {late:.1f} ms (at most {AT_MOST_MS:.0f}), {len(took)} answers")
    return {
        "name": name,
        "rows": rows,
        "rounds": len(took),
        "p50_ms": round(float(middle), 2),
        "p95_ms": round(float(late), 2),
        "at_most_ms": AT_MOST_MS,
    }


if __name__ == "__main__":
    main()
