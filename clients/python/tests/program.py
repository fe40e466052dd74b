"""A program of a test, whose output is read line by line."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


# How long a line, or an end, may take.
SECONDS = 180.0


class Program:
    """A program that runs."""

    def __init__(self, *command: str, cwd: Path | None = None) -> None:
        self.program = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
        )

    def line(self, pattern: str) -> re.Match[str]:
        """Wait for a line."""
        assert self.program.stdout is not None
        seen = []
        # A program that never prints it is ended, so that the test fails.
        timer = threading.Timer(SECONDS, self.program.kill)
        timer.start()
        try:
            for line in self.program.stdout:
                seen.append(line)
                if found := re.search(pattern, line):
                    return found
        finally:
            timer.cancel()
        message = f"{self.program.args!r} ended without {pattern!r} in {SECONDS} s: {''.join(seen)}"
        raise AssertionError(message)

    def write(self, line: str) -> None:
        """Type a line."""
        assert self.program.stdin is not None
        self.program.stdin.write(line + "\n")
        self.program.stdin.flush()

    def interrupt(self) -> str:
        """Press Ctrl-C, and return what it printed last."""
        self.program.send_signal(signal.SIGINT)
        return self.program.communicate(timeout=SECONDS)[0]

    def end_of_input(self) -> int:
        """End its input, and return its exit code."""
        assert self.program.stdin is not None
        self.program.stdin.close()
        return self.program.wait(SECONDS)

    def end(self) -> None:
        """End it."""
        self.program.kill()
        self.program.wait()
        for stream in (self.program.stdin, self.program.stdout):
            if stream is not None:
                stream.close()


def free_port(stack: contextlib.ExitStack) -> int:
    """Find a port of 127.0.0.1 that stays free while a server is away: the system gives it to nobody.

    Until the end of the test the same port of 127.0.0.2 is held, so that other tests take another one.
    """
    while True:
        port = random.randrange(10_000, 30_000)
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.2", port)))
            socket.create_server(("127.0.0.1", port)).close()
            return port


def tool(variable: str) -> str:
    """Name a program of `cargo xtask test`."""
    if variable not in os.environ:
        pytest.skip(f"{variable} is not set: `cargo xtask python` sets it")
    return os.environ[variable]
