"""Two figures and a sentence."""

from collections import Counter

from runner.tasks.shared.shown import Choice, Figure, Question, ShownRow

FIGURES = (Figure("exact", "right counts", "percent"), Figure("off_by", "off by", "decimal", "vowels"))
PAGE = "template.html"
MODEL_CARD = DATA_CARD = ""
PIPELINE_TAG, TASK_NAME, HUB_RESULTS = "text-classification", "Counting", ()


def question(spec):
    return Question("choice", tuple(Choice(count, f"{count} vowels") for count in range(12)))


def probabilities(spec, verdict):
    return None


def summary(evaluation):
    return {}


def labelled(vote):
    return {"mean_count": vote["mean_count"]}


def given(votes):
    return Counter(votes["label"].to_pylist())


def doubtful(spec, votes):
    return []


def mistaken(spec, predictions):
    wrong = (row for row in predictions.to_pylist() if row["label"] != row["student_label"])
    return [ShownRow(row["text"], str(row["student_label"]), [], 0.0, truth=str(row["label"])) for row in wrong]


def quality(evaluation):
    return "not-shown"


def opening(evaluation):
    return f"The student counts {evaluation['student']['exact']:.0%} of the texts right."


def compared(evaluation):
    return f"{evaluation['sign_test']['only_a_right']} texts are counted right by the teacher alone"


def beside(paired):
    return ""


def pair(evaluation):
    test = evaluation["sign_test"]
    return "right alone", "", str(test["only_a_right"]), str(test["only_b_right"])


def limits(evaluation):
    return ["Only the vowels of English are counted."]


def plots(report):
    return {}


def page(report):
    return {}


def asked(form, votes):
    return f"{votes} times for the number of vowels"


def agreement(vote, sampled):
    return []


def pooled(teachers):
    return "The counts of several teachers were pooled."


def loading(model):
    return f"student = {model!r}"
