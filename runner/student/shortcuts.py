"""The same student with less arithmetic.

Training needs the word vectors of those tokens alone that its texts have (:class:`SeenEmbedding`). A classifier reads
the last layer at the first token alone, so that the other tokens need no queries there, no feed-forward and no norm:
of a six-layer student, an eighth of the work. MPNet, whose attention transformers writes out step by step, gets
torch's fused one. The last two are for encoders that are built like BERT, or like MPNet, and are not believed but
tried (:func:`apply_shortcuts`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

MOST_APART = 1e-4
"""Of what the last layer says with and without shortcuts, in fp32, as a share of its largest value."""


class SeenEmbedding(torch.nn.Module):
    """Those rows of an embedding whose tokens occur in the texts: the others get no gradient, and need no optimizer.

    The names of parameters stay as they are. Of a small encoder with a large vocabulary, the others are much of what a
    step would write: half of all-MiniLM-L6-v2, seven tenths of XLM-RoBERTa-base.
    """

    def __init__(self, whole: torch.nn.Embedding, tokens: Sequence[int]) -> None:
        super().__init__()
        self._whole = [whole]  # in a list, where torch does not look for parameters
        self.tokens = torch.tensor(tokens)
        self.weight = torch.nn.Parameter(whole.weight.detach()[self.tokens].clone())
        place = torch.zeros(whole.num_embeddings, dtype=torch.int64)
        place[self.tokens] = torch.arange(len(tokens))
        self.register_buffer("place", place, persistent=False)
        self.padding_idx = tokens.index(whole.padding_idx) if whole.padding_idx in tokens else None

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids of any shape to their vectors, as the whole embedding would."""
        assert isinstance(self.place, torch.Tensor)
        return torch.nn.functional.embedding(self.place[ids], self.weight, self.padding_idx)

    def whole(self) -> torch.nn.Embedding:
        """The whole embedding, with what was learned of the rows."""
        with torch.no_grad():
            self._whole[0].weight[self.tokens] = self.weight.detach().to(self._whole[0].weight)
        return self._whole[0]


def apply_shortcuts(model: Any) -> bool:
    """Patch the forward pass if the outputs agree within :data:`MOST_APART`; otherwise leave the model unchanged.

    ``model`` is in fp32 on the processor. Neither its parameters nor their names change, so that it is trained,
    saved and exported as before. Returns whether it takes them.
    """
    if (layers := _layers(model)) is None:
        return False
    was_training, changed = model.training, []
    model.eval()
    try:
        expected = _tried(model)
        changed = _mpnet(layers) if hasattr(layers[0].attention, "attn") else _bert(layers)
        same = all(
            bool((now - before).abs().max() <= MOST_APART * before.abs().max())
            for now, before in zip(_tried(model), expected, strict=True)
        )
    except Exception:  # a layer that only looks like those known here, or a model that wants more than a text
        same = False
    if not same:
        for module in changed:
            del module.forward  # the class's own is seen again
    model.train(was_training)
    return same


def _layers(model: Any) -> Any | None:
    """The encoder's layers, where they have the parts that are needed here."""
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    if model.config.model_type == "big_bird":  # tried on a short text, it would read long ones otherwise
        return None
    parts = ("attention.attn.q", "attention.LayerNorm", "intermediate", "output")
    others = ("attention.self.query", "attention.output", "intermediate", "output")
    if layers and any(all(_has(layers[-1], part) for part in family) for family in (parts, others)):
        return layers
    return None


def _has(module: Any, path: str) -> bool:
    for name in path.split("."):
        module = getattr(module, name, None)
    return module is not None


def _tried(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Of rows with and without padding: the logits, and the last layer at the first token, of which they are made.

    A fresh head has weights so small that its logits alone would hide much.
    """
    most = min(100, int(model.config.vocab_size))
    ids = torch.randint(most // 4, most, (3, 11), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 7:], mask[2, 2:] = 0, 0
    ids[mask == 0] = model.config.pad_token_id
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask).logits
        last = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
    return logits, last


def _bert(layers: Any) -> list[Any]:
    """BERT, RoBERTa, XLM-RoBERTa, ELECTRA, CamemBERT: the last layer for the first token alone."""
    layers[-1].forward = partial(_bert_first, layers[-1])
    return [layers[-1]]


def _bert_first(layer: Any, hidden: torch.Tensor, mask: torch.Tensor | None = None, *_: Any, **__: Any) -> torch.Tensor:
    own, first = layer.attention.self, hidden[:, :1]
    heads = partial(_heads, size=own.attention_head_size)
    found = _attend(heads(own.query(first)), heads(own.key(hidden)), heads(own.value(hidden)), _first(mask), own)
    first = layer.attention.output(found, first)
    result: torch.Tensor = layer.output(layer.intermediate(first), first)
    return result


def _mpnet(layers: Any) -> list[Any]:
    """MPNet: fused attention in all layers, the last for the first token alone."""
    changed = [layer.attention.attn for layer in layers[:-1]]
    for attention in changed:
        attention.forward = partial(_mpnet_attention, attention)
    layers[-1].forward = partial(_mpnet_first, layers[-1])
    return [*changed, layers[-1]]


def _mpnet_attention(
    own: Any, hidden: torch.Tensor, mask: torch.Tensor | None = None, bias: torch.Tensor | None = None, **_: Any
) -> tuple[torch.Tensor]:
    return (_mpnet_attended(own, hidden, hidden, mask, bias),)


def _mpnet_first(
    layer: Any,
    hidden: torch.Tensor,
    mask: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor]:
    outer, first = layer.attention, hidden[:, :1]
    found = _mpnet_attended(outer.attn, first, hidden, _first(mask), _first(bias))
    first = outer.LayerNorm(outer.dropout(found) + first)
    return (layer.output(layer.intermediate(first), first),)


def _mpnet_attended(
    own: Any, asking: torch.Tensor, hidden: torch.Tensor, mask: torch.Tensor | None, bias: torch.Tensor | None
) -> torch.Tensor:
    heads: Callable[[torch.Tensor], torch.Tensor] = partial(_heads, size=own.attention_head_size)
    q, k, v = heads(own.q(asking)), heads(own.k(hidden)), heads(own.v(hidden))
    added = bias if mask is None else mask if bias is None else mask + bias
    # Under autocast the products are in half precision, and attention wants its mask in the same.
    found: torch.Tensor = own.o(_attend(q, k, v, None if added is None else added.to(q.dtype), own))
    return found


def _first(mask: torch.Tensor | None) -> torch.Tensor | None:
    """What stands in a mask ``(..., queries, keys)`` for the first query."""
    return mask if mask is None else mask[..., :1, :]


def _heads(values: torch.Tensor, size: int) -> torch.Tensor:
    """``(rows, tokens, width)`` to ``(rows, heads, tokens, size)``."""
    return values.view(*values.shape[:2], -1, size).transpose(1, 2)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, own: Any) -> torch.Tensor:
    """Attention of all heads, side by side again: ``(rows, queries, width)``."""
    dropout = own.dropout.p if own.training else 0.0
    if dropout and q.device.type == "cpu":  # there torch has no fused attention that drops out, and draws slowly
        scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
        if mask is not None:
            least = torch.finfo(scores.dtype).min
            scores = scores.masked_fill(~mask, least) if mask.dtype == torch.bool else scores + mask
        shares = torch.softmax(scores, dim=-1)
        return torch.matmul(own.dropout(shares).to(v.dtype), v).transpose(1, 2).flatten(2)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout).transpose(1, 2).flatten(2)
