"""The student outside of torch: exported to ONNX once, run by ONNX Runtime or OpenVINO on processors.

The one file that knows openvino, and beside int8.py the one that knows onnx and onnxruntime. All are optional
(``pip install 'tutelage[onnx]'`` or ``'tutelage[openvino]'``). OpenVINO reads the ONNX file itself: its converter, and
with it its telemetry, is not used.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from runner.student.runtimes.int8 import Batch, quantise
from runner.student.runtimes.optional import lacking
from runner.system.errors import ModelError, UserError, first_line

Form = Literal["onnx", "onnx-int8", "openvino"]
Logits = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
"""Token ids and attention mask, both ``(rows, longest)``, to logits ``(rows, outputs)``."""

FILES: dict[Form, str] = {"onnx": "onnx/model.onnx", "onnx-int8": "onnx/model-int8.onnx", "openvino": "onnx/model.onnx"}
"""What each runtime reads, below the folder of exports."""

_OPSET = 20
"""The first in which GELU is one operation: written out in five, it took an eighth of the time of an int8 student."""
MOST_APART = 1e-3
"""Of the logits of an export in fp32 and the original's."""


def export(model: Any, form: Form, folder: Path, seen: Sequence[Batch]) -> Path:
    """Write what ``form`` needs of a classifier (torch, fp32, on the processor) below ``folder``.

    ``seen`` is texts such as it will read; int8 alone looks at them.

    :raises UserError: when a package is not installed.
    :raises ModelError: when the model cannot be exported.
    """
    if lack := lacking(form):
        raise UserError("student.runtime-missing", lack)
    full = folder / FILES["onnx"]
    if not full.exists():
        full.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _quiet():
                _to_onnx(model, full)
        except Exception as error:  # the exporter raises dozens of kinds
            full.unlink(missing_ok=True)
            raise ModelError(
                "student.not-exportable", f"the student cannot be exported to ONNX: {first_line(error)}"
            ) from error
        _check(model, open_session("onnx" if form == "onnx-int8" else form, folder, "fp32", 1))
    target = folder / FILES[form]
    if form == "onnx-int8" and not target.exists():
        with _quiet():
            quantise(full, target, seen)
    return target


class _Logits(torch.nn.Module):
    """A classifier with a plain tensor for an output."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def _to_onnx(model: Any, target: Path) -> None:
    # The older exporter (dynamo=False) wrote a graph for all-MiniLM-L6-v2 whose logits were off by 0.03.
    sample = _sample(2, 7)
    axes = {0: "rows", 1: "length"}
    with torch.no_grad():  # else MPNet's position bias, which learns, leads to an attention that the exporter fails at
        torch.onnx.export(
            _Logits(model).eval(),
            sample,
            str(target),
            dynamo=True,
            opset_version=_OPSET,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes=(axes, axes),
            external_data=False,
            verbose=False,
        )


def _sample(rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask with padding: without any, transformers would leave the mask out of what is exported."""
    ids = torch.randint(5, 100, (rows, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones((rows, length), dtype=torch.int64)
    mask[1::2, length // 2 :] = 0
    return ids, mask


def _check(model: Any, session: Logits) -> None:
    """:raises ModelError: when an export answers otherwise than the model, on rows of another shape."""
    ids, mask = _sample(5, 12)
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask).logits.numpy()
    far = float(np.abs(session(ids.numpy(), mask.numpy()) - expected).max())
    if not far <= MOST_APART:  # NaN is not
        raise ModelError(
            "student.export-differs", f"the student's ONNX export is not the student: its logits are off by {far:.2g}"
        )


def open_session(form: Form, folder: Path, precision: str, lanes: int) -> Logits:
    """A runtime that has loaded its export, for as many threads as there are ``lanes``; each call takes one core.

    ``precision`` bf16 matters to OpenVINO alone.

    :raises UserError: when its package is not installed.
    :raises ModelError: when the export is damaged.
    """
    if lack := lacking(form):
        raise UserError("student.runtime-missing", lack)
    path = str(folder / FILES[form])
    try:
        return _openvino(path, precision, lanes) if form == "openvino" else _onnxruntime(path)
    except Exception as error:  # both runtimes raise kinds of their own
        raise ModelError(
            "student.export-broken", f"{path}: {form} cannot load this export, it may be damaged: {first_line(error)}"
        ) from error


def _onnxruntime(path: str) -> Logits:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # Its fused kernel of an addition and a LayerNorm takes several times as long as the two apart (1.32, one thread).
    apart = ["SkipLayerNormFusion"]
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"], disabled_optimizers=apart)

    def logits(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return found

    return logits


def _openvino(path: str, precision: str, lanes: int) -> Logits:
    import openvino

    core = openvino.Core()
    wanted = {
        "INFERENCE_NUM_THREADS": lanes,
        "NUM_STREAMS": lanes,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }
    compiled = core.compile_model(core.read_model(path), "CPU", wanted)
    requests = threading.local()

    def logits(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        if not hasattr(requests, "one"):
            requests.one = compiled.create_infer_request()
        # A copy, for the request's memory is used again with the next batch.
        return np.array(requests.one.infer({"input_ids": ids, "attention_mask": mask})[0], dtype=np.float32)

    # OpenVINO's bindings set up their link to NumPy at the first call, and two first calls at once wait for each
    # other for ever: one holds the interpreter's lock, the other the set-up's.
    logits(np.ones((1, 1), dtype=np.int64), np.ones((1, 1), dtype=np.int64))
    return logits


@contextlib.contextmanager
def _quiet() -> Any:
    """Exporters print, warn and log of what no user can change."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
