"""What the tests share."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from machine import Machine, Network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """End what a test has started, in reverse order."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start(stack: ExitStack) -> Callable[..., Machine]:
    """Start a program, which ends with the test."""

    def start(network: Network | None = None, at: int = 0, **environment: str) -> Machine:
        machine = network.machine(at, environment) if network else Machine(environment=environment)
        stack.callback(machine.end)
        return machine

    return start


@pytest.fixture
def network(stack: ExitStack) -> Callable[[int], Network]:
    """Make network namespaces, which are removed with the test."""
    if os.environ.get("AETHER_NO_NAMESPACES") == "1":
        pytest.skip("AETHER_NO_NAMESPACES")
    return lambda machines: stack.enter_context(Network(machines))


@pytest.fixture
def medium() -> str:
    """Name a medium that no other test has: `local:` fields of one process are shared."""
    return "local:"
