"""Options of `genrec serve`, and the keys that it accepts."""

import hmac
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

from ..ask.language import languages
from ..errors import DataError, GenrecError, UnknownNameError
from ..options import option

REQUEST_LOG = "genrec.serving.requests"
KEYS_VARIABLE = "GENREC_API_KEYS"
METRICS_VARIABLE = "GENREC_METRICS_KEY"
SECRET_VARIABLE = "GENREC_USER_JWT_SECRET"
SECRET_BYTES = 32  # bytes: as long as a signature by HS256 (RFC 7518, 3.2)
LOCAL = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class ServeConfig:
    """A field is the flag, its default and its help."""

    run: str = option("", "run folder, adapter folder, or hf://OWNER/NAME[@REVISION]", metavar="RUN", positional=True)
    host: str = option("127.0.0.1", "address to listen on; another than this machine's own needs a key")
    port: int = option(8000, "port to listen on; 0: any free one")
    keys: str | None = option(
        None,
        "file of API keys, one a line; `KEY USER` may only see that user. "
        f"The environment variable {KEYS_VARIABLE} holds keys too, separated by commas",
        metavar="FILE",
    )
    insecure: bool = option(False, "listen on a public address without a key")
    any_model: bool = option(False, "answer whatever model a request names, as some programs name one of their own")
    any_user: bool = option(False, "a caller whose user is known from a header may ask about other users")
    store: str | None = option(
        None,
        "database for users, events and added items, shared by several servers: postgresql://... "
        "(default: the run's own store.db)",
        metavar="URL",
    )
    name: str | None = option(None, "the model's name on the wire (default: the run folder's name)")
    origin: tuple[str, ...] = option((), "web origins that may call from a browser; may be repeated", metavar="ORIGIN")
    allowed_host: tuple[str, ...] = option(
        (), "names that this server is reached by, for the Host check; may be repeated", metavar="HOST"
    )
    language: str | None = option(
        None,
        "language of what is said where a request is not understood, as en or zh (default: that of the request)",
        metavar="LANGUAGE",
    )
    record_events: bool = option(False, "MCP clients may record events")
    queue: int = option(256, "requests waiting for the model at most; more are answered 429")
    timeout: float = option(60.0, "seconds until a request is given up with 504")
    patience: float = option(30.0, "seconds in which a request's headers, and then its body, must have come")
    drain: float = option(30.0, "seconds that requests under way have to end after SIGTERM")
    max_body: int = option(1_048_576, "bytes of a request at most; more are answered 413")
    max_history: int = option(10_000, "items of a history or list in a request at most; more are answered 413")
    quantize: Literal["none", "nf4"] | None = option(None, "quantize the backbone (default: as the run was trained)")
    allow_backbone_mismatch: bool = option(False, "load on other weights of the same architecture")
    model: str | None = option(None, "where the backbone is, if it is a folder or file that has moved")
    prefix_mib: int = option(512, "memory for the histories read last, in MiB")


@dataclass(frozen=True)
class Keys:
    """The keys that are accepted, as digests; the user that a key is bound to, or None. Empty: no key is asked for.

    secret: what a frontend signs its user's name with; then an unsigned name does not count. metrics: the digest of the
    key that only opens /metrics.
    """

    users: Mapping[bytes, str | None]
    secret: str | None = field(default=None, repr=False)
    metrics: bytes | None = None

    def __bool__(self) -> bool:
        return bool(self.users)

    def opens_metrics(self, key: str) -> bool:
        """Whether a key is the one of the metrics."""
        return self.metrics is not None and hmac.compare_digest(self.metrics, sha256(key.encode()).digest())

    def user_of(self, key: str) -> str | None:
        """The user that a key is bound to; raises KeyError for a wrong one. Takes as long for every key."""
        digest, match = sha256(key.encode()).digest(), None
        for candidate in self.users:
            if hmac.compare_digest(candidate, digest):
                match = candidate
        if match is None:
            raise KeyError
        return self.users[match]


def read_keys(file: str | None) -> Keys:
    """The keys of a file and of the environment, and its secret; raises DataError for what is none."""
    lines = [("the environment", n, key.strip()) for n, key in enumerate(os.environ.get(KEYS_VARIABLE, "").split(","))]
    if file is not None:
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"--keys {file}: {getattr(error, 'strerror', None) or error}") from error
        lines += [(file, n, line.strip()) for n, line in enumerate(text.splitlines(), 1)]
    users: dict[bytes, str | None] = {}
    for place, number, line in lines:
        if not line or line.startswith("#"):
            continue
        parts = line.split()
        if len(parts) > 2:
            raise DataError(
                f"{place}, line {number}: {len(parts)} words; a line is KEY, or KEY and the USER it may see"
            )
        users[sha256(parts[0].encode()).digest()] = parts[1] if len(parts) == 2 else None
    if file is not None and not users:
        raise DataError(f"--keys {file}: no key in it")
    secret = os.environ.get(SECRET_VARIABLE, "").strip() or None
    if secret is not None and len(secret.encode()) < SECRET_BYTES:
        raise DataError(f"{SECRET_VARIABLE}: {len(secret.encode())} bytes; at least {SECRET_BYTES} are needed")
    if secret is not None and not users:
        raise DataError(f"{SECRET_VARIABLE} is set and no key is: users named in a header count only beside a key")
    metrics_key = os.environ.get(METRICS_VARIABLE, "").strip()
    metrics = sha256(metrics_key.encode()).digest() if metrics_key else None
    if metrics is not None and not users:
        raise DataError(f"{METRICS_VARIABLE} is set and no key is: without keys anybody may read the metrics")
    if metrics in users:
        raise DataError(f"{METRICS_VARIABLE} is one of the other keys too; it must open the metrics only")
    return Keys(users, secret, metrics)


def is_local(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return host in LOCAL or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check(config: ServeConfig, keys: Keys) -> None:
    """Raises GenrecError for options that cannot be served with."""
    if config.language is not None and config.language not in (known := languages()):
        raise UnknownNameError("language", config.language, known, "in --language")
    if not is_local(config.host) and not keys and not config.insecure:
        raise GenrecError(
            f"--host {config.host} is reached from other machines, and no key is set: give --keys FILE or "
            f"{KEYS_VARIABLE}, or --insecure where anybody may ask"
        )
    if not 0 <= config.port <= 65_535:
        raise GenrecError(f"--port {config.port}: 0 to 65535")
    for flag in ("queue", "timeout", "patience", "max_body", "max_history"):
        if vars(config)[flag] <= 0:
            raise GenrecError(f"--{flag.replace('_', '-')} {vars(config)[flag]}: more than 0 is needed")
