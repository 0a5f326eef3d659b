"""Texts as vectors: what is near what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel

from runner.student.batches import length_batches
from runner.student.device import device
from runner.student.inflight import InFlight, budget_of, transfers_of
from runner.student.load import AS_DATA, load_tokenizer, reason
from runner.student.tokens import tokenize
from runner.system.errors import ModelError


@dataclass
class Encoder:
    """A text encoder that says what is near what, on one device, in fp32."""

    model: Any
    tokenizer: Any
    device: torch.device

    @classmethod
    def load(cls, folder: Path) -> Encoder:
        """:raises ModelError: when the folder holds no encoder with safetensors weights."""
        try:
            model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **AS_DATA)
        except (OSError, ValueError) as error:
            raise ModelError(
                "model.not-an-encoder", f"{folder}: cannot be loaded as an encoder: {reason(error)}"
            ) from error
        on = device()
        return cls(model.to(on).eval(), load_tokenizer(folder), on)

    def embed(self, texts: Sequence[str], max_length: int = 256) -> NDArray[np.float32]:
        """Vectors of length 1, ``(len(texts), width)``, float32: the mean of the last hidden states over tokens."""
        ids = tokenize(self.tokenizer, texts, max_length)
        found = np.empty((len(ids), self.model.config.hidden_size), dtype=np.float32)
        flight = InFlight(
            self._vectors, transfers_of(self.device), budget_of(self.device), self.tokenizer.pad_token_id or 0
        )
        batches = length_batches([len(row) for row in ids], flight.budget.tokens)
        for batch, _, vectors in flight.answers((batch, [ids[index] for index in batch]) for batch in batches):
            found[batch] = vectors
        if not np.isfinite(found).all():
            raise ModelError(
                "model.weights-not-finite",
                "the encoder's vectors are not finite numbers: its weights are damaged; take another",
            )
        return found

    def _vectors(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states, shown = self.model(input_ids=ids, attention_mask=mask).last_hidden_state, mask.unsqueeze(-1)
        return torch.nn.functional.normalize((states * shown).sum(1) / shown.sum(1), dim=-1)
