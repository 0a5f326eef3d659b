"""The student in int8: its products of weights in eight bits, but for the few neurons that eight bits cannot hold.

In some layers a handful of feed-forward neurons answer a hundred times as strongly as all others, mostly at the tokens
that begin and end a text (Sun et al. 2024, "Massive Activations in Large Language Models"). One scale for a whole
tensor then leaves the others next to nothing. So a few neurons of each layer are computed apart, in fp32, as the
outlier columns of LLM.int8 are (Dettmers et al. 2022): a feed-forward layer is a sum over its neurons. What the layer
reads has outlier channels too, fewer and less so: these are scaled down, and their weights up by as much (SmoothQuant;
Xiao et al. 2023), which changes nothing of what is computed.

Works on the graph of ONNX, which says the same of all architectures: product, bias, GELU, product.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

APART = 32
"""Neurons of each feed-forward layer that are computed apart, of some 1,500 to 3,000."""

SMOOTHING_ALPHA = 0.65
"""SmoothQuant's migration strength: at 1 the channels of an input get equal ranges, at 0 those of its weights."""


class _FeedForward(NamedTuple):
    """The nodes of one feed-forward layer."""

    up: Any
    bias: Any
    gelu: Any
    down: Any


Batch = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Token ids and attention mask, both ``(rows, longest)``."""


def quantise(full: Path, target: Path, seen: Sequence[Batch]) -> None:
    """Write ``full`` (ONNX, fp32, opset 20) in int8: weights by channel, activations scaled as they come.

    ``seen`` is texts such as it will read: they show which channels are outliers. Without any, none is treated as one.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(full)
    layers = _feed_forwards(model.graph) if seen else []
    ranges = _activation_ranges(model, [name for one in layers for name in (one.up.input[0], one.gelu.output[0])], seen)
    apart = []
    for layer in layers:
        strongest = np.argsort(-ranges[layer.gelu.output[0]])[:APART]
        apart += _split(model.graph, layer, np.sort(strongest))
        # After it: what is apart reads the columns as they are.
        _even_out(model.graph, layer, ranges[layer.up.input[0]])
    needed = {name for node in model.graph.node for name in node.input}
    for stored in [one for one in model.graph.initializer if one.name not in needed]:
        model.graph.initializer.remove(stored)
    quantize_dynamic(model, target, weight_type=QuantType.QInt8, per_channel=True, nodes_to_exclude=apart)


def _feed_forwards(graph: Any) -> list[_FeedForward]:
    """Of the graph, whatever reads ``product + bias -> GELU -> product``, both products with weights."""
    made = {name: node for node in graph.node for name in node.output}
    read: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            read.setdefault(name, []).append(node)
    stored = {one.name for one in graph.initializer}
    # ALBERT's layers share theirs: each apart would be many models.
    own = {name for name in stored if len(read.get(name, [])) == 1}
    found: list[_FeedForward] = []
    for gelu in (node for node in graph.node if node.op_type == "Gelu"):
        bias, after = made.get(gelu.input[0]), read.get(gelu.output[0], [])
        if bias is None or bias.op_type != "Add" or len(after) != 1 or not stored.intersection(bias.input):
            continue
        products = [*(made[name] for name in bias.input if name in made), *after]
        if len(products) != 2 or any(node.op_type != "MatMul" or node.input[1] not in own for node in products):
            continue
        # Whoever else read what is inside would miss what is computed apart; and no product is in two layers.
        inside = [products[0].output[0], bias.output[0]]
        if all(len(read[name]) == 1 for name in inside) and all(one.down.output[0] != inside[0] for one in found):
            found.append(_FeedForward(products[0], bias, gelu, products[1]))
    return found


def _activation_ranges(model: Any, names: list[str], seen: Sequence[Batch]) -> dict[str, NDArray[np.float32]]:
    """Of each tensor that is named, ``(..., columns)``, the largest size of each column's values."""
    import onnx
    import onnxruntime

    if not names:
        return {}
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, ["CPUExecutionProvider"])
    highest: dict[str, NDArray[np.float32]] = {}
    for ids, mask in seen:
        said = session.run(names, {"input_ids": ids, "attention_mask": mask})
        for name, values in zip(names, said, strict=True):
            largest = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
            highest[name] = np.maximum(largest, highest.get(name, 0))
    return highest


def _split(graph: Any, layer: _FeedForward, neurons: NDArray[np.int64]) -> list[str]:
    """Compute ``neurons`` of a layer apart, and add what they say; the names of the products that do."""
    from onnx import helper, numpy_helper

    stored = {one.name: one for one in graph.initializer}
    bias_name = next(name for name in layer.bias.input if name in stored)

    def keep(name: str, values: NDArray[np.float32]) -> str:
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    said, up, bias, down = (
        layer.gelu.output[0],
        *(numpy_helper.to_array(stored[name]) for name in (layer.up.input[1], bias_name, layer.down.input[1])),
    )
    few = {"up": up[:, neurons], "bias": bias[neurons], "down": down[neurons]}
    # GELU of nothing is nothing: without weights and bias a neuron is out of the large products.
    rest_up, rest_bias, rest_down = up.copy(), bias.copy(), down.copy()
    rest_up[:, neurons], rest_bias[neurons], rest_down[neurons] = 0, 0, 0
    layer.up.input[1] = keep(f"{said}/rest/up", rest_up)
    layer.bias.input[list(layer.bias.input).index(bias_name)] = keep(f"{said}/rest/bias", rest_bias)
    layer.down.input[1] = keep(f"{said}/rest/down", rest_down)
    whole, rest = layer.down.output[0], f"{said}/rest/said"
    layer.down.output[0] = rest
    names = {part: f"{said}/apart/{part}" for part in ("up", "bias", "gelu", "down")}
    chain = [
        helper.make_node("MatMul", [layer.up.input[0], keep(f"{names['up']}/weight", few["up"])], [names["up"]]),
        helper.make_node("Add", [names["up"], keep(f"{names['bias']}/weight", few["bias"])], [names["bias"]]),
        helper.make_node("Gelu", [names["bias"]], [names["gelu"]]),
        helper.make_node("MatMul", [names["gelu"], keep(f"{names['down']}/weight", few["down"])], [names["down"]]),
        helper.make_node("Add", [rest, names["down"]], [whole]),
    ]
    for node in chain:
        node.name = f"{node.output[0]}/node"
    chain[2].attribute.extend(layer.gelu.attribute)
    place = list(graph.node).index(layer.down) + 1
    for offset, node in enumerate(chain):
        graph.node.insert(place + offset, node)
    return [chain[0].name, chain[3].name]


def _even_out(graph: Any, layer: _FeedForward, ranges: NDArray[np.float32]) -> None:
    """Divide the channels of what a layer reads by a number each, and multiply their weights by it."""
    from onnx import helper, numpy_helper

    weight = next(one for one in graph.initializer if one.name == layer.up.input[1])
    values = numpy_helper.to_array(weight)
    weight_ranges = np.abs(values).max(axis=1)
    if not np.isfinite(ranges).all() or not ranges.any() or not weight_ranges.any():
        return
    # A channel that was silent in these texts may not be in others: no range is far from the rest.
    activation, weight_ranges = (
        np.maximum(each, max(np.median(each) / 100, each.max() / 1e4)) for each in (ranges, weight_ranges)
    )
    by = (activation**SMOOTHING_ALPHA / weight_ranges ** (1 - SMOOTHING_ALPHA)).astype(np.float32)
    weight.CopyFrom(numpy_helper.from_array(values * by[:, None], weight.name))
    quiet = f"{layer.gelu.output[0]}/quiet"
    graph.initializer.append(numpy_helper.from_array(1 / by, f"{quiet}/by"))
    node = helper.make_node("Mul", [layer.up.input[0], f"{quiet}/by"], [quiet], name=f"{quiet}/node")
    layer.up.input[0] = quiet
    graph.node.insert(list(graph.node).index(layer.up), node)
