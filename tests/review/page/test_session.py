"""Which row is asked next, and what is stored, whoever asks and whatever goes wrong."""

from dataclasses import replace

import pytest
from served import items, question

from runner.review.decisions import Decision, Writer, read, text_digest
from runner.review.page.session import HOLD_SECONDS, RefusedError, Session
from runner.rundir.folder import Folder
from runner.system.errors import UserError


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def run(tmp_path):
    return Folder(str(tmp_path))


@pytest.fixture
def opened(run, clock):
    """A session of a reviewer, as a server that was started just now would have it."""

    def open_(reviewer="anna", **lists):
        lists = lists or {"sample": items("sample", 4), "queue": items("queue", 3)}
        return Session(lists, question(["no", "yes"]), reviewer, read(run), Writer(run).append, clock)

    return open_


def row(session, name="sample", view="a", was=None):
    found = session.next(name, view, was)["row"]
    return found and found["id"]


def label(session, value="yes", name="sample", view="a", decision=None, action="label", seconds=1.0):
    id_ = row(session, name, view)
    session.decide(name, view, id_, action, value, seconds, decision or f"{session.reviewer}-{id_}-{view}")
    return id_


def stored(run):
    return [(each.list, each.id, each.action, each.value) for each in read(run)]


def test_rows_come_in_the_order_of_their_list_and_each_answer_is_stored_before_the_next(opened, run):
    session = opened()
    for number in range(4):
        assert label(session, "no") == f"sample-{number}"
        assert stored(run)[-1] == ("sample", f"sample-{number}", "label", "no")
    assert session.next("sample", "a") == {
        "row": None,
        "progress": {"answered": 4, "unclear": 0, "skipped": 0, "total": 4},
        "elsewhere": 0,
    }
    first = read(run)[0]
    assert (first.digest, first.reviewer, first.tool) == (text_digest("Text 0 of the sample."), "anna", "page")


def test_a_new_server_goes_on_where_the_last_one_stopped(opened):
    session = opened()
    label(session), label(session, action="unclear", value=None), label(session, action="skip", value=None)
    again = opened()
    assert row(again) == "sample-3"
    assert again.totals()["sample"] == {"answered": 2, "unclear": 1, "skipped": 1, "total": 4}
    assert again.totals()["queue"]["answered"] == 0


def test_two_tabs_never_hold_the_same_row(opened):
    session = opened()
    assert [row(session, view=view) for view in "abcab"] == [f"sample-{n}" for n in (0, 1, 2, 0, 1)]
    label(session, view="a")
    assert row(session, view="a") == "sample-3"
    assert session.next("sample", "d") == {"row": None, "progress": session.totals()["sample"], "elsewhere": 3}
    session.leave("b")
    assert row(session, view="d") == "sample-1"


def test_a_tab_that_is_gone_lets_go_after_a_while_and_one_that_gives_signs_of_life_does_not(opened, clock):
    session = opened()
    row(session, view="gone"), row(session, view="quiet")
    clock.now = HOLD_SECONDS - 1
    session.alive("quiet")
    clock.now = HOLD_SECONDS + 1
    assert row(session, view="new") == "sample-0"
    assert row(session, view="other") == "sample-2"
    session.alive("gone")  # it wakes up: its row is another's by now
    assert row(session, view="gone") == "sample-3"


def test_a_tab_that_comes_back_late_answers_its_row_where_nobody_else_has_it(opened, clock, run):
    session = opened()
    row(session, view="late")
    clock.now = HOLD_SECONDS + 1
    session.decide("sample", "late", "sample-0", "label", "no", 3.0, "one")
    row(session, view="late")
    clock.now = 2 * HOLD_SECONDS + 2
    assert row(session, view="other") == "sample-1"
    with pytest.raises(RefusedError, match="open in another tab"):
        session.decide("sample", "late", "sample-1", "label", "no", 3.0, "two")
    session.decide("sample", "other", "sample-1", "label", "yes", 3.0, "three")
    with pytest.raises(RefusedError, match=r"answered before: yes\. That answer stays"):
        session.decide("sample", "late", "sample-1", "label", "no", 3.0, "two")
    assert len(read(run)) == 2


def test_a_reload_shows_the_same_row(opened):
    session = opened()
    assert row(session, view="before") == row(session, view="after", was="before") == "sample-0"


def test_whoever_turns_to_the_other_list_lets_go_of_the_row_of_this_one(opened):
    session = opened()
    assert (row(session), row(session, "queue"), row(session, view="b")) == ("sample-0", "queue-0", "sample-0")


def test_an_answer_that_is_sent_again_is_stored_once(opened, run):
    session = opened()
    for _ in range(2):
        session.decide("sample", "a", "sample-0", "label", "yes", 1.0, "one")
    opened().decide("sample", "a", "sample-0", "label", "yes", 1.0, "one")
    assert len(read(run)) == 1
    with pytest.raises(RefusedError, match="another row"):
        session.decide("sample", "a", "sample-1", "label", "yes", 1.0, "one")


def test_two_reviewers_answer_the_same_row(opened, run):
    label(opened("anna")), label(opened("ben"), "no")
    assert [(each.id, each.reviewer, each.value) for each in read(run)] == [
        ("sample-0", "anna", "yes"),
        ("sample-0", "ben", "no"),
    ]


def test_skipped_rows_come_again_when_the_others_are_answered(opened):
    session = opened()
    ids = [label(session, action="skip", value=None) for _ in range(2)]
    assert [label(session, decision=f"x{n}") for n in range(4)] == ["sample-2", "sample-3", *ids]
    assert session.totals()["sample"] == {"answered": 4, "unclear": 0, "skipped": 0, "total": 4}


def test_undo_shows_the_row_again_and_says_what_was_answered(opened, run):
    session = opened()
    label(session), label(session, "no")
    shown = session.undo("sample", "a", "u1")
    assert (shown["row"]["id"], shown["undone"]) == ("sample-1", {"action": "label", "value": "no"})
    assert session.undo("sample", "a", "u1") == shown, "sent again"
    shown = session.undo("sample", "a", "u2")
    assert (shown["row"]["id"], shown["undone"]["value"]) == ("sample-0", "yes")
    with pytest.raises(RefusedError, match="nothing to undo"):
        session.undo("sample", "a", "u3")
    assert [each[2] for each in stored(run)] == ["label", "label", "undo", "undo"]
    label(session, "no", decision="again")
    assert row(opened()) == "sample-1", "after a restart as well"


def test_undo_takes_back_what_the_tab_names_and_only_once(opened, run):
    session = opened()
    label(session, view="a"), label(session, view="b")
    assert session.undo("sample", "a", "u1", "anna-sample-0-a")["row"]["id"] == "sample-0"
    with pytest.raises(RefusedError, match="taken back before"):
        session.undo("sample", "b", "u2", "anna-sample-0-a")
    with pytest.raises(RefusedError, match="nothing to undo in this list"):
        session.undo("queue", "b", "u3", "anna-sample-1-b")
    assert len(read(run)) == 3


def test_of_a_blind_list_nothing_that_the_teacher_said_leaves_the_server(opened):
    told = {"value": "yes", "probabilities": {"yes": 0.9, "no": 0.1}, "reason": "It says yes.", "doubt": 0.2}
    session = opened(sample=items("sample", [{"text": "a", **told}]), queue=items("queue", [{"text": "b", **told}]))
    assert session.next("sample", "a")["row"] == {"list": "sample", "id": "sample-0", "number": 1, "text": "a"}
    assert session.next("queue", "a")["row"] == {
        "list": "queue",
        "id": "queue-0",
        "number": 1,
        "text": "b",
        "value": "yes",
        "given": "yes",
        "chances": [0.1, 0.9],
        "reason": "It says yes.",
    }


def test_a_label_of_an_earlier_spec_is_shown_and_cannot_be_accepted(opened):
    session = opened(queue=items("queue", [{"text": "b", "value": "maybe"}]))
    shown = session.next("queue", "a")["row"]
    assert (shown["value"], shown["given"], shown["chances"], shown["reason"]) == (None, "maybe", [None, None], "")


@pytest.mark.parametrize(("action", "value"), [("label", "Yes"), ("label", None), ("label", 1), ("agree", "yes")])
def test_what_is_no_answer_is_refused(opened, run, action, value):
    with pytest.raises(ValueError, match="no answer to this question"):
        opened().decide("sample", "a", "sample-0", action, value, 1.0, "one")
    assert stored(run) == []


def test_a_row_or_list_that_is_not_there_is_refused(opened):
    with pytest.raises(RefusedError, match="no row 'queue-0' in this list"):
        opened().decide("sample", "a", "queue-0", "label", "yes", 1.0, "one")
    with pytest.raises(RefusedError, match="no list 'other'"):
        opened().next("other", "a")


def test_a_decision_on_another_text_does_not_count(opened, run):
    label(opened())
    changed = items("sample", [{"text": "Text 0, mended."}, {"text": "Text 1 of the sample."}])
    assert row(opened(sample=changed)) == "sample-0"


def test_rows_of_before_that_are_no_longer_there_are_passed_over(opened, run):
    known = Decision(list="sample", id="sample-1", digest=text_digest("x"), action="label", value="no", reviewer="anna")
    Writer(run).append([replace(known, id="gone"), replace(known, decision="other", list="queue")])
    session = opened(sample=items("sample", 2))
    assert session.totals() == {"sample": {"answered": 0, "unclear": 0, "skipped": 0, "total": 2}}


def test_where_nothing_can_be_stored_nothing_has_changed_and_a_retry_stores_it_once(run, clock):
    full, tried = [True], []
    writer = Writer(run)

    def append(decisions):
        tried.extend(decisions)
        if full[0]:
            raise UserError("run.disk-full", "the disk is full")
        writer.append(decisions)

    session = Session({"sample": items("sample", 3)}, question(["no", "yes"]), "anna", [], append, clock)
    with pytest.raises(UserError, match="full"):
        label(session, decision="one")
    assert row(session) == "sample-0" and session.totals()["sample"]["answered"] == 0
    full[0] = False
    label(session, decision="one")
    assert tried[0] == tried[1], "should the first have arrived after all, both are the same"
    full[0] = True
    with pytest.raises(UserError, match="full"):
        session.undo("sample", "a", "u1")
    assert row(session) == "sample-1"
    full[0] = False
    assert session.undo("sample", "a", "u1")["row"]["id"] == "sample-0"
    assert [each[2] for each in stored(run)] == ["label", "undo"]


def test_seconds_are_within_a_day_and_may_be_unknown(opened, run):
    session = opened()
    for number, seconds in enumerate([1.26, -5.0, 1e9, None]):
        session.decide("sample", "a", f"sample-{number}", "label", "yes", seconds, f"d{number}")
    assert [each.seconds for each in read(run)] == [1.3, 0.0, 86400.0, None]


def test_control_characters_are_shown_and_the_digest_is_of_the_text_as_it_is(opened, run):
    session = opened(sample=items("sample", [{"text": "a\x00b\x1b[31m\r\n\ud800"}]))
    assert session.next("sample", "a")["row"]["text"] == "a\u2400b\u241b[31m\n\ufffd"
    label(session)
    assert read(run)[0].digest == text_digest("a\x00b\x1b[31m\r\n\ud800")
