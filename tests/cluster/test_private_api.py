"""Ray's private names (``private_api_cases.py``), looked at in a process of their own.

A process that has used a token of Ray's once cannot start another Ray after one without: no other test shares it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("private_api_cases.py")


@pytest.mark.slow("ray")
def test_private_names_are_where_they_are_looked_for_and_do_what_they_are_taken_for() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=CASES.parents[2])
    assert done.returncode == 0, done.stdout[-5000:]
