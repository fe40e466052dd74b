"""The names of the library `distributed-state-network` 0.6, on a field of the local network.

    from aether.dsn import DSNodeConfig, DSNodeServer

    server = DSNodeServer.start(DSNodeConfig(node_id="sensor", port=8000, aes_key=key))
    server.node.update_data("temperature", "21.5")

Each node owns its state and signs it with a key of its own, which is in `credential_dir`. The `aes_key` is
the secret of the network; without one it is that of the variable AETHER_LAN_SECRET, and never none. New
programs have more with `aether.open(..).own`.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from aether import _native
from aether._errors import ClosedError, Error, IdentityError, NotSentError, RefusedError
from aether._opening import open as open_field
from aether._values import Bytes
from aether._waiting import wait
from aether._watch import Change, PeerEvent, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aether._field import Field
    from aether._values import Value

T = TypeVar("T")

__all__ = ["DSNode", "DSNodeConfig", "DSNodeServer", "Endpoint"]

LOG = logging.getLogger("aether")

# The field of all nodes, and the beginning of the keys by which they say which public key they have.
FIELD = "dsn"
CLAIM = "claim/"
# How long a start waits for another node, and a message for its answer, in seconds.
PATIENCE = 6.0
# The longest name of a node, in bytes: it is the name of a file.
MAX_NAME = 200
# A message is 64 bytes of signature, 32 of the sender's key, 16 that are random, 8 of time, and the data.
HEAD = 64 + 32 + 16 + 8
# How old a message may be, in seconds, and how many of that time are known again.
MAX_AGE = 60.0
MAX_SEEN = 65_536


@dataclass(frozen=True)
class Endpoint:
    """The address of a node."""

    address: str
    port: int

    def to_string(self) -> str:
        """Return `address:port`."""
        return f"{self.address}:{self.port}"

    def to_json(self) -> dict[str, Any]:
        """Return it as a dict."""
        return {"address": self.address, "port": self.port}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Endpoint:
        """Make one of a dict. Raises `KeyError` for one that lacks something."""
        return Endpoint(data["address"], data["port"])


@dataclass(frozen=True)
class DSNodeConfig:
    """What a node is.

    - `node_id`: its name, which is the name of a folder in `credential_dir`, too.
    - `credential_dir`: a folder for its key, its state, and the public keys of the nodes that it has met.
    - `port`: the TCP port where it listens; 0 is a free one.
    - `network_ip`: the address that it tells others.
    - `aes_key`: the secret that all nodes share. Default: AETHER_LAN_SECRET_FILE or AETHER_LAN_SECRET.
    - `bootstrap_nodes`: addresses of other nodes. On one network they are found without.
    """

    node_id: str
    credential_dir: str = "credentials"
    port: int = 0
    network_ip: str = "127.0.0.1"
    aes_key: str | None = None
    bootstrap_nodes: Iterable[Endpoint | Mapping[str, Any]] = field(default_factory=list)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> DSNodeConfig:
        """Make one of a dict. Raises `KeyError` without `node_id`, `port` or `bootstrap_nodes`."""
        return DSNodeConfig(
            data["node_id"],
            data.get("credential_dir", "credentials"),
            data["port"],
            data.get("network_ip", "127.0.0.1"),
            data.get("aes_key"),
            [_endpoint(node) for node in data["bootstrap_nodes"]],
        )


class _Session(NamedTuple):
    """What is open while a node runs."""

    db: Field
    service: _native.Service
    sender: _native.Sender


class DSNode:
    """A node: its own state, and that of the others."""

    def __init__(
        self,
        config: DSNodeConfig,
        version: str = "",
        disconnect_callback: Callable[[], object] | None = None,
        update_callback: Callable[[], object] | None = None,
        receive_callback: Callable[[bytes], object] | None = None,
    ) -> None:
        """Join the network. `DSNodeServer` calls this; `version` is only kept."""
        _check_name(config.node_id)
        self.config = config
        self.version = version
        self.disconnect_cb = disconnect_callback
        self.update_cb = update_callback
        self.receive_cb = receive_callback
        self.shutting_down = False
        self._credentials = Path(config.credential_dir) / config.node_id
        self._credentials.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._identity = self._load_identity()
        self._nodes = [_endpoint(node) for node in config.bootstrap_nodes]
        # The public keys of the nodes that it has met. Replaced by the thread of the claims, and read by all.
        self._keys = self._load_keys()
        self._changed = threading.Condition()
        self._received: SimpleQueue[tuple[_native.Wave, _native.Call] | None] = SimpleQueue()
        # When which message came. Used by the thread that delivers alone.
        self._seen: dict[bytes, float] = {}
        self._session = self._open()
        self._run(self._deliver_all)

    def bootstrap(self, con: Endpoint) -> None:
        """Join the network of one more node, which is there. Raises `NotSentError` if none is found."""
        known = set(self.peers())
        self._close()
        self._nodes.append(con)
        self._session = self._open()
        if not self._meets(known):
            message = f"no other node with this secret is found at {con.to_string()}"
            raise NotSentError(message)

    def update_data(self, key: str, val: Value) -> None:
        """Write a value of this node. It never waits for others."""
        self._session.db.own[key] = val

    def read_data(self, node_id: str, key: str) -> Any:
        """Return a value of a node, or `None` if it has none. Raises `KeyError` for an unknown node.

        The state of a node that has left can be read on.
        """
        if node_id not in self._keys and node_id != self.config.node_id:
            raise KeyError(node_id)
        return self._session.db.node(node_id).get(key)

    def peers(self) -> list[str]:
        """Return the names of the nodes that are there and have proven their key, this one first."""
        peers = self._session.db.peers()
        # One is trusted a moment before it is known here, and only then it can be sent to.
        owners = {peer.owner for peer in peers if peer.owner is not None and peer.owner in self._keys}
        return [self.config.node_id, *sorted(owners - {self.config.node_id})]

    def send_to_node(self, node_id: str, data: bytes) -> str:
        """Send bytes to a node, and return `OK` once its callback has had them, once.

        Raises `NotSentError` for an unknown node, and `NotAnsweredError`.
        """
        key = self._keys.get(node_id)
        if key is None:
            message = f"no node {node_id!r} is known here, but {', '.join(self.peers())}"
            raise NotSentError(message)
        now = int(time.time() * 1_000_000).to_bytes(8, "big")
        signed = bytes.fromhex(self._identity.key) + secrets.token_bytes(16) + now + bytes(data)
        content = Bytes(self._identity.sign(_statement(key, signed)) + signed)
        asked = self._session.sender.ask((_channel(key), content, None, "query", None), PATIENCE)
        return wait(asked, None, f"sending to {node_id}").payload.decode()

    def my_con(self) -> Endpoint:
        """Return the address that this node tells others."""
        return Endpoint(self.config.network_ip, self.config.port)

    def connection_from_node(self, node_id: str) -> Endpoint:
        """Return the address that a node tells others. Raises `NotSentError` for an unknown one."""
        if node_id == self.config.node_id:
            return self.my_con()
        claim = self._session.db.get(f"{CLAIM}{self._keys.get(node_id)}")
        if claim is None:
            message = f"no node {node_id!r} is known here, but {', '.join(self.peers())}"
            raise NotSentError(message)
        return Endpoint.from_json(claim)

    def stop(self) -> None:
        """Leave the network, and free the port. A node that is stopped stays stopped."""
        if not self.shutting_down:
            self.shutting_down = True
            self._close()
            self._received.put(None)

    def _open(self) -> _Session:
        config = self.config
        db = open_field(
            FIELD,
            secret=config.aes_key,
            medium=f"lan:?listen=[::]:{config.port}" if config.port else "lan:?multicast=on",
            peers=[node.to_string() for node in self._nodes],
            store=self._credentials / "state.field",
            replica=config.node_id,
            identity=self._identity,
            trust=self._keys,
        )
        try:
            return self._start(db)
        except BaseException:
            db.close()
            raise

    def _start(self, db: Field) -> _Session:
        own, bus = self._identity.key, db._lease.bus
        name = f"dsn-{own[:16]}"
        handlers = [(True, _channel(own), 0)]
        service = wait(bus.serve(_Receiving(name), handlers, self._receive), None, "listening")
        stream, sender = wait(bus.vibrator(f"{name}-sends", [], None), None, "connecting")
        stream.close()
        claims = db.watch(f"{CLAIM}*")
        self._follow(claims, lambda change: self._meet(db, change.key, change.new))
        self._follow(Watch(db._replica.watch_owners(), Change), self._updated)
        self._follow(db.peer_events(), self._come_or_gone)
        db[f"{CLAIM}{own}"] = {"node": self.config.node_id, **self.my_con().to_json()}
        for key, claim in db.items(f"{CLAIM}*"):
            self._handle(lambda item: self._meet(db, *item), (key, claim))
        return _Session(db, service, sender)

    def _close(self) -> None:
        session = self._session
        session.service.stop()
        wait(session.service.ended(), None, "ending the node")
        session.db.close()
        with self._changed:
            self._changed.notify_all()

    def _run(self, work: Callable[[], object]) -> None:
        threading.Thread(target=work, name=f"aether-{self.config.node_id}", daemon=True).start()

    def _follow(self, watch: Watch[T], handle: Callable[[T], object]) -> None:
        """Handle what happens, on a thread of its own, until the field is closed."""

        def run() -> None:
            for item in watch:
                self._handle(handle, item)

        self._run(run)

    def _handle(self, handle: Callable[[T], object], item: T) -> None:
        try:
            handle(item)
        except ClosedError:
            LOG.debug("The node %s was closed meanwhile.", self.config.node_id)
        except Exception:
            LOG.exception("The node %s cannot handle %r.", self.config.node_id, item)

    def _meet(self, db: Field, name: str, claim: Any) -> None:
        """Take the first key that a node claims, and no other one later."""
        key = name.removeprefix(CLAIM)
        node = claim.get("node") if isinstance(claim, dict) else None
        if key == self._identity.key or not isinstance(node, str):
            return
        _check_name(node)
        if node == self.config.node_id or self._keys.get(node, key) != key:
            message = f"another one claims the name {node!r} with the key {key}, and is not taken for it"
            raise IdentityError(message)
        db.trust(node, key)
        if node not in self._keys:
            _write(self._credentials / f"{node}.pub", key)
            self._keys = {**self._keys, node: key}
        with self._changed:
            self._changed.notify_all()

    def _meets(self, known: set[str]) -> bool:
        """Wait until a node is there that was not known."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(set(self.peers()) - known), PATIENCE)

    def _updated(self, change: Change) -> None:
        if change.owner != self.config.node_id and self.update_cb is not None:
            self.update_cb()

    def _come_or_gone(self, event: PeerEvent) -> None:
        with self._changed:
            self._changed.notify_all()
        if event.event == "left" and event.peer is not None and event.peer.owner is not None:
            LOG.info("The node %s has left.", event.peer.owner)
            if self.disconnect_cb is not None:
                self.disconnect_cb()

    def _receive(self, _: int, wave: _native.Wave, place: _native.Call) -> Callable[[], object]:
        """Take a message in, on a thread of the extension, which must not wait."""
        self._received.put((wave, place))
        return list

    def _deliver_all(self) -> None:
        while (received := self._received.get()) is not None:
            wave, place = received
            try:
                data = self._check(wave.payload)
            except Error as error:
                place.fail(str(error), True)
                continue
            if data is not None and self.receive_cb is not None:
                self._handle(self.receive_cb, data)
            place.answer(Bytes(b"OK"))

    def _check(self, message: bytes) -> bytes | None:
        """Return the data of a message of a known node to this one; `None` if it was here before."""
        signature, signed = message[:64], message[64:]
        key, number, sent = signed[:32].hex(), signed[32:48], int.from_bytes(signed[48:56], "big") / 1_000_000
        if len(message) < HEAD or key not in self._keys.values():
            refusal = "the sender of this message is not known here"
            raise RefusedError(refusal)
        if not _native.verify(key, _statement(self._identity.key, signed), signature):
            refusal = "the signature of this message is wrong"
            raise RefusedError(refusal)
        now = time.time()
        if abs(now - sent) > MAX_AGE:
            refusal = f"this message is old, or the clocks differ by more than {MAX_AGE:.0f} s"
            raise RefusedError(refusal)
        while self._seen and next(iter(self._seen.values())) < now - 2 * MAX_AGE:
            del self._seen[next(iter(self._seen))]
        if number in self._seen:
            return None
        if len(self._seen) >= MAX_SEEN:
            refusal = f"more than {MAX_SEEN} messages have come in two minutes"
            raise RefusedError(refusal)
        self._seen[number] = now
        return signed[56:]

    def _load_identity(self) -> _native.Identity:
        path = self._credentials / f"{self.config.node_id}.identity"
        if not path.exists():
            return _native.Identity.create(self.config.node_id, path)
        return _native.Identity.load(path)

    def _load_keys(self) -> dict[str, str]:
        files = self._credentials.glob("*.pub")
        return {file.name.removesuffix(".pub"): file.read_text().strip() for file in files}


class DSNodeServer:
    """A node that runs. `DSNodeServer.start` starts one."""

    def __init__(
        self,
        config: DSNodeConfig,
        disconnect_callback: Callable[[], object] | None = None,
        update_callback: Callable[[], object] | None = None,
        receive_callback: Callable[[bytes], object] | None = None,
    ) -> None:
        """Join the network, and wait for nobody.

        The callbacks are called without arguments, the last one with the bytes. An exception of one goes
        to the log `aether`.
        """
        self.config = config
        self.node = DSNode(config, "", disconnect_callback, update_callback, receive_callback)

    @staticmethod
    def start(
        config: DSNodeConfig,
        disconnect_callback: Callable[[], object] | None = None,
        update_callback: Callable[[], object] | None = None,
    ) -> DSNodeServer:
        """Join the network. If there are `bootstrap_nodes`, wait up to 6 s until another node is there.

        Raises `MediumError` without a secret, `StoreError` if the node runs already, and `IdentityError`
        for a key that others may read.
        """
        server = DSNodeServer(config, disconnect_callback, update_callback)
        nodes = [_endpoint(node).to_string() for node in config.bootstrap_nodes]
        if nodes and not server.node._meets({config.node_id}):
            LOG.warning("%s has found no node at %s. It goes on to look.", config.node_id, ", ".join(nodes))
        return server

    @staticmethod
    def generate_key() -> str:
        """Return a new secret for `aes_key`: 64 hexadecimal digits."""
        return secrets.token_hex(32)

    def stop(self) -> None:
        """Leave the network, and free the port."""
        self.node.stop()

    def peers(self) -> list[str]:
        """Return the names of the nodes that are there. As `DSNode.peers`."""
        return self.node.peers()

    def read_data(self, node_id: str, key: str) -> Any:
        """Return a value of a node. As `DSNode.read_data`."""
        return self.node.read_data(node_id, key)

    def update_data(self, key: str, val: Value) -> None:
        """Write a value of this node. As `DSNode.update_data`."""
        self.node.update_data(key, val)

    def send_to_node(self, node_id: str, data: bytes) -> str:
        """Send bytes to a node. As `DSNode.send_to_node`."""
        return self.node.send_to_node(node_id, data)

    def is_shut_down(self) -> bool:
        """Return whether the node was stopped."""
        return self.node.shutting_down

    def node_id(self) -> str:
        """Return the name of the node."""
        return self.config.node_id

    def set_receive_cb(self, cb: Callable[[bytes], object]) -> None:
        """Call a function with the bytes of each message."""
        self.node.receive_cb = cb

    def set_update_cb(self, cb: Callable[[], object]) -> None:
        """Call a function after each change of another node."""
        self.node.update_cb = cb

    def set_disconnect_cb(self, cb: Callable[[], object]) -> None:
        """Call a function when a node has left."""
        self.node.disconnect_cb = cb


class _Receiving(NamedTuple):
    """The options of the service that takes messages, as the extension reads them."""

    name: str
    group: str | None = None
    concurrency: int | None = None
    time_out: float | None = PATIENCE
    retries: int = 0
    grace: float = 1.0


def _endpoint(node: Endpoint | Mapping[str, Any]) -> Endpoint:
    return node if isinstance(node, Endpoint) else Endpoint.from_json(node)


def _channel(key: str) -> str:
    return f"dsn.message.{key}"


def _statement(receiver: str, signed: bytes) -> bytes:
    """Return what the sender of a message signs: it is for one node, and for nobody else."""
    return _channel(receiver).encode() + signed


def _check_name(name: str) -> None:
    """Refuse a name that is no name of a file: it can come from the network."""
    is_plain = not any(sign in name for sign in "/\\:\0") and name not in {"", ".", ".."}
    if not is_plain or len(name.encode(errors="replace")) > MAX_NAME:
        message = (
            f"{name!r} cannot be the name of a node: it is the name of a file, of at most {MAX_NAME} bytes"
        )
        raise RefusedError(message)


def _write(path: Path, text: str) -> None:
    """Write a file beside its place, and rename it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(path)
