"""The examples do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
DEADLINE_S = 120


def output_of(example: str) -> list[str]:
    pytest.importorskip("numpy")
    command = [sys.executable, str(EXAMPLES / example)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_the_data_loader_loses_the_batch_of_the_killed_worker_alone() -> None:
    used, left = output_of("data_loader.py")
    # One is lost; what a worker is slow with may be asked for again as well.
    assert re.fullmatch("60 batches used, [1-9] asked for again, 1 worker killed", used)
    assert re.fullmatch("[0-9] left in the channel; sound: True", left)


def test_the_cache_serves_on_when_a_server_is_killed() -> None:
    served, cached = output_of("kv_cache.py")
    requests, hits = served.split(" requests served, ")
    assert 3 * 200 + 101 == int(requests) and int(hits.split(" ")[0]) >= int(requests) - 4 * 30
    assert hits.endswith(", 1 server killed")
    assert cached == "30 arrays in the cache; sound: True"
