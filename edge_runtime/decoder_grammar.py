"""The part of the decoder that keeps an answer inside a grammar (GBNF text, see edge_runtime/grammar.py).

The grammar is applied lazily: a token that the model wants and the grammar allows costs one check; only
after a rejected one are more tried, the most likely first. It feeds nothing to the model. The C functions are handed
in by edge_runtime/decoder.py, the only module that loads llama.cpp.
"""

import codecs
import ctypes
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_runtime.decoder_sequence import NativeLibrary
from edge_runtime.errors import InferenceError
from edge_runtime.records import F32, I32

# How many of the most likely tokens are tried before all of them are.
WIDENING: Final = (1, 64, 2048)
# llama_token_data of the C interface
CANDIDATE = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])


class GrammarGuard:
    """Chooses the most likely token that keeps the text inside the grammar.

    llama.cpp guesses from token names which ones end a text; ours are the prompt's. So stop tokens are
    never shown to it: one end token of its own serves as a probe ("may the text end here?"), and where
    it may, our stop tokens compete with the ordinary ones. Other special tokens are never chosen. Neither
    are bytes that break UTF-8: llama.cpp would read them as some character and swallow what follows.

    Args:
        library: the C functions.
        vocabulary: handle of the model's vocabulary.
        text: GBNF with a rule `root`.
        stop_ids: int32 [n], tokens that end an answer.
        plain_ids: int32 [m], tokens with a text of their own.
        piece: the bytes of a token.

    Raises:
        InferenceError: the grammar does not parse.
    """

    def __init__(
        self,
        library: NativeLibrary,
        vocabulary: int,
        text: str,
        *,
        stop_ids: I32,
        plain_ids: I32,
        piece: Callable[[int], bytes],
    ) -> None:
        native = library.functions
        self._native = native
        self._stop_ids = frozenset(stop_ids.tolist())
        self._piece = piece
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._is_plain = np.zeros(int(native.llama_vocab_n_tokens(vocabulary)), dtype=bool)
        self._is_plain[plain_ids] = True
        self._probe = np.int32(native.llama_vocab_eos(vocabulary))
        if not text.strip():  # llama.cpp takes this for "anything goes"
            raise InferenceError("An empty grammar was asked for; pass None to answer freely.")
        library.errors.clear()
        self._sampler = native.llama_sampler_init_grammar(vocabulary, text.encode(), b"root")
        if not self._sampler:
            raise InferenceError(f"llama.cpp does not understand the grammar: {library.reason()}.")

    def close(self) -> None:
        """Free the grammar; the object is unusable afterwards."""
        self._native.llama_sampler_free(self._sampler)

    def choose(self, logits: F32) -> int:
        """The best token for float32 [V] logits; the grammar moves on by it.

        Raises:
            InferenceError: no token of this vocabulary continues the grammar.
        """
        token = self._best_fitting(logits)
        if token not in self._stop_ids:
            # llama.cpp ends the process on a token the grammar forbids: only checked ones come here.
            self._native.llama_sampler_accept(self._sampler, token)
            self._utf8.decode(self._piece(token))
        return token

    def _best_fitting(self, logits: F32) -> int:
        """The most likely tokens first, then more of them: one pass over a vocabulary takes 50 ms."""
        for count in (*WIDENING, len(logits)):
            best = next(self._fitting(_largest(logits, count)), None)
            if best is not None:
                return best
        raise InferenceError("No token of this vocabulary continues the grammar; ask with --no-grammar.")

    def _fitting(self, tokens: I32) -> Iterator[int]:
        """Those of the tokens that may come next, in the given order."""
        plain = tokens[self._is_plain[tokens]]
        allowed = self._allowed(np.append(plain, self._probe))
        may_end = bool(allowed[-1])
        continuing = set(plain[allowed[:-1]].tolist())
        for token in tokens.tolist():
            ends = token in self._stop_ids
            if (ends and may_end) or (token in continuing and self._keeps_text(token)):
                yield token

    def _keeps_text(self, token: int) -> bool:
        """Whether the text so far stays the beginning of valid UTF-8, without a NUL.

        llama.cpp reads a piece only up to its first NUL; the rest would escape the grammar.
        """
        piece = self._piece(token)
        before = self._utf8.getstate()
        try:
            self._utf8.decode(piece)
            unfinished = self._utf8.getstate()[0]
        except UnicodeDecodeError:
            return False
        finally:
            self._utf8.setstate(before)
        # Half a surrogate: Python notices only at its third byte, when no token could save it.
        return b"\0" not in piece and not (unfinished[:1] == b"\xed" and unfinished[1:2] >= b"\xa0")

    def _allowed(self, ids: I32) -> npt.NDArray[np.bool_]:
        """Which of the ids the grammar would accept next."""
        native = self._native
        candidates = np.zeros(len(ids), dtype=CANDIDATE)
        candidates["id"] = ids
        array = native.llama_token_data_array(
            data=candidates.ctypes.data_as(native.llama_token_data_p), size=len(ids), selected=-1, sorted=False
        )
        native.llama_sampler_apply(self._sampler, ctypes.byref(array))
        allowed: npt.NDArray[np.bool_] = candidates["logit"] == 0.0  # rejected: set to minus infinity
        return allowed


def _largest(logits: F32, count: int) -> I32:
    """Ids of the largest logits, largest first; of equal ones the lowest id, as argmax has it."""
    if count == 1:
        return np.array([logits.argmax()], dtype=np.int32)
    if count >= len(logits):
        return np.argsort(-logits, kind="stable").astype(np.int32)
    edge = np.partition(logits, -count)[-count]
    ids = np.flatnonzero(logits >= edge)
    return ids[np.argsort(-logits[ids], kind="stable")].astype(np.int32)
