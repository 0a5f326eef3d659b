"""What is left to say and to write when the process that ran a job ended without a word of its own."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import Any

from runner.cluster.health import died
from runner.system import signals
from runner.system.errors import KEPT, EngineError, TutelageError, UserError


def problem(facts: dict[str, Any], status: int) -> UserError:
    """What an end with ``status`` comes of; negative where it was a signal."""
    at = f" in the stage {facts['stage']}" if facts.get("stage") else ""
    if facts.get("error"):
        return EngineError("cluster.ray-died", str(facts["error"]))
    if status == -signal.SIGKILL:
        return UserError(
            "run.was-killed", f"the run was killed{at}, by the system for want of memory or by somebody; {KEPT}"
        )
    if status < 0 and -status != signal.SIGABRT:
        return UserError(
            "run.has-crashed", f"the run crashed{at} (signal {-status}); {KEPT}. If it crashes again, please report it"
        )
    return EngineError("cluster.ray-died", died(f"the raylet or the control store (GCS) of Ray that the run used{at}"))


def record(facts: dict[str, Any], status: int) -> None:
    """Close the run's events, and let go of its folder, as the process would have done."""
    from runner.observe.events import EventLog, event
    from runner.rundir.folder import Folder
    from runner.rundir.lock import let_go

    with contextlib.suppress(TutelageError):
        if facts.get("run"):
            code = None if -status in signals.STOPPING else problem(facts, status).code
            told = {"error": _kind(status), "code": code}
            log = EventLog(Folder(facts["run"]))
            if facts.get("stage"):
                stage = {"fingerprint": facts["fingerprint"], "seconds": _since(facts["stage_at"])}
                log.write(event("stage_failed", facts["stage"], stage | told))
            log.write(event("run_failed", None, {"seconds": _since(facts["run_at"]), **told}))
            log.close()
        if facts.get("lock"):
            let_go(Folder(facts["locked"]), facts["lock"])


def _kind(status: int) -> str:
    if -status == signal.SIGINT:
        return "KeyboardInterrupt"
    if -status in (signal.SIGTERM, signal.SIGHUP):
        return "Terminated"
    return "RayDied" if status >= 0 or -status == signal.SIGABRT else "Killed"


def _since(start: float) -> float:
    return round(time.monotonic() - start, 3)
