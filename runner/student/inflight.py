"""Batches on an accelerator: the next one is computed while the last one's answer is fetched.

A GPU works through what it is given in order, while the host goes on. So the host copies from pinned memory without
waiting, asks for a copy of the answer, and waits for it only after the next batch is on its way. Memory that runs out
costs a batch that is done again in halves. What is GPU's own is in :class:`PinnedTransfers`; all else runs on a
processor as well, where tests drive it with a stand-in.

transformers asks of each mask whether it hides anything (``_ignore_bidirectional_mask_sdpa`` of masking_utils), which
waits for the device once a forward: before the first layer is launched, so that it delays launches and no fetch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from runner.student.batches import Budget, device_tokens, padded
from runner.system.errors import ModelError, first_line

Ids = Sequence[Sequence[int]]
"""Token ids of some texts, unpadded."""

Landing = Callable[[], NDArray[np.float32]]
"""Waits for a batch's answer: ``(rows, width)``, float32."""

Compute = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Token ids and attention mask, both ``(rows, longest)`` and on the device, to values ``(rows, width)`` there."""

T = TypeVar("T")

_NO_MEMORY = "CUBLAS_STATUS_ALLOC_FAILED"
"""How cuBLAS says that there is no memory for its workspace: torch raises a plain RuntimeError of it."""


def budget_of(on: torch.device) -> Budget:
    """The token budget of a device (:func:`runner.student.batches.device_tokens`)."""
    if on.type != "cuda":
        return Budget(device_tokens(on.type))
    facts = torch.cuda.get_device_properties(on)
    return Budget(device_tokens(on.type, (facts.major, facts.minor), facts.total_memory))


class Transfers:
    """Copies between host and device that are done when they return: all that a processor needs."""

    def __init__(self, on: torch.device) -> None:
        self.on = on

    def to_device(self, *arrays: NDArray[Any]) -> list[torch.Tensor]:
        """The arrays as tensors on the device."""
        return [torch.from_numpy(array).to(self.on) for array in arrays]

    def to_host(self, values: torch.Tensor) -> Landing:
        """Begin to fetch values; the result waits for them, as float32."""
        found: NDArray[np.float32] = values.float().cpu().numpy()
        return lambda: found

    def make_room(self) -> None:
        """Give back what memory torch keeps for later, before a batch is tried again."""


class PinnedTransfers(Transfers):
    """Copies that the host does not wait for. Torch keeps pinned memory until the copies from it are done."""

    def to_device(self, *arrays: NDArray[Any]) -> list[torch.Tensor]:
        return [self._pinned(torch.from_numpy(array)).to(self.on, non_blocking=True) for array in arrays]

    def to_host(self, values: torch.Tensor) -> Landing:
        values = values.float()
        host = self._host(values.shape)
        host.copy_(values, non_blocking=True)
        copied = self._mark()

        def landed() -> NDArray[np.float32]:
            copied.synchronize()
            found: NDArray[np.float32] = host.numpy()
            return found

        return landed

    def make_room(self) -> None:
        torch.cuda.empty_cache()

    def _pinned(self, values: torch.Tensor) -> torch.Tensor:
        return values.pin_memory()

    def _host(self, shape: torch.Size) -> torch.Tensor:
        return torch.empty(shape, pin_memory=True)

    def _mark(self) -> Any:
        """An event that has happened when all is done that the device was given so far."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return event


def transfers_of(on: torch.device) -> Transfers:
    """How values travel to and from a device."""
    return PinnedTransfers(on) if on.type == "cuda" else Transfers(on)


def within_memory(budget: Budget, ids: Ids, run: Callable[[Ids], T], make_room: Callable[[], None]) -> list[T]:
    """What ``run`` makes of the rows, in as few pieces as the budget and the device's memory allow, in their order.

    Where memory runs out the budget is halved, for what comes later as well, and the piece done again.

    :raises ModelError: when there is no memory for a single row.
    """
    waiting, done = deque([ids]), []
    while waiting:
        piece, *rest = budget.divide(waiting.popleft())  # the budget may be less than when it was put there
        waiting.extendleft(reversed(rest))
        found, reason = _tried(run, piece)
        if reason is None:
            done += found
            continue
        longest = max(map(len, piece))
        if len(piece) == 1:
            raise ModelError(
                "student.out-of-memory",
                f"the GPU's memory does not hold the student and one text of {longest} tokens: {reason}; set "
                "student.max_length lower, or take a smaller student or a larger GPU",
            )
        budget.halve(len(piece) * longest)
        make_room()
        waiting.appendleft(piece)
    return done


def _tried(run: Callable[[Ids], T], piece: Ids) -> tuple[list[T], str | None]:
    """What ``run`` makes of a piece, or why there was no memory for it.

    The error ends here: its traceback holds on to all values of the forward that failed.
    """
    try:
        return [run(piece)], None
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return [], first_line(error)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's memory ran out."""
    return isinstance(error, torch.OutOfMemoryError) or _NO_MEMORY in str(error)


class InFlight:
    """A function of token ids on a device, called without waiting for what it answers.

    ``ran`` is told the rows and the padded length of each batch that the device computed.
    """

    def __init__(
        self,
        compute: Compute,
        transfers: Transfers,
        budget: Budget,
        pad_id: int,
        ran: Callable[[int, int], None] = lambda rows, longest: None,
    ) -> None:
        self.budget, self.transfers = budget, transfers
        self._compute, self._pad_id, self._ran = compute, pad_id, ran

    def launch(self, ids: Ids) -> Landing:
        """Have the device begin; the result waits for the answer, in the order of ``ids``."""
        parts = within_memory(self.budget, ids, self._begin, self.transfers.make_room)
        return lambda: np.concatenate([part() for part in parts])

    def _begin(self, ids: Ids) -> Landing:
        tokens, mask = padded(ids, self._pad_id)
        with torch.inference_mode():
            landing = self.transfers.to_host(self._compute(*self.transfers.to_device(tokens, mask)))
        self._ran(*tokens.shape)
        return landing

    def answers(
        self, batches: Iterable[tuple[list[int], list[list[int]]]]
    ) -> Iterator[tuple[list[int], list[list[int]], NDArray[np.float32]]]:
        """Batches of row numbers and token ids with their answers, each fetched while the next is computed."""
        before: tuple[list[int], list[list[int]], Landing] | None = None
        for rows, ids in batches:
            now = rows, ids, self.launch(ids)
            if before is not None:
                yield before[0], before[1], before[2]()
            before = now
        if before is not None:
            yield before[0], before[1], before[2]()


def peak_memory_mb(on: torch.device) -> float | None:
    """The most memory that this process took of its GPU, in MB; None on a processor (:func:`peak_mb`)."""
    if on.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(on)
    return peak_mb(free, total, torch.cuda.memory_reserved(on), torch.cuda.max_memory_reserved(on))


def peak_mb(free: int, total: int, reserved: int, most_reserved: int) -> float:
    """The most memory taken of a GPU in MB, of what the driver and torch's allocator report in bytes.

    Torch's tensors are the smaller part of it: its allocator reserves more than they need, and what the driver counts
    beyond that, which is there all the time, is the CUDA context and the kernels (a few hundred MB). On a GPU that
    other processes use as well theirs would be counted too; Ray gives a worker whole GPUs.
    """
    return (max(0, total - free - reserved) + most_reserved) / 1e6
