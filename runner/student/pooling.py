"""A student that reads the mean of a text's tokens, as a model that plain transformers loads.

A head on a frozen encoder is as good as the vector that it reads. Sentence encoders are trained to put a text's
meaning into the mean of its tokens, while classifiers in transformers read the first token alone. So one more encoder
layer is appended whose attention looks at all tokens alike: what stands at the first token afterwards is their mean.
It is an ordinary layer of the model's own kind with chosen weights. Any tool that loads the model loads it, and
fine-tuning goes on from it.

MPNet adds one bias for positions to the attention of all layers, so that its mean is a weighted one.
"""

from __future__ import annotations

import copy
from typing import Any

import torch

KINDS = ("bert", "camembert", "mpnet", "roberta", "xlm-roberta")
"""Model types whose layers and heads are built as is assumed here."""

MEANS_SHARE = 32.0
"""How many times the mean outweighs the first token's own vector, which the layer's residual connection adds."""

FEATURE_SCALE = 0.3
"""The head's tanh sees normalised values times this, most of them where it is nearly linear."""


def add_mean_pooling(model: Any) -> None:
    """Append the layer that takes the mean, and have the head read it unchanged; ``model`` is on the processor."""
    layers = model.base_model.encoder.layer
    layer = copy.deepcopy(layers[-1])
    attention = layer.attention
    if hasattr(attention, "attn"):  # MPNet
        query, key, value, out = (getattr(attention.attn, name) for name in "qkvo")
        norms = (attention.LayerNorm, layer.output.LayerNorm)
    else:
        query, key, value = (getattr(attention.self, name) for name in ("query", "key", "value"))
        out, norms = attention.output.dense, (attention.output.LayerNorm, layer.output.LayerNorm)
    with torch.no_grad():
        for linear, scale in ((query, 0.0), (key, 0.0), (value, 1.0), (out, MEANS_SHARE)):
            _scaled_identity(linear, scale)
        layer.output.dense.weight.zero_()
        layer.output.dense.bias.zero_()
        for norm in norms:
            norm.weight.fill_(1.0)
            norm.bias.zero_()
        _scaled_identity(_dense(model), FEATURE_SCALE)
    # As a layer that learns it would soon be no mean any more: AdamW moves each of its zeros as far as its ones.
    layer.requires_grad_(False)
    layers.append(layer)
    model.config.num_hidden_layers += 1


def last_linear(model: Any) -> torch.nn.Linear:
    """The layer that makes logits of features."""
    found = getattr(model.classifier, "out_proj", model.classifier)
    assert isinstance(found, torch.nn.Linear)
    return found


def _dense(model: Any) -> Any:
    """The layer of the head before its tanh."""
    return model.classifier.dense if hasattr(model.classifier, "dense") else model.base_model.pooler.dense


def _scaled_identity(linear: Any, scale: float) -> None:
    linear.weight.copy_(scale * torch.eye(*linear.weight.shape))
    linear.bias.zero_()
