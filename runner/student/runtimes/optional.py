"""Which optional packages an export needs, and what to install where they are missing. Imports none of them."""

from __future__ import annotations

import importlib.util

_NEEDS = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "onnx-int8": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
}


def lacking(form: str) -> str:
    """What to install for an export, as a sentence; empty where everything is there."""
    absent = [name for name in _NEEDS.get(form, ()) if importlib.util.find_spec(name) is None]
    extra = "openvino" if form == "openvino" else "onnx"
    return f"{form} needs {', '.join(absent)}: pip install 'tutelage[{extra}]'" if absent else ""
