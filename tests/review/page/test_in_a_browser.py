"""The page in a real browser, by keyboard alone: what is shown, what is stored, and what leaves the machine."""

import itertools
import json
import shutil
import time
from urllib.parse import urlsplit

import numpy as np
import pytest
from chromium import Browser, served
from PIL import Image

from runner.review.decisions import read
from runner.rundir.folder import Folder

pytestmark = [
    pytest.mark.slow("subprocess"),
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium on the PATH: apt-get install chromium"),
]

LABELS = ["negative", "neutral", "positive"]
PROFIT = {
    "text": "Operating profit rose to EUR 13.1 mn from EUR 8.7 mn.",
    "value": "positive",
    "probabilities": {"negative": 0.02, "neutral": 0.41, "positive": 0.57},
    "reason": "Profit rose.",
}
SHOWN = [(width, 800, dark) for width in (1200, 400) for dark in (False, True)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Serves a plan and opens a tab; afterwards nobody may have complained, nor asked for anything elsewhere."""
    tabs, servers = [], []

    def open_(hash_="", server=None, **plan):
        if server is None:
            server = served(tmp_path / "run", **({"labels": LABELS, "watch_connections": True} | plan))
            servers.append(server)
            open_.server = server.__enter__()
        tabs.append(browser.open(open_.server.address + hash_))
        return tabs[-1]

    yield open_
    try:
        for tab in tabs:
            assert {urlsplit(address).hostname or "data" for address in tab.requests()} <= {"127.0.0.1", "data"}
            assert len(tab.requests()) > 5
            assert [each for each in tab.complaints() if "507" not in str(each)] == []
            tab.close()
        assert [line for line in open_.server.said() if line.startswith("connects")] == []
    finally:
        for server in servers:
            server.__exit__(None, None, None)


@pytest.fixture
def stored(tmp_path):
    return lambda: [(each.id, each.action, each.value) for each in read(Folder(str(tmp_path / "run")))]


def test_several_labels_or_none_are_chosen_by_keyboard_alone(opened, stored):
    tab = opened(sample=3, several=True)
    tab.shows("Text 0 of the sample.")
    tab.press("Enter")
    tab.press("3", code="Digit3")
    tab.press("1", code="Digit1")
    tab.shows("Save negative; positive", "accept")
    tab.press("1", code="Digit1")
    tab.press("2", code="Digit2")
    tab.press("Enter")
    tab.shows("Text 1")
    assert stored() == [("sample-0", "label", ["neutral", "positive"])], "nothing before somebody had chosen"
    tab.shows("Saved: neutral; positive.", "note")
    tab.press("1", code="Digit1")
    tab.press("4", code="Digit4")
    tab.shows("Save none", "accept")
    tab.press("Enter")
    tab.shows("Text 2")
    assert stored()[-1] == ("sample-1", "label", [])
    tab.press("u")
    tab.shows("Text 1")
    tab.shows("Taken back: none.", "note")
    tab.shows("Save none", "accept")


def test_the_teachers_labels_are_on_already_in_the_queue(opened, stored):
    value = {"value": ["negative", "positive"], "probabilities": {"negative": 0.9, "neutral": 0.1, "positive": 0.6}}
    tab = opened(queue=[PROFIT | value, {"text": "Nothing.", "value": []}], several=True, hash_="#queue")
    tab.shows("Operating profit")
    tab.shows("Save negative; positive", "accept")
    tab.press("1", code="Digit1")
    tab.press("Enter")
    tab.shows("Nothing.")
    tab.shows("Save none", "accept")
    tab.press("Enter")
    tab.shows("All done", "end")
    assert stored() == [("queue-0", "label", ["positive"]), ("queue-1", "label", [])]


def test_a_list_is_worked_through_by_keyboard_alone(opened, stored, tmp_path):
    tab = opened(sample=5, status="89 to 94 %")
    tab.shows("Text 0 of the sample.")
    tab.shows("89 to 94 %", "estimate")
    tab.press("3", code="Digit3")
    tab.shows("Text 1")
    assert stored() == [("sample-0", "label", "positive")], "on the disk before the page goes on"
    tab.shows("Saved: positive.", "note")
    tab.press("?", code="Slash")
    tab.shows("Text 2")
    tab.press("s")
    tab.shows("Text 3")
    tab.press("1", code="Digit1")
    tab.shows("Text 4")
    tab.press("u")
    tab.shows("Text 3")
    tab.shows("Taken back: negative.", "note")
    tab.press("z", ctrl=True)
    tab.shows("Text 2")
    tab.shows("1 unclear", "counts")
    for key, after in (("2", "Text 3"), ("2", "Text 4"), ("3", "All done")):
        tab.press(key, code=f"Digit{key}")
        tab.shows(after, "end" if after == "All done" else "text")
    tab.press("u")
    tab.shows("Text 4")
    decisions = read(Folder(str(tmp_path / "run")))
    assert [each.action for each in decisions].count("undo") == 3
    assert all(0 <= each.seconds < 60 for each in decisions if each.action != "undo")


def test_enter_accepts_what_the_teacher_said_in_the_queue_alone(opened, stored):
    tab = opened("#queue", sample=2, queue=[PROFIT, {"text": "Nothing.", "reason": "split votes"}, PROFIT])
    tab.shows("Operating profit")
    tab.shows("Profit rose.", "reason")
    assert " ".join(tab.text("choices").split()) == "1 negative 2 % 2 neutral 41 % 3 positive 57 % · teacher"
    tab.press("Enter")
    tab.shows("Nothing.")
    tab.shows("The teacher gave no answer: split votes", "reason")
    tab.press("Enter")
    tab.press("2", code="Digit2")
    tab.shows("Operating profit")
    assert stored() == [("queue-0", "label", "positive"), ("queue-1", "label", "neutral")]
    tab.click("[data-list=sample]")
    tab.shows("Text 0 of the sample.")
    tab.press("Enter")
    assert not tab.value("document.getElementById('accept').checkVisibility()") and len(stored()) == 2


def test_nothing_that_the_teacher_said_of_the_sample_reaches_the_browser(browser, opened):
    tab = opened("#sample", sample=[PROFIT | {"reason": "a telling reason"}, PROFIT])
    tab.shows("Operating profit")
    ids = [
        each["params"]["requestId"]
        for each in browser.events
        if each.get("sessionId") == tab.session
        and each["method"] == "Network.responseReceived"
        and "/next" in each["params"]["response"]["url"]
    ]
    bodies = [tab.call("Network.getResponseBody", requestId=each)["body"] for each in ids]
    assert len(bodies) == 1 and json.loads(bodies[0])["row"]["text"] == PROFIT["text"]
    assert not [word for word in ("telling", "0.57", "value", "chances") if word in bodies[0]]
    assert "%" not in tab.text("choices") and not tab.text("reason")


def test_a_key_that_is_held_down_answers_one_row(opened, stored):
    tab = opened(sample=9)
    tab.shows("Text 0")
    tab.press("1", code="Digit1")
    tab.shows("Text 1")
    for _ in range(5):
        tab.press("1", code="Digit1", repeat=True)
    assert tab.text() == "Text 1 of the sample." and len(stored()) == 1


def test_keys_are_heard_on_other_keyboards(opened, stored):
    tab = opened(sample=9)
    tab.shows("Text 0")
    tab.press("&", code="Digit1")  # a French keyboard without Shift
    tab.shows("Text 1")
    tab.press("ы", code="KeyS")
    tab.shows("Text 2")
    assert [action for _, action, _ in stored()] == ["label", "skip"]


def test_the_instructions_are_at_hand(opened, stored):
    tab = opened(sample=3, instructions="positive: good news <b>now</b>")
    tab.shows("Text 0")
    tab.press("i")
    tab.shows("positive: good news <b>now</b>", "instructions")
    tab.press("1", code="Digit1")
    tab.press("Escape")
    tab.until("!document.getElementById('instructions').open")
    tab.press("i")
    tab.press("i")
    tab.until("!document.getElementById('instructions').open")
    assert stored() == []


def test_many_labels_are_filtered_by_typing(opened, stored):
    labels = [f"card_payment_{number:02}" for number in range(76)] + ["Überweisung", "العربية"]
    row = PROFIT | {"value": "card_payment_07", "probabilities": None}
    tab = opened("#queue", labels=labels, queue=[row, row | {"text": "Two."}, row | {"text": "Three."}])
    tab.shows("Operating profit")
    for letter in "uber":
        tab.press(letter)
    tab.press("Enter")
    tab.shows("Two.")
    tab.press("Enter")
    tab.shows("Three.")
    tab.press("ArrowDown")
    tab.press("ArrowDown")
    tab.press("Enter")
    tab.shows("All done", "end")
    assert [value for _, _, value in stored()] == ["Überweisung", "card_payment_07", "card_payment_01"]
    tab.press("z", ctrl=True)
    tab.shows("Three.")
    tab.press("Escape")
    tab.press("s")
    tab.until("document.getElementById('note').innerText === 'Skipped.'")
    assert stored()[-1][1] == "skip"


def test_a_reload_in_the_middle_loses_and_doubles_nothing(opened, stored):
    tab = opened(sample=6)
    for number in range(5):
        tab.shows(f"Text {number}")
        tab.press("1", code="Digit1")
        tab.reload()
    tab.shows("Text 5")
    assert [id_ for id_, _, _ in stored()] == [f"sample-{number}" for number in range(5)]
    tab.press("u")
    tab.shows("Text 4")


def test_a_page_that_is_opened_twice_asks_no_row_twice(opened, stored):
    tabs = [opened(sample=12)]
    tabs.append(opened(server=opened.server))
    tabs[0].shows("Text 0")
    tabs[1].shows("Text 1")
    for number, tab in zip(range(2, 12), itertools.cycle(tabs)):
        tab.press("1", code="Digit1")
        tab.shows(f"Text {number}")
    for tab in tabs:
        tab.press("2", code="Digit2")
    tabs[1].shows("All done", "end")
    assert sorted(id_ for id_, _, _ in stored()) == sorted(f"sample-{number}" for number in range(12))


def test_the_row_of_a_tab_that_was_closed_is_asked_elsewhere(opened):
    first = opened(sample=2)
    second = opened(server=opened.server)
    first.shows("Text 0")
    second.shows("Text 1")
    second.press("1", code="Digit1")
    second.shows("1 open in another tab", "end")
    first.call("Page.navigate", url="about:blank")
    second.shows("Text 0")  # without a key: the page looks again
    second.press("u")
    second.shows("Text 1")


def test_a_full_disk_is_told_in_the_page_and_the_answer_is_sent_again(opened, stored):
    resource = pytest.importorskip("resource")
    tab = opened(sample=20, file_bytes=1500)
    tab.shows("Text 0")
    for number in itertools.count(1):
        tab.press("1", code="Digit1")
        tab.until(
            "document.getElementById('alert').checkVisibility() || "
            f"document.getElementById('text').innerText.includes('Text {number} ')"
        )
        if tab.value("document.getElementById('alert').checkVisibility()"):
            break
    before = len(stored())
    assert before == number - 1 > 1
    assert "Your answer is not saved yet." in tab.text("alert")
    tab.press("2", code="Digit2")
    tab.press("r")
    tab.until("document.getElementById('alert').checkVisibility()")
    assert tab.text().startswith(f"Text {before} ") and len(stored()) == before
    no_limit = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(opened.server.process.pid, resource.RLIMIT_FSIZE, no_limit)
    tab.press("r")
    tab.shows(f"Text {number} ")
    assert stored()[-1] == (f"sample-{before}", "label", "negative") and len(stored()) == before + 1
    assert not tab.value("document.getElementById('alert').checkVisibility()")


def test_where_the_server_is_gone_the_page_says_so_and_what_to_do(browser, tmp_path):
    with served(tmp_path / "run", sample=3, labels=LABELS) as server:
        tab = browser.open(server.address)
        tab.shows("Text 0")
        server.stop()
    tab.press("1", code="Digit1")
    tab.shows("Your answer is not saved yet. The server of this page does not answer.", "alert")
    tab.close()
    assert server.process.returncode == 130


def test_it_stops_where_the_interval_is_narrow_enough_and_goes_on_if_told_to(opened, stored):
    tab = opened(sample=3, status="89.3 to 94.1 %.", enough=True)
    tab.shows("That is enough", "end")
    tab.press("1", code="Digit1")
    assert stored() == []
    tab.press("Tab")
    tab.press("Enter")
    tab.shows("Text 0")
    tab.press("1", code="Digit1")
    tab.shows("Text 1")
    assert len(stored()) == 1


HOSTILE = [
    "<img src=x onerror=alert(1)><script>alert(2)</script>",
    "حققت الشركة أرباحا in 2007 (up).\nA second line (in English).",
    "family 👩‍👩‍👧‍👦 flag 🏴󠁧󠁢󠁥󠁮󠁧󠁿 {{ 7 * 7 }}",
    "a NUL \x00, an escape \x1b[31m, an override \u202efdp.exe, a\u200bspace",
    "w" * 40_000,
    "line\n" * 8_000,
]


def test_texts_of_every_kind_are_shown_as_text(opened):
    tab = opened(sample=[{"text": text} for text in HOSTILE])
    for text in HOSTILE:
        tab.shows(text.splitlines()[0][:12].partition("\x00")[0])
        seen = tab.value("document.getElementById('text').textContent")
        if "\x00" in text:
            assert seen == "a NUL NUL, an escape ESC[31m, an override RLOfdp.exe, aZWSPspace"
        else:
            assert seen == text
        assert tab.value("document.querySelectorAll('#text script, #text img').length") == 0
        directions = tab.value("getComputedStyle(document.getElementById('text')).direction")
        assert directions == ("rtl" if text.startswith("ح") else "ltr")
        assert tab.value("document.documentElement.scrollWidth <= innerWidth")
        if len(text) > 10_000:
            for _ in range(20):  # a busy machine may drop a key before the text has been laid out
                tab.press("PageDown")
                time.sleep(0.2)
                if tab.value("document.getElementById('text').scrollTop") > 100:
                    break
            assert tab.value("document.getElementById('text').scrollTop") > 100
        tab.press("1", code="Digit1")
    tab.shows("All done", "end")


FITS = """
[...document.querySelectorAll("body, header, main, #dock, #choices, button, #note, #counts, #reason, #estimate")]
  .filter((box) => box.checkVisibility() && (box.scrollWidth > box.clientWidth + 1 || (box.tagName === "BUTTON"
    && (box.scrollHeight > box.clientHeight + 1 || box.clientHeight < 30))))
  .map((box) => [box.id || box.className || box.innerText, box.scrollWidth, box.clientWidth])
"""


@pytest.mark.parametrize("labels", [3, 9, 80])
def test_nothing_is_cut_off_at_any_width_in_light_or_dark(opened, tmp_path, labels):
    names = LABELS if labels == 3 else [f"a_rather_long_label_of_{number:02}" for number in range(labels)]
    row = PROFIT | {"value": names[-1], "probabilities": {names[-1]: 0.57}, "reason": "Profit rose. " * 60}
    status = "Teacher 89.3 to 94.1 %; for ±2 points about 70 more labels, 25 minutes at your pace."
    tab = opened("#queue", labels=names, queue=[row], status=status)
    for width, height, dark in SHOWN:
        tab.look(width, height, dark, phone=width == 400)
        tab.shows("Operating profit")
        tab.shows("25 minutes", "estimate")
        assert tab.value(FITS) == [], (width, dark)
        seen = tab.value(
            "['accept', 'undo', 'skip', 'unclear', 'help', 'text'].map((id) => document.getElementById(id)"
            ".getBoundingClientRect()).every((box) => box.bottom <= innerHeight && box.top >= 0 && box.height > 30)"
        )
        assert seen, (width, dark)
        tab.picture(tmp_path / "shot.png")
        pixels = np.asarray(Image.open(tmp_path / "shot.png").convert("L"), dtype=float)
        assert pixels.shape == (height, width) and (np.median(pixels) < 80) == dark
        assert all(band.std() > 3 for band in np.array_split(pixels, 8)), (width, dark)


CONTRAST = """
[...document.querySelectorAll("h1, #reviewer, #estimate, #counts, #note, #text, #reason, button, .said, kbd")]
  .filter((box) => box.checkVisibility() && box.innerText.trim()).map((box) => {
    const rgb = (words) => words.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= .04045 ? c / 12.92
      : ((c + .055) / 1.055) ** 2.4).reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
    let back = box;
    while (back.parentElement && rgb(getComputedStyle(back).backgroundColor)[3] === 0) back = back.parentElement;
    const [a, b] = [getComputedStyle(box).color, getComputedStyle(back).backgroundColor].map((c) => light(rgb(c)));
    return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), box.id || box.innerText];
  }).sort((a, b) => a[0] - b[0])[0]
"""


def test_it_can_be_read_and_heard(opened):
    tab = opened("#queue", queue=[PROFIT], status="89 to 94 %")
    tab.shows("89 to 94 %", "estimate")
    for dark in (False, True):
        tab.look(1200, 800, dark)
        least, where = tab.value(CONTRAST)
        assert least >= 4.5, (where, dark)  # WCAG 2.2, success criterion 1.4.3
    tree = tab.call("Accessibility.getFullAXTree")["nodes"]
    told = {
        (node["role"]["value"], node.get("name", {}).get("value"))
        for node in tree
        if not node["ignored"] and "role" in node
    }
    assert {
        ("button", "1 negative 2 %"),
        ("button", "3 positive 57 % · teacher"),
        ("button", "Accept positive Enter"),
        ("progressbar", "Answered rows"),
        ("navigation", "Lists"),
        ("group", "Labels"),
        ("status", ""),
    } <= told
    assert not {name for role, name in told if role == "button" and not name}


def test_two_reviewers_work_at_the_same_time(browser, tmp_path):
    def work(tab):
        for number in range(4):
            tab.shows(f"Text {number}")
            tab.press("1", code="Digit1")
        tab.shows("All done", "end")

    run = tmp_path / "run"
    with served(run, sample=4, labels=LABELS) as one, served(run, "ben", sample=4, labels=LABELS) as two:
        for server in (one, two):
            tab = browser.open(server.address)
            work(tab)
            tab.close()
    assert sorted((each.reviewer, each.id) for each in read(Folder(str(run)))) == [
        (name, f"sample-{number}") for name in ("anna", "ben") for number in range(4)
    ]
