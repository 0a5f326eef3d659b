"""Ctrl-C, SIGTERM and SIGHUP: one way out for all of them, whatever a library would rather do.

The first raises in the main thread, as Ctrl-C does in any Python program, and those that follow are ignored, for the
run is on its way out. A library may swallow what is raised in a bad moment (an import, a finalizer): it is raised
again. Other threads stop the run in the same way, with :func:`interrupt`.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WAKE = signal.SIGUSR2
"""How another thread reaches the main one."""
SIGNALLED = 128
"""The exit status of a process that a signal has stopped is this and the signal's number."""
AGAIN_SECONDS = 1.5
"""After so long what was raised has been swallowed: it is raised again."""


class Terminated(KeyboardInterrupt):
    """SIGTERM (`kill`, `docker stop`, Kubernetes) or SIGHUP (the terminal is gone)."""


class _Stop:
    """What is known of the stop of this process."""

    def __init__(self) -> None:
        self.number = 0
        self.cause: BaseException | None = None
        self.raised = 0.0
        self.leaving = False
        self.listening = False


_stop = _Stop()


@contextmanager
def listening() -> Iterator[None]:
    """Within, the signals stop this process. One that is ignored (``nohup``, a shell's background job) stays so."""
    global _stop
    if threading.current_thread() is not threading.main_thread() or _stop.listening:
        yield
        return
    _stop = _Stop()
    before = {number: signal.getsignal(number) for number in (*STOPPING, WAKE)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _heard)
    _stop.listening = True
    hook = sys.unraisablehook
    sys.unraisablehook = partial(_swallowed, hook)
    try:
        yield
    finally:
        _stop.listening = False
        sys.unraisablehook = hook
        _set(before)


def _swallowed(hook: Callable[[Any], object], what: Any) -> None:
    """Where nothing can be raised (``__del__``, code around a fork), Python prints what was, and goes on. Of a stop
    nobody needs to read it: it is raised again."""
    ours = issubclass(what.exc_type, KeyboardInterrupt) if _stop.number else what.exc_value is _stop.cause
    if not (stopping() and ours):
        hook(what)


@contextmanager
def kept() -> Iterator[None]:
    """What is called within puts handlers of its own in the place of ours: put ours back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        yield
    except SystemExit:
        # So leaves a handler of theirs that was told of SIGTERM while it stood in the place of ours (Ray's does).
        if not _stop.listening or stopping():
            raise
        _stop.number, _stop.raised = signal.SIGTERM, time.monotonic()
        raise Terminated from None
    finally:
        # Even where Python knows of no change: C++ code puts its own below Python's.
        _set(before)


def _set(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def received() -> int:
    """The number of the signal that stops this process; 0: none does."""
    return _stop.number


def stopping() -> bool:
    """Whether this process is on its way out."""
    return bool(_stop.number) or _stop.cause is not None


def cause() -> BaseException | None:
    """Why another thread stops the run; None: none does."""
    return _stop.cause


def left(raised: BaseException) -> BaseException:
    """``raised`` has arrived where this process lets go of what it holds: nothing is raised again for the same reason.

    Returns why the run really stops: ``raised`` may be what came of a signal on its way here.
    """
    if _stop.cause is not None:
        _stop.leaving = True
        return _stop.cause
    if not _stop.number:
        return raised
    _stop.leaving = True
    # Where Ray waits in C++ it raises a KeyboardInterrupt of its own, whichever signal it was.
    told = _signal(_stop.number)
    return raised if type(raised) is type(told) else told


def dealt_with() -> int:
    """The signal that was raised stops nothing, somebody has dealt with it; its number. The next one counts anew."""
    number, _stop.number, _stop.raised = _stop.number, 0, 0.0
    return number


def interrupt(error: BaseException) -> None:
    """Stop the run, from any thread, with ``error``; the first one counts."""
    stop = _stop
    if stop.number or stop.cause is not None or not stop.listening:
        return
    stop.cause = error
    _wake(WAKE)


def _wake(number: int) -> None:
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, number)  # also where it waits in C


def _heard(number: int, frame: FrameType | None) -> None:
    stop, now = _stop, time.monotonic()
    # A terminal tells the whole group of processes, and whoever watches over us tells us again.
    if stop.leaving or now - stop.raised < AGAIN_SECONDS / 2:
        return
    if stop.cause is None:
        stop.number = stop.number or number
    stop.raised = now
    # No lock may be taken here: the thread that this interrupts may hold it.
    _thread.start_new_thread(_insist, (stop, number))
    if stop.cause is not None:
        raise stop.cause
    raise _signal(stop.number)


def _signal(number: int) -> KeyboardInterrupt:
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated()


def _insist(stop: _Stop, number: int) -> None:
    time.sleep(AGAIN_SECONDS)
    if stop.listening and not stop.leaving and (stop.number or stop.cause is not None):
        os.kill(os.getpid(), number)
