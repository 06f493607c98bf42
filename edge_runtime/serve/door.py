"""Who may ask: where the server listens, the token, and requests that a web page made in a person's name.

A token travels as a bearer, or as the password of HTTP Basic so that `http://robot:TOKEN@host:25547` works in any
client; the user name tells clients apart and is no secret. It is read from a file, never from the command line, where
every user of the machine could see it.
"""

import base64
import binascii
import hmac
import ipaddress
import secrets
import stat
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from edge_runtime.errors import ConfigError
from edge_runtime.metrics import Clock
from edge_runtime.serve.refusals import NotAllowed

SHORTEST_TOKEN = 16  # characters; fewer can be guessed at some thousand tries a second
LONGEST_TOKEN = 512
TICKET_VALID_S = 30.0
_MOST_TICKETS = 256
_MOST_USER = 64
_OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


@dataclass(frozen=True)
class Caller:
    """Whose request it is, as far as fairness is concerned."""

    name: str


def read_token(path: Path) -> str:
    """The token in a file: one line.

    Raises:
        ConfigError: Missing, readable by others, or no token.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the token from {path}: {error}") from error
    if mode & (stat.S_IRGRP | stat.S_IROTH) and stat.S_ISREG(mode):
        raise ConfigError(f"{path} can be read by other users of this machine: chmod 600 {path}")
    if not SHORTEST_TOKEN <= len(text) <= LONGEST_TOKEN or not text.isprintable() or " " in text:
        raise ConfigError(
            f"{path} holds no token: one line of {SHORTEST_TOKEN} to {LONGEST_TOKEN} characters without spaces, "
            "such as `openssl rand -hex 24` prints"
        )
    return text


def check_bind(host: str, *, has_token: bool) -> None:
    """Refuse to listen to a network without a token.

    Raises:
        ConfigError: Not a loopback address, and no token.
    """
    if not has_token and not is_loopback(host):
        raise ConfigError(f"listening on {host!r} lets the network in: give --token-file, or keep to --host 127.0.0.1")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine and nothing else."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() in _LOCAL_NAMES


class Tickets:
    """Let whoever brought a token open one WebSocket soon after: not every browser sends a password with it.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._issued: OrderedDict[str, tuple[Caller, float]] = OrderedDict()

    def issue(self, caller: Caller) -> str:
        """A new ticket; of too many the oldest is void."""
        while len(self._issued) >= _MOST_TICKETS:
            self._issued.popitem(last=False)
        ticket = secrets.token_urlsafe(24)
        self._issued[ticket] = (caller, self._clock() + TICKET_VALID_S)
        return ticket

    def take(self, ticket: str) -> Caller | None:
        """Whose it is; None: no ticket, used, or too old. It is used now."""
        caller, until_s = self._issued.pop(ticket, (None, 0.0))
        return caller if self._clock() < until_s else None


class Door:
    """Lets requests in, or says why not.

    Args:
        token: What a request has to bring; None: whoever reaches a loopback address may ask.
        tickets: What a WebSocket may bring instead.
    """

    def __init__(self, token: str | None, tickets: Tickets | None = None) -> None:
        self._token = None if token is None else token.encode("ascii")
        self._tickets = tickets or Tickets()

    def let_in(self, path: str, headers: Mapping[str, str], peer: str) -> Caller:
        """Who asks.

        Args:
            path: What is asked for.
            headers: With lower-case names.
            peer: The address the connection comes from.

        Raises:
            NotAllowed: No or a wrong token, or a web page of somebody else asks through a person's browser.
        """
        user, secret = _credentials(headers.get("authorization", ""))
        if path not in _OPEN_PATHS:
            self._check_token(secret)
            self._check_origin(headers)
        return Caller(f"{peer} {user}")

    def let_in_stream(self, headers: Mapping[str, str], peer: str, ticket: str | None) -> Caller:
        """Who opens a WebSocket; `ticket` is what was brought instead of a token, if anything.

        Browsers open one to any server from any page, so where it comes from is looked at in any case.

        Raises:
            NotAllowed: As `let_in`.
        """
        user, secret = _credentials(headers.get("authorization", ""))
        self._check_origin(headers)
        if ticket is not None and (caller := self._tickets.take(ticket)) is not None:
            return caller
        self._check_token(secret)
        return Caller(f"{peer} {user}")

    def _check_token(self, secret: bytes | None) -> None:
        if self._token is None:
            return
        if secret is None:
            raise NotAllowed("this server asks for its token: as bearer, or as password in http://name:TOKEN@host:port")
        if not hmac.compare_digest(secret, self._token):
            raise NotAllowed("that is not this server's token")

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        """A page from elsewhere may make a browser send requests here; it shows in Origin, or in a foreign Host."""
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and _netloc(origin) != host.lower():
            raise NotAllowed("pages of other sites may not ask this server", status=403)
        # Without a token, a name that was bent to 127.0.0.1 (DNS rebinding) must not open the door either.
        if self._token is None and not is_loopback(_host_name(host)):
            raise NotAllowed("without a token this server answers under the names of this machine only", status=403)


def _netloc(origin: str) -> str | None:
    """Host and port of an origin, lower case; None for `null` and rubbish."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _credentials(header: str) -> tuple[str, bytes | None]:
    """User name and secret of an Authorization header; the secret is None if there is none that can be read."""
    scheme, _, value = header.partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer" and value:
        return "", value.encode("utf-8", "replace")
    if scheme.lower() == "basic":
        try:
            user, found, password = base64.b64decode(value, validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return "", None
        return user.decode("utf-8", "replace")[:_MOST_USER], password if found else None
    return "", None
