"""The Python programs in the book run, each in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHAPTERS = Path(__file__).parents[3] / "docs" / "book" / "src"
DEADLINE_S = 60


def programs() -> list[tuple[str, str]]:
    """Each with the chapter that it stands in."""
    found = []
    for chapter in sorted(CHAPTERS.rglob("*.md")):
        if chapter.is_symlink():  # a paper that is no part of the book
            continue
        texts = re.findall(r"^```python\n(.*?)^```", chapter.read_text(), re.DOTALL | re.MULTILINE)
        found += [(str(chapter.relative_to(CHAPTERS)), text) for text in texts]
    return found


def test_there_are_programs() -> None:
    assert len(programs()) > 5


@pytest.mark.parametrize(("chapter", "text"), programs())
def test_programs_run(chapter: str, text: str, name: str, tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    program = tmp_path / "program.py"
    program.write_text(text.replace('"/example"', f'"{name}"'))
    environment = {**os.environ, "SHMHEAP_SHARED_MEMORY": f"{name}-shared"}
    command = [sys.executable, str(program)]
    subprocess.run(command, check=True, timeout=DEADLINE_S, env=environment)
