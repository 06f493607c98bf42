"""What one request may cost, and how many may wait: the numbers a server is started with."""

from dataclasses import dataclass

from edge_runtime.errors import ConfigError

MIB = 2**20


@dataclass(frozen=True)
class ServeLimits:
    """Limits of a server; each is checked before the work that it bounds.

    Raises:
        ConfigError: Zero or less, or limits that contradict each other.
    """

    # Questions in the house, the one being answered included (one may wait in any case): so many answers is the longest
    # wait of a client with one question in line.
    queue: int = 16
    # Seconds in line and at the model, once the pictures are decoded; a question that waited so long is not asked.
    deadline_s: float = 30.0
    # Seconds for the headers, and again for the body, of a request: who sends slower holds a connection for nothing.
    sending_s: float = 15.0
    # A 12 megapixel photo as PNG with its depth, in base64.
    body_bytes: int = 48 * MIB
    # Bodies being received or read, of all clients together.
    bodies_bytes: int = 160 * MIB
    # Pictures of one question; as many depth maps.
    pictures: int = 4
    # Pixels of one question, pictures and depth maps together. Decoded they take 3 and 4 bytes each.
    pixels: int = 40_000_000
    # Pixels of all questions that wait.
    waiting_pixels: int = 120_000_000
    # Longer than any instruction with its request for points; what fits the model's context is its own limit.
    text_chars: int = 8_000
    # Watchers of the live stream.
    watchers: int = 32
    # Open connections; beyond that a client is told to come back.
    connections: int = 1024

    def __post_init__(self) -> None:
        """Refuse limits that nothing would pass."""
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigError(f"the server's limit {name} is {value}; it has to be more than 0")
        if self.bodies_bytes < self.body_bytes or self.waiting_pixels < self.pixels:
            raise ConfigError("the limits of all requests together are smaller than those of a single one")
