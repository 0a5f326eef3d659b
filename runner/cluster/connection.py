"""The connection to Ray: embedded in this process by default, an existing cluster with an address."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from runner.cluster import health, private_api, quiet
from runner.cluster.errors import unreachable
from runner.system import machine, signals, surroundings
from runner.system.errors import UserError

CONNECT_SECONDS = 5.0
METRICS_PORT = "TUTELAGE_METRICS_PORT"
RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Where a submitted job finds what belongs to it."""
RAY_ENVIRONMENT = {
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints even where it is told not to
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "PYTHONSAFEPATH": "1",  # what workers start does not import from where they stand
    "RAY_worker_niceness": "0",  # by default Ray runs workers at nice 15: whatever else runs beside a job would stop it
}
"""Set before Ray is imported, where the user has not set it."""


class Connection:
    """A connection to Ray that is made when it is first needed.

    ``address`` None: Ray is started in this process. ``source`` is the option or variable that the address comes from.
    """

    def __init__(self, address: str | None, source: str) -> None:
        self.address, self.source = address, source
        self.started = False
        self._health: health.Watch | None = None

    def start(self) -> bool:
        """Connect, or start Ray in this process; whether this call did.

        :raises UserError: when there is no cluster at the address, or Ray does not start.
        """
        if self.started:
            return False
        for name, value in RAY_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        with _loopback_only() if self.address is None else nullcontext():
            self._connect()
        self.started = True
        return True

    def check_reachable(self) -> None:
        """:raises UserError: within seconds, where there is an address and nobody listens there."""
        try:
            _check_reachable(self.address)
        except OSError as error:
            raise unreachable(self.address, error, self.source) from error

    def _connect(self) -> None:
        self.check_reachable()
        import ray
        import ray.data
        import ray.train

        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if self.address is None:
            # Without "local" Ray would join a cluster that happens to run on this machine.
            options |= {"address": "local", "num_cpus": machine.usable_cores(), "include_dashboard": False}
            options |= private_api.metrics_port_option(_metrics_port())
        else:
            options["address"] = self.address
        if RAY_JOB not in os.environ:
            options["job_config"] = private_api.client_job_config(surroundings.own_folder())
        try:
            # Ray has handlers of its own for signals, and would have workers import from where the user stands.
            with signals.kept(), quiet.without_rays_lines(), _private_token():
                ray.init(**options)
        except Exception as error:  # Ray raises many kinds, and for some of its own troubles nothing more exact
            raise unreachable(self.address, error, self.source) from error
        private_api.hide_worker_logs()  # a worker that dies is counted by Cluster.restarts()
        # Once they are imported: each sets up a logger of its own.
        for name in ("ray", "ray.data", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if self.address is None:
            self._health = health.Watch(private_api.local_node())

    def stop(self) -> None:
        """Disconnect, and stop the Ray that this process has started."""
        if not self.started:
            return
        import ray

        if self._health:
            self._health.close()
        if self._health and self._health.dead:
            private_api.kill_node(private_api.local_node())
        else:
            ray.shutdown()
        self.started = False


def _metrics_port() -> int | None:
    """Where Ray in this process shows its metrics; None: on any port that is free.

    :raises UserError: when the variable is no port.
    """
    given = os.environ.get(METRICS_PORT, "")
    if not given:
        return None
    if not (given.isascii() and given.isdigit()) or not 0 < int(given) < 65536:
        raise UserError(
            "cluster.metrics-port-invalid", f"{METRICS_PORT}: expected a port from 1 to 65535, not {given[:80]!r}"
        )
    return int(given)


def _check_reachable(address: str | None) -> None:
    """:raises OSError: within seconds when nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Ray that is imported and started within listens on the loopback address alone, as on Windows and macOS always.

    It reads that from the environment, where it must not stay: what is started later may be a cluster.
    """
    name = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    if name in os.environ:
        yield
        return
    os.environ[name] = "0"
    try:
        yield
    finally:
        del os.environ[name]


@contextmanager
def _private_token() -> Iterator[None]:
    """Whoever has Ray's token runs code as this user, and Ray writes it for all to read: keep it to the user."""
    token = Path(os.path.expanduser("~")) / ".ray" / "auth_token"
    with suppress(OSError):
        token.parent.mkdir(mode=0o700, exist_ok=True)
    yield
    with suppress(OSError):  # there may be none, or somebody else's
        token.chmod(0o600)
