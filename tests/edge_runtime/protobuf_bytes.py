"""Protobuf messages written by hand, for files no library would write."""


def field(number: int, payload: bytes) -> bytes:
    """A protobuf field of bytes."""

    def varint(value: int) -> bytes:
        return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)

    return varint(number << 3 | 2) + varint(len(payload)) + payload
