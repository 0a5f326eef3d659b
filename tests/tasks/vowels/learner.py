"""A regression head."""

import torch
from transformers import AutoModelForSequenceClassification

from vowels.targets import confidence

__all__ = ["confidence", "fresh", "is_right", "labels_of", "loss", "probabilities", "trained"]


def _load(folder, **head):
    return AutoModelForSequenceClassification.from_pretrained(
        folder, use_safetensors=True, dtype=torch.float32, local_files_only=True, **head
    )


def fresh(folder, labels, pooled=False):
    return _load(folder, num_labels=len(labels), problem_type="regression", ignore_mismatched_sizes=True)


trained = _load


def labels_of(config):
    return ["vowels"]


def loss(logits, targets):
    return torch.nn.functional.mse_loss(logits.float(), targets)


def is_right(logits, targets):
    return (logits.round() == targets).all(dim=-1)


def probabilities(logits):
    return logits
