"""The programs of the first page do what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import shmheap

README = Path(__file__).resolve().parents[1] / "README.md"


def test_programs_of_the_readme_run(name: str, tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 5
    answers = []
    for block in blocks:
        program = tmp_path / "program.py"
        program.write_text(block.replace("/example", name))
        ran = subprocess.run([sys.executable, program], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        answers.append(ran.stdout)
    results = [("count", b"3"), ("sum of 0", b"0"), ("sum of 1", b"1000"), ("sum of 2", b"2000")]
    *answers, quotas = answers
    assert answers == ["", "", "2000000.0\n", f"{results}\n"]
    refused, told = quotas.splitlines()
    assert refused.startswith("tag 'cache' may have 1048576 bytes") and told == "True 1048576"
    with pytest.raises(shmheap.NotFound):
        shmheap.connect(name)
