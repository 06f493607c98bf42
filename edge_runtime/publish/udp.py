"""Records as JSON datagrams: the simplest way to another program or machine, and nothing is ever waited for."""

import json
import socket
from typing import Any

from edge_runtime.errors import ConfigError, DeviceError

MAX_DATAGRAM = 65507  # what IPv4 can carry


class UdpSink:
    """Sends each record as one datagram of UTF-8 JSON.

    Args:
        host: A name or an address; looked up once.
        port: 1 to 65535.

    Raises:
        ConfigError: No such host.
    """

    def __init__(self, host: str, port: int) -> None:
        self._where = f"{host}:{port}"
        try:
            family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        except OSError as error:
            raise ConfigError(f"cannot send to udp:{self._where}: {error}") from error
        self._socket = socket.socket(family, kind, proto)
        self._socket.setblocking(False)
        self._socket.connect(address)  # so that "nobody listens" comes back to us

    def write(self, record: dict[str, Any]) -> None:
        """Send one datagram.

        Raises:
            DeviceError: Nobody listens there, the network is down, or the record is too long.
        """
        datagram = json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
        if len(datagram) > MAX_DATAGRAM:
            raise DeviceError(f"a record of {len(datagram)} bytes does not fit into a datagram of {MAX_DATAGRAM}")
        try:
            self._socket.send(datagram)
        except OSError as error:
            raise DeviceError(f"udp:{self._where} takes no datagram: {error.strerror}") from error

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
