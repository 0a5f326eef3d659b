"""cards: a finished run -> a model card and a data card, in the form of the Hugging Face Hub.

Read-only, and from what the report is made from: what the stages wrote, and the report itself. Holds no text of
the data: what is shown of texts stands in the spec (instructions, few-shot examples).
"""

from __future__ import annotations

from typing import Any

from runner.publish.cards.data import data_card
from runner.publish.cards.model import model_card
from runner.report.gather import Run

__all__ = ["build_cards", "data_card", "model_card"]


def build_cards(run: Run, report: dict[str, Any]) -> dict[str, str]:
    """The cards that lie beside a run's report, by file name; the student is loaded from where its stage left it.

    The same run gives the same cards, byte for byte.
    """
    student = f"{run.places['train']}/student" if "train" in run.places else "student"
    return {
        "cards/model.md": model_card(run, report, student, "the run folder"),
        "cards/data.md": data_card(run, report),
    }
