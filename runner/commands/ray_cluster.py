"""The Ray cluster that a command was told to use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runner.system import signals, supervise

if TYPE_CHECKING:  # spares ray
    from runner.cluster.cluster import Cluster

RAY_ADDRESS = "RAY_ADDRESS"


def address_and_source(given: str | None) -> tuple[str | None, str]:
    """The cluster's address (None: Ray in this process) and where it stands. Ray itself would take the variable
    before ``auto``."""
    variable = os.environ.get(RAY_ADDRESS)
    if variable and given in (None, "", "auto"):
        return (None if variable == "local" else variable), RAY_ADDRESS
    return given or None, "--address"


@contextmanager
def ray_cluster(given: str | None, wait: int, run: str, kind: type[Cluster] | None = None) -> Iterator[Cluster]:
    """The cluster at the address that was ``given``, or Ray in this process, with metrics of ``run``; let go of at the
    end. ``kind``: None for the usual one."""
    from runner.cluster.cluster import Cluster  # spares ray
    from runner.cluster.node_demand import starts_on_demand  # spares ray

    address, source = address_and_source(given)
    cluster = (kind or Cluster)(address, wait, run, source, starts_on_demand())
    try:
        yield cluster
    finally:
        if signals.stopping():
            # The rest may be cut short.
            supervise.note(free=True, error=str(signals.cause() or ""), stop=signals.received())
        cluster.stop()
