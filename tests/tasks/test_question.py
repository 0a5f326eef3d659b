"""How people are asked for a value."""

from vowels import showing as vowels

from runner.tasks.kinds import task_of
from runner.tasks.shared.shown import Choice, Question


def test_labels_are_asked_for_in_the_order_of_the_spec(job):
    spec = job.spec()
    question = task_of(spec).showing.question(spec)
    assert question.kind == "choice"
    assert question.choices == tuple(Choice(label, label) for label in spec.task.labels)
    assert question.allows("neutral") and not question.allows("Neutral") and not question.allows(None)


def test_a_value_of_another_type_is_no_answer(job):
    question = vowels.question(job.spec())
    assert question.allows(1) and question.name_of(1) == "1 vowels"
    assert not question.allows(True) and not question.allows(1.0) and not question.allows("1")
    assert question.name_of("gone") == "gone"


def test_several_choices_are_a_list_in_their_order_and_may_be_none():
    question = Question("choices", tuple(Choice(name, name.upper()) for name in "abc"))
    assert question.allows([]) and question.allows(["a", "c"])
    for value in (["c", "a"], ["a", "a"], ["d"], "a", None, ("a",), [["a"]]):
        assert not question.allows(value), value
    assert question.name_of(["a", "c"]) == "A; C" and question.name_of([]) == "none"
    assert Question("choices", (Choice("none", "None"),)).name_of([]) == "(none)"
