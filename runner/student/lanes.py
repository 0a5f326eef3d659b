"""Calls side by side on a processor, each with cores of its own.

Several batches get a core each, so that none waits for another: on two cores that is 1.2 to 1.4 times as fast as one
batch after the other on both, which meet after every layer. Fewer batches than there are cores share them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import chain, islice
from typing import Any, TypeVar

import torch

Key = TypeVar("Key")
Given = TypeVar("Given")
Result = TypeVar("Result")


class Lanes:
    """Threads for calls side by side.

    They are kept: glibc gives a new one any of the memory that others left, and in time each piece of it grows to the
    most that one took. New threads for each use cost a process that applied 80,000 texts 200 MB more.
    """

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    def map(
        self, most: int, function: Callable[[Given], Result], calls: Iterator[tuple[Key, Given]]
    ) -> Iterator[tuple[Key, Result]]:
        """The key of each call with what ``function`` returns, in the order of ``calls``; at most ``most`` at once."""
        waiting: deque[tuple[Key, Future[Result]]] = deque()
        threads = torch.get_num_threads()
        first = list(islice(calls, most))
        lanes = max(1, len(first))
        submit = self._submit(most, lanes)
        try:
            for key, given in chain(first, calls):
                waiting.append((key, submit(function, given)))
                if len(waiting) > 2 * lanes:
                    done, future = waiting.popleft()
                    yield done, future.result()
            for done, future in waiting:
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
            wait([future for _, future in waiting])
            torch.set_num_threads(threads)  # part of the setting is the whole process's

    def _submit(self, most: int, lanes: int) -> Callable[..., Future[Any]]:
        """A ``submit`` that works on ``lanes`` calls at once, which share ``most`` cores."""
        if lanes == 1:
            return _at_once
        if self._threads is None:
            self._threads = ThreadPoolExecutor(most)
        threads, cores = self._threads, max(1, most // lanes)
        return lambda function, *arguments: threads.submit(_with_cores, cores, function, *arguments)


def _with_cores(cores: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """``function`` called in a thread that has so many cores."""
    torch.set_num_threads(cores)
    return function(*arguments)


def _at_once(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """``function`` called here and now."""
    done: Future[Any] = Future()
    done.set_result(function(*arguments))
    return done
