"""Processes for tests: started, spoken to, killed, and gone after it."""

from __future__ import annotations

import multiprocessing
import signal
from typing import Any

#: Longer than a process ever needs; only a failing test waits for it.
DEADLINE_S = 60


class Worker:
    """A process that runs `target(pipe, *arguments)`, killed at the end of a `with` if need be."""

    def __init__(self, target: Any, *arguments: Any, method: str = "fork") -> None:
        context: Any = multiprocessing.get_context(method)
        self.pipe, there = context.Pipe()
        self.process = context.Process(target=target, args=(there, *arguments))
        self.process.start()
        there.close()

    def answer(self) -> Any:
        """What it sends next."""
        assert self.pipe.poll(DEADLINE_S), "no answer"
        return self.pipe.recv()

    def kill(self) -> None:
        self.process.kill()
        self.process.join(DEADLINE_S)
        assert self.process.exitcode == -signal.SIGKILL

    def end(self) -> None:
        self.process.join(DEADLINE_S)
        assert self.process.exitcode == 0

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()
