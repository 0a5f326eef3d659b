"""A regression head."""

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from runner.student.views import views
from vowels.targets import confidence

__all__ = [
    "confidence",
    "decision_of",
    "fresh",
    "is_right",
    "loss",
    "out_of_fold",
    "outputs_of",
    "probabilities",
    "settle",
    "trained",
    "views",
]


def _load(folder, **head):
    return AutoModelForSequenceClassification.from_pretrained(
        folder, use_safetensors=True, dtype=torch.float32, local_files_only=True, **head
    )


def fresh(folder, labels, pooled=False):
    return _load(folder, num_labels=len(labels), problem_type="regression", ignore_mismatched_sizes=True)


trained = _load


def outputs_of(config):
    return ["vowels"]


def decision_of(config):
    return None


def settle(model, logits, targets):
    pass


def loss(logits, targets):
    return torch.nn.functional.mse_loss(logits.float(), targets)


def is_right(logits, targets):
    return (logits.round() == targets).all(dim=-1)


def probabilities(logits):
    return logits


def out_of_fold(features, targets, learned, seed):
    """Ridge regression on the rows of the other half."""
    width = features.shape[1]
    dense = features.toarray() if hasattr(features, "toarray") else features
    halves, answers = np.random.default_rng(seed).permutation(len(targets)) % 2, np.full(targets.shape, np.nan)
    for half in (0, 1):
        seen, unseen = learned & (halves != half), halves == half
        mean = targets[seen].mean()
        weight = np.linalg.solve(dense[seen].T @ dense[seen] + np.eye(width), dense[seen].T @ (targets[seen, 0] - mean))
        answers[unseen, 0] = dense[unseen] @ weight + mean
    return answers
