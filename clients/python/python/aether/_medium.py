"""How a medium is reached."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from aether import _native
from aether._errors import MediumError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

# The port of a local network where a machine listens, unless another process there has it.
LAN_PORT = 7447


class Medium(NamedTuple):
    """The address of a medium, and its secret."""

    address: str
    secret: str | PathLike[str] | None

    @staticmethod
    def of(medium: str, secret: str | PathLike[str] | None, peers: Iterable[str]) -> Medium:
        """Put an address together, and check that a local network has a secret."""
        if isinstance(peers, str):
            message = f"peers is a list of addresses: write peers=[{peers!r}]"
            raise RefusedError(message)
        address = _with_peers(medium, list(peers))
        if address.startswith("lan:") and secret is None and not _is_secret_elsewhere(address):
            message = (
                'a local network needs a secret that all machines share: secret="five random words" '
                '(or the variable AETHER_LAN_SECRET); medium="lan:?insecure" does without'
            )
            raise MediumError(message)
        return Medium(address, secret)

    def connecting(self, program: str | None = None) -> _native.Task[_native.Bus]:
        """Connect, as a program of this name."""
        own = os.path.basename(sys.argv[0] if sys.argv else "") or "python"  # noqa: PTH119
        return _native.connect(self.address, self.secret, program or own)


def _with_peers(medium: str, peers: list[str]) -> str:
    if not peers:
        return medium
    if medium.partition(":")[0].lower() != "lan":
        message = f"peers are of the local network: name the server in medium={medium!r}"
        raise RefusedError(message)
    parts = [f"peer={peer if _has_port(peer) else f'{peer}:{LAN_PORT}'}" for peer in peers]
    if medium == "lan:":
        # So that they find this machine in the same way.
        parts.append(f"listen=[::]:{LAN_PORT}")
    return f"{medium}{'&' if '?' in medium else '?'}{'&'.join(parts)}"


def _has_port(peer: str) -> bool:
    return peer.rpartition(":")[2].isdecimal() and (peer.count(":") == 1 or "]:" in peer)


def _is_secret_elsewhere(address: str) -> bool:
    variables = ("AETHER_LAN_SECRET_FILE", "AETHER_LAN_SECRET")
    return "insecure" in address or any(os.environ.get(variable) for variable in variables)
