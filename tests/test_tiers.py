"""The fast tier leaves out what is marked, says so, and fails a test that starts something without the mark."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow("subprocess")

CONFTEST = """
import tiers

def pytest_configure(config):
    config.addinivalue_line("markers", "slow(reason): left out")
    config.pluginmanager.register(tiers.FastTier(config))
"""
TESTS = """
import multiprocessing, subprocess
import pytest

def test_that_starts_nothing():
    pass

def test_that_starts_something_and_hides_it():
    try:
        subprocess.run(["true"])
    except RuntimeError:
        pass

def test_that_spawns():
    multiprocessing.get_context("spawn").Process(target=print).start()

@pytest.fixture
def started():
    subprocess.run(["true"])

def test_whose_fixture_starts_something(started):
    pass

@pytest.mark.slow("subprocess")
def test_that_says_so():
    subprocess.run(["true"])
"""


@pytest.fixture
def fast(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    pytester.makeconftest(CONFTEST)
    return pytester


def test_a_start_without_the_mark_fails(fast: pytest.Pytester) -> None:
    fast.makepyfile(TESTS)
    outcome = fast.runpytest_subprocess("-p", "no:cacheprovider")
    outcome.assert_outcomes(passed=1, failed=2, errors=1, deselected=1)
    outcome.stdout.fnmatch_lines(
        [
            "*in the fast tier this test starts true: mark it with @pytest.mark.slow(REASON)*",
            "fast tier: left out 1 tests: 1 starts a process (subprocess); `make test` runs them",
        ]
    )


def test_all_workers_together_count_each_test_once(fast: pytest.Pytester) -> None:
    fast.makepyfile(TESTS)
    outcome = fast.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2")
    outcome.stdout.fnmatch_lines(["fast tier: left out 1 tests: 1 starts a process (subprocess)*"])


def test_a_mark_without_a_known_reason_is_refused(fast: pytest.Pytester) -> None:
    fast.makepyfile("import pytest\n@pytest.mark.slow\ndef test_it(): pass")
    outcome = fast.runpytest_subprocess("-p", "no:cacheprovider")
    outcome.stderr.fnmatch_lines(["*mark.slow expects one reason of ray, vllm, subprocess, long"])
