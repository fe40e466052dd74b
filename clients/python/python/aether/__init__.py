"""Variables that float in the air, on every machine.

    import aether

    db = aether.open("home", secret="correct horse battery staple")
    db["living_room/temperature"] = 24.5

All programs of one network that open the field `home` with one secret have these variables. There is no
server. `aether.aopen` is for asyncio, and `aether.connect` for messages.
"""

from aether._aether import Aether
from aether._bus import Bus, Vibrator, Wave, connect
from aether._errors import (
    ClosedError,
    Error,
    FolderError,
    ForkedError,
    IdentityError,
    MediumError,
    NotAgreedError,
    NotAnsweredError,
    NotSentError,
    RefusedError,
    StoreError,
    WrongTypeError,
)
from aether._field import AsyncField, Field
from aether._mirror import AsyncMirror, FileEvent, Mirror, MirrorStatus
from aether._native import VERSION as __version__  # noqa: N811
from aether._native import Certificate, Identity
from aether._opening import aopen, mirror, open  # noqa: A004
from aether._parts import Counter, Node, Own, Presence, Tags
from aether._service import Service, Serving
from aether._values import Bytes
from aether._watch import Change, Loss, Participant, Peer, PeerEvent, Watch

__all__ = [
    "Aether",
    "AsyncField",
    "AsyncMirror",
    "Bus",
    "Bytes",
    "Certificate",
    "Change",
    "ClosedError",
    "Counter",
    "Error",
    "Field",
    "FileEvent",
    "FolderError",
    "ForkedError",
    "Identity",
    "IdentityError",
    "Loss",
    "MediumError",
    "Mirror",
    "MirrorStatus",
    "Node",
    "NotAgreedError",
    "NotAnsweredError",
    "NotSentError",
    "Own",
    "Participant",
    "Peer",
    "PeerEvent",
    "Presence",
    "RefusedError",
    "Service",
    "Serving",
    "StoreError",
    "Tags",
    "Vibrator",
    "Watch",
    "Wave",
    "WrongTypeError",
    "__version__",
    "aopen",
    "connect",
    "mirror",
    "open",
]
