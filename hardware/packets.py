"""Two processes of ours in conversation: JSON objects, one per packet, file descriptors beside them.

Packets keep their borders (SOCK_SEQPACKET), and either end sees at once that the other is gone.
"""

import ctypes
import json
import os
import select
import signal
import socket
import threading
from typing import Any, Final

MAX_PACKET: Final = 65_536
ORPHANED: Final = 3  # exit code of a process that was left alone
PR_SET_PDEATHSIG: Final = 1  # prctl(2): the signal to get when the parent's thread ends


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends; what is sent at one arrives at the other."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """Send one message.

    Raises:
        OSError: The other end is gone, or (of a non-blocking socket) does not read.
        ValueError: It is longer than a packet may be.
    """
    packet = json.dumps(message).encode()
    if len(packet) > MAX_PACKET:
        raise ValueError(f"a message of {len(packet)} bytes, at most {MAX_PACKET} go into a packet")
    if fds:
        socket.send_fds(end, [packet], fds)
    else:
        end.send(packet)


def receive(end: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The next message and its file descriptors; None when the other end is gone.

    Raises:
        BlockingIOError: A non-blocking socket, and nothing is there.
    """
    try:
        packet, fds, _, _ = socket.recv_fds(end, MAX_PACKET, 1)
    except ConnectionResetError:
        return None, []
    return (json.loads(packet) if packet else None), fds


def leave_with(end: socket.socket) -> None:
    """From now on end this process when the other end closes, even while the main thread hangs in native code.

    The kernel also kills it when the thread that started it ends, so that a stopped process (SIGSTOP) goes as well.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    threading.Thread(target=_leave_with, args=(end,), name="leave-with-parent", daemon=True).start()


def _leave_with(end: socket.socket) -> None:
    poll = select.poll()
    poll.register(end, 0)  # nothing but what is always told: hang-up
    poll.poll()
    os._exit(ORPHANED)
