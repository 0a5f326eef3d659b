"""The store of decisions: nothing is lost, nothing counts twice, and what is broken is named with its line."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from runner.review import decisions
from runner.review.decisions import Decision, Writer, read, text_digest
from runner.review.settle import reviewed, rows, settled
from runner.rundir.folder import Folder
from runner.system.errors import DataError, UserError


def said(row: str, value: Any = "good", reviewer: str = "ada", **more: Any) -> Decision:
    given = {"list": "queue", "action": "label", "digest": text_digest(row), "seconds": 1.5} | more
    return Decision(id=row, value=value, reviewer=reviewer, **given)


def test_what_was_appended_is_read_in_the_order_of_time(tmp_path: Path) -> None:
    run, first, second = Folder(str(tmp_path)), said("a", time="2026-01-02"), said("b", "böse\n", time="2026-01-01")
    Writer(run).append([first])
    Writer(run).append([second])
    assert read(run) == [second, first]
    assert len(list((tmp_path / "review/decisions").iterdir())) == 2


def test_object_stores_get_an_object_for_each_write() -> None:
    run = Folder("memory://reviews/run")
    writer = Writer(run)
    given = [said(str(n), time=f"2026-01-0{n}") for n in (1, 2, 3)]
    writer.append(given[:1])
    writer.append(given[1:])
    assert read(run) == given
    assert len(run.child(*decisions.FOLDER).names(".jsonl")) == 2


def test_a_line_that_was_cut_off_does_not_count_and_others_do(tmp_path: Path) -> None:
    run = Folder(str(tmp_path))
    Writer(run).append([said("a"), said("b")])
    (file,) = (tmp_path / "review/decisions").iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    assert [decision.id for decision in read(run)] == ["a"]


def test_the_same_decision_of_two_machines_counts_once(tmp_path: Path) -> None:
    run, one = Folder(str(tmp_path)), said("a")
    Writer(run).append([one])
    Writer(run).append([one])
    assert read(run) == [one]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", r"\.jsonl:2: is no decision"),
        ("7", r"\.jsonl:2: is no decision"),
        ('{"id": "a"}', r"\.jsonl:2: is no decision"),
        ('{"version": 1, "id": "a"}', r"\.jsonl:2: is no decision of this format"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    run = Folder(str(tmp_path))
    Writer(run).append([said("a")])
    (file,) = (tmp_path / "review/decisions").iterdir()
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(DataError, match=words):
        read(run)


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    run = Folder(str(tmp_path))
    Writer(run).append([said("a")])
    (file,) = (tmp_path / "review/decisions").iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 2, "more": 1}) + "\n")
    with pytest.raises(UserError, match=r"\.jsonl:1: was written by a newer tutelage \(format 2"):
        read(run)


def test_one_decision_in_two_forms_is_refused(tmp_path: Path) -> None:
    run, one = Folder(str(tmp_path)), said("a")
    Writer(run).append([one])
    Writer(run).append([said("a", "bad", decision=one.decision, time=one.time)])
    with pytest.raises(DataError, match="also stands in another form"):
        read(run)


def test_a_full_disk_loses_nothing_and_the_write_can_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes a part of the write and then no more: what the real one does when it is full."""
    run = Folder(str(tmp_path))
    writer, written, write = Writer(run), [], os.write
    writer.append([said("a")])

    def nearly_full(handle: int, data: memoryview) -> int:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(write(handle, data[:10]))
        return 10

    with monkeypatch.context() as patch:
        patch.setattr(decisions.os, "write", nearly_full)
        with pytest.raises(UserError, match="disk is full"):
            writer.append([said("b")])
    assert [decision.id for decision in read(run)] == ["a"]
    writer.append([said("b")])
    assert sorted(decision.id for decision in read(run)) == ["a", "b"]


def test_the_last_word_of_each_reviewer_counts() -> None:
    first = said("a", "good", time="1")
    found = rows([first, said("a", "bad", time="2"), said("a", "good", "bob", time="3")])
    row = found["queue", "a"]
    assert {name: word.value for name, word in row.words.items()} == {"ada": "bad", "bob": "good"}
    assert row.conflict and row.value is None
    assert rows([first, said("a", None, action="skip", time="2")])["queue", "a"].value == "good"


def test_an_undo_brings_back_the_word_before() -> None:
    first, second = said("a", "good", time="1"), said("a", "bad", time="2")
    undo = said("a", None, action="undo", undoes=second.decision, time="3")
    assert rows([first, second, undo])["queue", "a"].value == "good"
    assert rows([second, undo]) == {}


def test_the_majority_settles_and_a_tie_stays_open() -> None:
    two = [said("a", "good"), said("a", "bad", "bob")]
    assert settled(two).corrections == {}
    assert settled([*two, said("a", "bad", "cy")]).corrections == {"a": "bad"}
    assert settled([said("a", None, action="unclear"), said("a", "bad", "bob")]).corrections == {"a": "bad"}


def test_the_digest_names_what_holds_and_not_how_it_came_about(tmp_path: Path) -> None:
    plain = settled([said("a"), said("s", list="sample")])
    detour = settled([said("a", "bad", time="1"), said("s", list="sample"), said("a", "good", time="2")])
    assert plain.digest == detour.digest and plain.sample == {"s": "good"}
    assert settled([said("a")]).digest != settled([said("a", list="sample")]).digest
    assert settled([said("u", None, action="unclear", list="sample")]).unclear == {"u"}
    assert not reviewed(Folder(str(tmp_path)))
