"""How the student was trained, in words: workers, recipe, and what was tried."""

from __future__ import annotations

from typing import Any

from runner.report.text import number, percent, seconds


def training(train: dict[str, Any]) -> str:
    """How fast the student learned, on how many workers, and what came in between."""
    workers, resumes = train.get("workers") or 1, train.get("resumes") or 0
    rates = [epoch["texts_per_second"] for epoch in train.get("history") or [] if epoch.get("texts_per_second")]
    said = f"The student was trained on {workers} worker{'s' if workers > 1 else ''}"
    if rates:
        said += f", {number(sum(rates) / len(rates))} texts per second"
    if resumes:
        said += f"; it was interrupted and resumed from a checkpoint {resumes} time{'s' if resumes > 1 else ''}"
    skipped = train.get("skipped_steps")
    left_out = f"The loss scaler skipped {skipped:,} of {train['steps']:,} steps, which overflowed." if skipped else ""
    return " ".join([f"{said}.", *([left_out] if left_out else []), *_recipe(train)])


def _recipe(train: dict[str, Any]) -> list[str]:
    """What it was told to learn, which of its weights were kept, and what was tried before."""
    said = []
    if train.get("recipe") == "best":
        said.append(
            "Its targets are the mean of the teacher's probabilities and of out-of-fold predictions of other students."
        )
    if train.get("recipe") == "auto" and train.get("tried"):
        said.append(_tried(train))
    if averaged := train.get("averaged"):
        kept = "are kept" if averaged["taken"] else "agree less than those of the best epoch, so they are discarded"
        said.append(
            f"Its weights, averaged over the last {averaged['epochs']} epochs, agree with the teacher on "
            f"{percent(averaged['val_accuracy'])} of the held-out texts and {kept}."
        )
    if search := train.get("search"):
        winner = search["trials"][search["chosen"]]
        better = f"the one with {_settings(winner)} was better by more than a standard error, and is used"
        said.append(
            f"{len(search['trials'])} trainings were tried with other settings; "
            + (better if search["chosen"] else "none was better by more than a standard error, so the spec's are used")
            + f" (agreement {percent(winner['agreement'])}, standard error {percent(search['standard_error'])})."
        )
    return said


RECIPES = {
    "head": "a linear head on the encoder as it is",
    "lp-ft": "the encoder fine-tuned from that head",
    "fast": "the encoder fine-tuned with a new head",
}


def _tried(train: dict[str, Any]) -> str:
    """What recipe ``auto`` tried, and what it kept."""
    each = [
        f"{RECIPES[tried['recipe']]} ({tried['recipe']}) agreed with the teacher on "
        f"{percent(tried['val_accuracy'])} of the held-out texts after {seconds(tried['seconds'])}"
        for tried in train["tried"]
    ]
    enough = ", which was enough: nothing was fine-tuned" if len(each) == 1 and train["kept"] == "head" else ""
    return f"Tried: {'; '.join(each)}. Kept: {train['kept']}{enough}."


def _settings(trial: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.2g}" for name, value in trial["settings"].items())
