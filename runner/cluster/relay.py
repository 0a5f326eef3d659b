"""How workers tell the driver about their progress while they work: an actor between them, which the driver polls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

POLL_SECONDS = 0.5


class Board:
    """Where rank 0 of a training leaves its progress; a later one takes the place of an earlier."""

    def __init__(self) -> None:
        self._progress: dict[str, Any] = {}

    def show(self, progress: dict[str, Any]) -> None:
        self._progress = progress

    def progress(self) -> dict[str, Any]:
        return self._progress


class Notes:
    """Where workers leave notes, until the driver takes them."""

    def __init__(self) -> None:
        self._notes: list[dict[str, Any]] = []

    def add(self, note: dict[str, Any]) -> None:
        self._notes.append(note)

    def progress(self) -> dict[str, Any]:
        notes, self._notes = self._notes, []
        return {"notes": notes}


class Teller:
    """Leaves notes on :class:`Notes`; goes to a worker with its arguments."""

    def __init__(self, notes: Any) -> None:
        self._notes = notes

    def __call__(self, note: dict[str, Any]) -> None:
        with suppress(Exception):  # progress is a courtesy
            self._notes.add.remote(note)


def start_actor(ray: Any, kind: type) -> Any:
    """An actor of one of these classes, which takes no processor and is started again whenever it dies."""
    return ray.remote(num_cpus=0, max_restarts=-1)(kind).remote()


@contextmanager
def watched(ray: Any, actor: Any, on_progress: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """While within, ``on_progress`` gets the actor's ``progress()``, now and then and once more at the end.

    It is called in a thread of its own. Without an actor (None) nothing is watched.
    """
    if actor is None:
        yield
        return
    stop, over = threading.Event(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(ray, actor, stop, over, on_progress), daemon=True)
    watcher.start()
    try:
        yield
    except BaseException:
        over.set()  # and nobody waits for what a Ray that may be gone would say
        raise
    finally:
        stop.set()
        watcher.join(0.0 if over.is_set() else None)


def _watch(
    ray: Any,
    actor: Any,
    stop: threading.Event,
    over: threading.Event,
    on_progress: Callable[[dict[str, Any]], None],
) -> None:
    last = False
    while not last:
        last = stop.wait(POLL_SECONDS)  # and once more at the end
        try:
            progress = ray.get(actor.progress.remote(), timeout=5)
        except Exception:  # progress is a courtesy: its loss must not end the run
            time.sleep(POLL_SECONDS)
            continue
        if progress and not over.is_set():
            on_progress(progress)
