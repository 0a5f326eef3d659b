"""Ray Jobs: a run handed to a cluster, followed, found again and stopped.

A job's id says what it is: the spec's name, a fingerprint of all that is asked for, and the attempt. Ray keeps jobs
for as long as the cluster's head lives; what they wrote is in the run folder.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runner.cluster import private_api
from runner.cluster.errors import rejected
from runner.system.errors import UserError, first_line

ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
CONNECT_SECONDS = 10.0
_RAYS = re.compile(
    r"Running entrypoint for job |[\d\-]+ [\d:,]+\s+INFO job_manager\.py|\[.*\] logging\.cc:.* Set ray log level"
)
END_SECONDS, POLL_SECONDS = 30.0, 0.2
RUN, NAME = "tutelage-run", "tutelage-name"
"""Metadata of our jobs: the URL of the run folder, and the spec's name."""

ACTIVE = ("PENDING", "RUNNING")


@dataclass(frozen=True)
class Job:
    """A job as the cluster knows it. ``status`` is Ray's: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""

    id: str
    status: str
    name: str
    run: str
    started: str
    message: str
    exit_code: int | None

    @property
    def active(self) -> bool:
        """Whether it has yet to end."""
        return self.status in ACTIVE

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


class Jobs:
    """The jobs of the cluster whose dashboard is at ``address``."""

    def __init__(self, address: str | None) -> None:
        """:raises UserError: when there is no cluster, it has another Ray, or the token is not its own."""
        given = address or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS
        self.address = given if "://" in given else f"http://{given}"
        _check_reachable(self.address)
        warnings.filterwarnings("ignore", module="ray")
        import ray
        from ray.job_submission import JobSubmissionClient

        for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with self._explained(), _environment(ADDRESS_VARIABLE, self.address):
            self._client = JobSubmissionClient(self.address)
            theirs = private_api.server_version(self._client)
        if theirs.split(".")[:2] != ray.__version__.split(".")[:2]:
            raise UserError(
                "cluster.ray-versions-differ",
                f"the cluster at {self.address} runs Ray {theirs}, here is Ray {ray.__version__}: "
                "install the same on both sides (the job runs with the cluster's)",
            )

    def submit(self, package: Path, entrypoint: str, name: str, fingerprint: str, run: str) -> tuple[Job, bool]:
        """Start what lies in ``package``, or find it at work already; also returns whether it was started.

        :raises UserError: when the cluster does not take it.
        """
        prefix = f"{name[:60]}-{fingerprint}-"
        earlier = [job for job in self.list() if job.id.startswith(prefix)]
        if active := next((job for job in earlier if job.active), None):
            return active, False
        attempt = 1 + max((int(job.id.removeprefix(prefix)) for job in earlier), default=0)
        id_ = f"{prefix}{attempt}"
        metadata = {NAME: name, RUN: run}
        try:
            with self._explained():
                self._client.submit_job(
                    entrypoint=entrypoint,
                    submission_id=id_,
                    runtime_env={"working_dir": str(package)},
                    metadata=metadata,
                )
        except UserError:
            # Somebody else submitted the same job in this moment.
            if (other := next((job for job in self.list() if job.id == id_), None)) is None:
                raise
            return other, False
        return self.get(id_), True

    def list(self) -> list[Job]:
        """Our jobs, the newest first."""
        with self._explained():
            jobs = self._client.list_jobs()
        ours = [details for details in jobs if details.submission_id and RUN in (details.metadata or {})]
        return [_job(details) for details in sorted(ours, key=lambda details: -(details.start_time or 0))]

    def get(self, id_: str) -> Job:
        """The job of that id. :raises UserError: when there is none."""
        with self._explained():
            return _job(self._client.get_job_info(id_))

    def find(self, what: str) -> Job:
        """The newest job of a run folder or a spec's name, or the job of an id.

        :raises UserError: when there is none, with those that there are.
        """
        jobs = self.list()
        wanted = what.rstrip("/")
        for job in jobs:
            if wanted in (job.id, job.name, job.run):
                return job
        known = ", ".join(job.id for job in jobs[:5]) or "none"
        raise UserError(
            "job.not-found",
            f"{what!r}: the cluster at {self.address} knows no such job or run; its newest jobs: {known}",
        )

    def logs(self, job: Job) -> str:
        """All that the job has said so far."""
        with self._explained():
            return "".join(_own(self._client.get_job_logs(job.id)))

    def follow(self, job: Job) -> Iterator[str]:
        """What the job says, as it says it, from its beginning to its end.

        :raises UserError: when the cluster is lost; the job may go on.
        """
        loop = asyncio.new_event_loop()
        tail = self._client.tail_job_logs(job.id)
        try:
            while True:
                with self._explained():
                    try:
                        chunk = loop.run_until_complete(anext(tail))
                    except StopAsyncIteration:
                        return
                yield from _own(chunk)
        finally:
            # Ctrl-C leaves the task that waits for the next words.
            for task in asyncio.all_tasks(loop):
                task.cancel()
                loop.run_until_complete(asyncio.wait([task]))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def stop(self, job: Job) -> bool:
        """Ask the job to end; whether it was running."""
        with self._explained():
            return bool(self._client.stop_job(job.id))

    def ended(self, job: Job) -> Job:
        """The job at its end. Its last words come a little before Ray knows that it has ended.

        :raises UserError: when it goes on all the same.
        """
        end = time.monotonic() + END_SECONDS
        while (now := self.get(job.id)).active:
            if time.monotonic() > end:
                raise UserError("job.still-running", f"job {job.id} goes on; look with `tutelage status {job.id}`")
            time.sleep(POLL_SECONDS)
        return now

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What Ray's client raises, in words."""
        import aiohttp
        import requests
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise rejected(self.address, error) from None
        except (OSError, RuntimeError, ValueError, KeyError, requests.RequestException, aiohttp.ClientError) as error:
            raise UserError(
                "cluster.not-ray", f"the cluster at {self.address} does not answer as a Ray cluster: {_told(error)}"
            ) from error


def _told(error: BaseException) -> str:
    """The line of the cluster's answer that says what is wrong: its own tracebacks end with it."""
    lines = [line for line in str(error).strip().splitlines() if line.strip(" .")]
    return lines[-1][:300] if lines else type(error).__name__


def _check_reachable(address: str) -> None:
    """:raises UserError: within seconds, where nothing answers over HTTP; Ray's client knows no time limit."""
    parts = urlsplit(address)
    advice = "give the address of its dashboard (http://HEAD:8265), which `ray start --head` prints"
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if parts.scheme not in ("http", "https") or not host:
        raise UserError("cluster.address-invalid", f"{address!r} is not the address of a cluster: {advice}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(host, port, timeout=CONNECT_SECONDS)
    try:
        connection.connect() if parts.scheme == "https" else connection.request("GET", "/api/version")
        if parts.scheme == "http":
            connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        # What is no HTTP is quoted in the error, and may be anything.
        why = first_line(error) if isinstance(error, OSError) else "what listens there speaks no HTTP"
        raise UserError(
            "cluster.not-reachable", f"no Ray cluster could be reached at {address}: {why}; {advice}"
        ) from error
    finally:
        connection.close()


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """A variable for a moment: RAY_ADDRESS, which means something else, would come before the address given."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _job(details: Any) -> Job:
    metadata = details.metadata or {}
    started = datetime.fromtimestamp((details.start_time or 0) / 1000, UTC)
    return Job(
        id=details.submission_id,
        status=getattr(details.status, "value", str(details.status)),
        name=metadata.get(NAME, ""),
        run=metadata.get(RUN, ""),
        started=started.isoformat(timespec="seconds"),
        message=_told(RuntimeError(details.message or "")) if details.message else "",
        exit_code=details.driver_exit_code,
    )


def _own(said: str) -> Iterator[str]:
    """Without the lines that Ray puts before a job's own."""
    return (line for line in said.splitlines(keepends=True) if not _RAYS.match(line))
