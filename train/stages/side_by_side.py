"""Several answers to one prompt in one sequence: each reads the prompt and itself, as if it stood there alone.

```
prompt without its last token | last token, answer 1 | last token, answer 2 | ...
segment 0                     | 1                    | 2                    |        -1: padding
position 0 1 2 ... P-1        | P  P+1 ...           | P  P+1 ...           |
```
The prompt, with its pictures, is computed once for all its answers. Each answer begins with the prompt's last token,
because that is what its first token is predicted from.

Letters: B sequences, S tokens with one placeholder per media block, L embeddings after splicing.
"""

import torch
from torch import Tensor

PROMPT, PADDING = 0, -1


def spread_segments(segments: Tensor, tokens: Tensor, spliced: Tensor | None, length: int) -> Tensor:
    """Segments of embeddings from those of tokens; all media stand in the prompt.

    Args:
        segments: int64 [B, S].
        tokens: bool [B, S], false where padded.
        spliced: bool [B, L], false where padded; None: nothing is.
        length: L.

    Returns:
        int64 [B, L].
    """
    rows = []
    for row in range(len(segments)):
        own = segments[row][tokens[row]]
        used = length if spliced is None else int(spliced[row].sum())
        grown = own.new_full((used - len(own),), PROMPT)
        rows.append(torch.cat([grown, own, own.new_full((length - used,), PADDING)]))
    return torch.stack(rows)


def positions_of(segments: Tensor) -> Tensor:
    """int64 [B, L] places that tokens are at for the decoder: each answer goes on where the prompt ends."""
    places = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    begun_at = torch.where(begins, places, 0).cummax(dim=1).values
    prompt = (segments == PROMPT).sum(dim=1, keepdim=True)
    return torch.where(segments > PROMPT, prompt + places - begun_at, places - torch.where(segments < 0, begun_at, 0))


def reading_mask(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """What each token reads, to be added to attention scores: [B, 1, L, L], 0 or the least number there is."""
    same = segments[:, :, None] == segments[:, None, :]
    of_prompt = (segments == PROMPT)[:, None, :] & (segments >= PROMPT)[:, :, None]
    length = segments.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    reads = (same | of_prompt) & earlier
    mask = torch.zeros(reads.shape, dtype=dtype, device=segments.device)
    return mask.masked_fill_(~reads, torch.finfo(dtype).min)[:, None]
