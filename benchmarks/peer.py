"""Another process that takes turns with a benchmark."""

from __future__ import annotations

import os
import signal
import subprocess


class Peer:
    """Another process, which works on one turn at a time.

    Args:
        command: its command line.
        prompted: whether each turn starts with a line on its standard input; otherwise the process
            runs continuously, and is only stopped between turns.
        marker: text in the lines that end a turn.
    """

    def __init__(self, command: list[str], prompted: bool, marker: str):
        pipe = subprocess.PIPE
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": ""}
        self._prompted, self._marker = prompted, marker
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=environment
        )
        self._wait("ready" if prompted else marker)

    def turn(self) -> None:
        """Runs one turn."""
        self._process.send_signal(signal.SIGCONT)
        if self._prompted:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        self._wait(self._marker)

    def end(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()

    def _wait(self, marker: str) -> None:
        for line in self._process.stdout:
            if marker in line:
                self._process.send_signal(signal.SIGSTOP)
                return
        raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
