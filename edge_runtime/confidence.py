"""How sure the model was of a point, read from the probabilities of the tokens that spell it."""

import math

from edge_runtime.records import Generation


def span_confidence(generation: Generation, span: tuple[int, int]) -> float:
    """Geometric mean of the token probabilities under a span of the answer text.

    The mean, not the product, so that a point spelled with more digits is not less certain for it.

    Args:
        generation: Text with the end offset and probability of each token.
        span: Start and end in characters of `generation.text`.

    Returns:
        A number in [0, 1]; 0 when no token lies under the span.
    """
    start, end = span
    logs: list[float] = []
    token_start = 0
    for token_end, probability in zip(generation.token_ends, generation.token_probs, strict=True):
        if token_start < end and token_end > start:
            logs.append(math.log(max(probability, 1e-12)))
        token_start = token_end
    return math.exp(sum(logs) / len(logs)) if logs else 0.0
