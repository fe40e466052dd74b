"""Python programs of a test, on this machine or in network namespaces that it makes and removes."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

HERE = Path(__file__).parent
# How long a step may take that takes a moment: generous, because the machine may be busy.
SECONDS = 120.0
SECRET = "correct horse battery staple"
# Rules of a machine whose network has no multicast.
NO_MULTICAST = """
table inet quiet {
  chain outgoing {
    type filter hook output priority 0
    ip daddr 224.0.0.0/4 drop
  }
  chain incoming {
    type filter hook input priority 0
    ip daddr 224.0.0.0/4 drop
  }
}
"""


class RemoteError(Exception):
    """The code failed in the program."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer["error"], answer["trace"])
        self.text: str = answer["error"]
        self.kinds: list[str] = answer["kinds"]


class Machine:
    """A Python program that does as it is told."""

    def __init__(self, namespace: str | None = None, environment: Mapping[str, str] | None = None) -> None:
        inside = ["ip", "netns", "exec", namespace] if namespace else []
        self.program = subprocess.Popen(
            [*inside, sys.executable, "-X", "dev", "-u", str(HERE / "agent.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def start(self, code: str, *, is_expression: bool = False) -> None:
        """Send code, and do not wait for its answer."""
        assert self.program.stdin is not None
        self.program.stdin.write(json.dumps({"code": code, "is_expression": is_expression}) + "\n")
        self.program.stdin.flush()

    def answer(self) -> Any:
        """Wait for an answer."""
        assert self.program.stdout is not None
        line = self.program.stdout.readline()
        if not line:
            message = f"the program ended with {self.program.wait()}"
            raise AssertionError(message)
        answer = json.loads(line)
        if "error" in answer:
            raise RemoteError(answer)
        return answer["value"]

    def do(self, code: str) -> None:
        """Run statements."""
        self.start(code)
        self.answer()

    def value(self, code: str) -> Any:
        """Evaluate an expression."""
        self.start(code, is_expression=True)
        return self.answer()

    def open(self, options: str = "", name: str = "home") -> None:
        """Open the field as `db`."""
        if "secret=" not in options and "medium=" not in options:
            options = f"secret={SECRET!r}, {options}"
        self.do(f"db = aether.open({name!r}, {options})")

    def until(self, condition: str, seconds: float = SECONDS) -> None:
        """Wait until an expression is true."""
        assert self.value(f"until(db, {condition!r}, {seconds})")

    def trip(self) -> float:
        """How long the way to the program and back takes, in seconds: more where a machine is busy."""
        began = time.monotonic()
        self.value("0")
        return time.monotonic() - began

    def kill(self) -> None:
        """Kill it, so that it can do nothing more."""
        self.program.kill()
        self.program.wait()

    def freeze(self) -> None:
        """Stop it, as a machine that hangs."""
        self.program.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.program.send_signal(signal.SIGCONT)

    def end(self) -> int:
        """End its input, so that it ends, and return its exit code."""
        assert self.program.stdin is not None
        assert self.program.stdout is not None
        self.program.send_signal(signal.SIGCONT)
        self.program.stdin.close()
        try:
            code = self.program.wait(SECONDS)
        finally:
            self.program.kill()
            self.program.wait()
            self.program.stdout.close()
        return code


class Network:
    """Namespaces on one bridge: machines of one room."""

    def __init__(self, machines: int, name: str = "") -> None:
        # Two test runs on one machine must not meet, nor one and what is left of another that was killed.
        self.name = f"apy{os.getpid()}-{secrets.token_hex(4)}{name}"
        self.machines = machines

    def __enter__(self) -> Network:
        try:
            ip(f"netns add {self.name}-hub")
            ip(f"-n {self.name}-hub link add room type bridge")
            ip(f"-n {self.name}-hub link set room up")
            for at in range(self.machines):
                space, end = self.space(at), f"end{at}"
                ip(f"netns add {space}")
                ip(f"-n {space} link set lo up")
                ip(f"-n {space} link add eth0 type veth peer name {end} netns {self.name}-hub")
                ip(f"-n {space} address add {self.address(at)}/24 dev eth0")
                ip(f"-n {space} link set eth0 up")
                ip(f"-n {self.name}-hub link set {end} master room up")
                ip(f"-n {space} route add 224.0.0.0/4 dev eth0")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for space in [self.space(at) for at in range(self.machines)] + [f"{self.name}-hub"]:
            subprocess.run(["ip", "netns", "del", space], check=False, stderr=subprocess.DEVNULL)

    def space(self, at: int) -> str:
        """The name of a namespace."""
        return f"{self.name}-{at}"

    def address(self, at: int) -> str:
        """The address of a machine."""
        return f"10.77.0.{at + 1}"

    def machine(self, at: int, environment: Mapping[str, str] | None = None) -> Machine:
        """Start a program on a machine."""
        return Machine(self.space(at), environment)

    def unplug(self, at: int) -> None:
        """Pull out the cable of a machine."""
        ip(f"-n {self.name}-hub link set end{at} down")

    def plug(self, at: int) -> None:
        """Plug it in again."""
        ip(f"-n {self.name}-hub link set end{at} up")

    def divide(self) -> None:
        """Give each machine a network of its own, which ends at the hub."""
        ip(f"netns exec {self.name}-hub sysctl -q -w net.ipv4.ip_forward=1")
        for at in range(self.machines):
            space = self.space(at)
            ip(f"-n {self.name}-hub link set end{at} nomaster")
            ip(f"-n {self.name}-hub address add 10.78.{at}.254/24 dev end{at}")
            ip(f"-n {space} address flush dev eth0")
            ip(f"-n {space} address add 10.78.{at}.1/24 dev eth0")
            ip(f"-n {space} route add default via 10.78.{at}.254")
            ip(f"-n {space} route replace 224.0.0.0/4 dev eth0")

    def rules(self, at: int, text: str) -> None:
        """Set rules of nftables on a machine, such as to lose packets."""
        command = ["ip", "netns", "exec", self.space(at), "nft", "-f", "-"]
        subprocess.run(command, input=text, text=True, check=True)

    def run(self, at: int, *command: str) -> subprocess.Popen[str]:
        """Start another program on a machine."""
        inside = ["ip", "netns", "exec", self.space(at), *command]
        return subprocess.Popen(inside, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def sent_bytes(self, at: int) -> int:
        """The bytes that a machine has sent."""
        command = ["ip", "-j", "-s", "-n", self.space(at), "link", "show", "eth0"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return int(json.loads(output)[0]["stats64"]["tx"]["bytes"])


def ip(arguments: str) -> None:
    """Run the command `ip`."""
    subprocess.run(["ip", *arguments.split()], check=True)


if TYPE_CHECKING:
    # The fixtures that start a program and that make namespaces.
    Start: TypeAlias = Callable[..., Machine]
    Room: TypeAlias = Callable[[int], Network]
