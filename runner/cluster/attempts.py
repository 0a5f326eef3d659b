"""Further attempts of a job that new nodes would not help.

KubeRay makes a new cluster for each attempt, whatever the last one ended with, and nothing in a pod tells a retry from
a job that somebody has mended and created anew. So an attempt that failed for a reason which lies in what was asked
(an engine that does not start, a model that is none, too many rows that fail) is noted in the run folder, and those
that KubeRay makes next are counted: they end before a node is asked for, and when all of a job's attempts are used the
note is gone, as it is once the same was run by somebody who does not try again. A job that is created anew while
another's attempts run is therefore run after all, by its last attempt.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from runner import __version__
from runner.rundir.folder import Folder, fingerprint
from runner.spec import Spec
from runner.system.errors import EngineError, FetchError, LostError, ModelError, TutelageError, UserError, first_line

ATTEMPTS = "TUTELAGE_ATTEMPTS"
"""How often the job is tried in all, retries included, by whoever starts it; unset: it is not tried again."""
NOTE = "attempts.json"
_NUMBER = re.compile(r"[0-9]{1,4}")
FRESH_SECONDS = 3600.0
"""How long a note holds: the next attempt comes within minutes, so an older note is of another job."""


@contextmanager
def counted(run: Folder, spec: Spec, environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Around the work of one attempt. The caller holds the run folder's lock.

    :raises UserError: at once, where the attempt before failed for good; or when ``ATTEMPTS`` is not a number.
    """
    attempts = _given(environment)
    asked = fingerprint([__version__, spec.to_dict()])
    if attempts > 1 and (earlier := _note(run, asked, attempts)):
        run.write_json(NOTE, earlier | {"used": earlier["used"] + 1})
        raise UserError(
            "job.failed-before",
            f"attempt {earlier['used'] + 1} of {attempts} is not made, for it would end as the first did: "
            f"{earlier['error'].rstrip('.')}. Mend that and create the job again; to have it tried as it is, remove "
            f"{run.path(NOTE)}, which counts the attempts",
        )
    if run.exists(NOTE):
        run.remove(NOTE)
    try:
        yield
    except (FetchError, LostError):  # other machines, or a later time, may do
        raise
    except _in_vain(spec) as error:
        if attempts > 1:
            with suppress(TutelageError, OSError):  # on a full disk the reason matters more than the count
                run.write_json(NOTE, {"asked": asked, "used": 1, "at": time.time(), "error": first_line(error)})
        raise


def _in_vain(spec: Spec) -> tuple[type[UserError], ...]:
    """The errors that another cluster would end with, too. A server that does not answer now may do so in a minute."""
    served = any(each.teacher.endpoint is not None for each in spec.teachers())
    return (ModelError,) if served else (ModelError, EngineError)


def _given(environment: Mapping[str, str]) -> int:
    text = environment.get(ATTEMPTS, "")
    if text and not _NUMBER.fullmatch(text):
        raise UserError(
            "job.attempts-invalid", f"{ATTEMPTS}: expected a whole number of at most four digits, not {text[:80]!r}"
        )
    return int(text or 0)


def _note(run: Folder, asked: str, attempts: int) -> dict[str, Any] | None:
    """What the first of these attempts noted; None where there is no such note, or all attempts are used."""
    try:
        note = run.read_json(NOTE)
        ours = note["asked"] == asked and note["used"] < attempts and 0 <= time.time() - note["at"] < FRESH_SECONDS
        return note if ours and isinstance(note["error"], str) else None
    except (OSError, ValueError, LookupError, TypeError):  # not there, or nobody's
        return None
