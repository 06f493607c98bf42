"""The decoder stage: token and embedding segments in, an answer text out.

It tokenizes, feeds segments at rising positions, picks the most likely token (inside a grammar if asked)
and turns ids back into text. It does not build prompts, run encoders or read answers. One `Decoder`
belongs to one thread. llama.cpp is loaded by the first `Decoder.open`, never before.
"""

import ctypes
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Final

import numpy as np

from edge_runtime.decoder_draft import AnswerDrafts
from edge_runtime.decoder_grammar import GrammarGuard
from edge_runtime.decoder_kept import Row, after_rows, common_rows, rows_of, rows_of_media
from edge_runtime.decoder_sequence import ContextSettings, DecoderSequence, KvType, NativeLibrary
from edge_runtime.errors import BundleInvalid, InferenceError, InstructionError
from edge_runtime.kv_state import PromptReader
from edge_runtime.llama_library import library, load_model
from edge_runtime.records import F32, I32, DecoderSegment, EmbedSegment, Generation, TokenSegment
from edge_runtime.token_rows import TokenRows
from edge_runtime.token_text import TokenText

# Less work than this per thread and token is over before the threads have met at llama.cpp's barriers; on a busy
# machine they then spin for each other's time slice (docs/decisions.md).
WEIGHT_BYTES_PER_THREAD: Final = 8 << 20
PREFILL_ROWS: Final = 4  # of a prompt's hundreds; what they save on a busy machine's barriers is worth the rest
CONTEXT_STEP: Final = 512  # tokens; a context is made for the next multiple of what a question needs
DEFAULT_UBATCH: Final = 512
CONTROL_ATTRIBUTE: Final = 1 << 3  # LLAMA_TOKEN_ATTR_CONTROL

Choice = Callable[[F32], int]

_log = logging.getLogger(__name__)


class Decoder:
    """A GGUF model on this machine's processor or GPU, asked one question at a time.

    Use `Decoder.open` as a context manager, or call `close`.
    """

    def __init__(
        self, library: NativeLibrary, model: int, settings: ContextSettings, stack: ExitStack, path: Path
    ) -> None:
        native = library.functions
        self._library = library
        self._native = native
        self._model = model
        self._settings = settings
        self._stack = stack
        self._sequence: DecoderSequence | None = None
        self._keeps_prompt = False
        self._kept: list[Row] = []  # of the prompt in the sequence
        self._vocabulary = native.llama_model_get_vocab(model)
        self.path = path
        self.vocab_size = int(native.llama_vocab_n_tokens(self._vocabulary))
        self.width = int(native.llama_model_n_embd(model))
        self.max_context = int(native.llama_model_n_ctx_train(model))
        self.stop_ids: tuple[int, ...] = ()
        self.drafts = True  # off: every token of an answer is a step of its own
        self.joins = True  # off: text and pictures of a prompt are batches of their own
        self._reader: PromptReader | None = None  # of long prompts
        stack.callback(self._drop_sequence)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        stop_ids: Sequence[int | str],
        use_extra_bufts: bool,
        kv_type: KvType = "f16",
        n_threads: int | None = None,
        n_prefill_threads: int | None = None,
        n_batch: int = 512,
        n_ubatch: int = DEFAULT_UBATCH,
        n_gpu_layers: int = -1,
        keeps_prompt: bool = False,
        reader: PromptReader | None = None,
    ) -> "Decoder":
        """Map a GGUF file and make it ready for questions.

        Args:
            path: the bundle's `decoder.gguf`.
            stop_ids: tokens that end an answer, by id or by name.
            use_extra_bufts: let llama.cpp repack weights for this processor. A badly built library
                crashes there on some machines: ask edge_runtime/native_check.py first.
            kv_type: storage of the KV cache.
            n_threads: threads for an answer's tokens; default: the processors this process may use, fewer for a
                small model.
            n_prefill_threads: threads for a prompt; default: `n_threads` if given, else likewise.
            n_batch: most rows handed to llama.cpp at once.
            n_ubatch: most rows computed at once.
            n_gpu_layers: layers put on a GPU if the library was built for one; -1 means all.
            keeps_prompt: read only what is new of a prompt that begins like the last one. Sums are then formed in
                another order, so the last digits of a probability depend on what was asked before.
            reader: reads long prompts in llama.cpp's place.

        Raises:
            BundleMissing: there is no such file.
            BundleInvalid: not a GGUF file, truncated, or without a stop token of that name.
            InferenceError: llama-cpp-python cannot be loaded.
        """
        threads = n_threads or _useful_threads(path, rows=1)
        prefill_threads = n_prefill_threads or n_threads or _useful_threads(path, rows=PREFILL_ROWS)
        with ExitStack() as stack:
            native = library()
            model = load_model(native, path, use_extra_bufts=use_extra_bufts, n_gpu_layers=n_gpu_layers)
            stack.callback(native.functions.llama_model_free, model)
            settings = ContextSettings(threads, prefill_threads, kv_type, n_batch, n_ubatch)
            decoder = cls(native, model, settings, stack, path)
            decoder._keeps_prompt, decoder._reader = keeps_prompt, reader
            decoder.stop_ids = tuple(decoder._known_id(stop) for stop in stop_ids)
            decoder._stack = stack.pop_all()
        return decoder

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def settings(self) -> ContextSettings:
        """Threads, types and batch sizes of every context."""
        return self._settings

    def use(self, settings: ContextSettings) -> None:
        """Answer with other settings from now on; what was kept of the last prompt is forgotten."""
        self._drop_sequence()
        self._settings = settings

    def close(self) -> None:
        """Free the context and the model; calling it twice is harmless."""
        self._stack.close()

    # --- words -------------------------------------------------------------------------------------

    def tokenize(self, text: str) -> I32:
        """Ids of plain text, int32 [n]: no BOS, and special tokens in the text stay plain text.

        llama.cpp does not normalise: the caller passes NFC where the bundle's tokenizer asks for it.

        Raises:
            InstructionError: the text holds lone surrogates, so it is no Unicode text.
        """
        return self._tokenize(text, parse_special=False)

    def token_id(self, name: str) -> int:
        """Id of a special token by its name, such as `<|im_end|>`.

        Raises:
            BundleInvalid: the vocabulary has no such token.
        """
        ids = self._tokenize(name, parse_special=True)
        if len(ids) != 1 or self.piece(int(ids[0])) != name.encode():
            raise BundleInvalid(f"{self.path}: the vocabulary of {self.vocab_size} has no token {name!r}.")
        return int(ids[0])

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; a special token's name."""
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            size = self._native.llama_token_to_piece(self._vocabulary, token, buffer, room, 0, True)
            if size >= 0:
                return buffer.raw[:size]
            room = -size

    def _tokenize(self, text: str, *, parse_special: bool) -> I32:
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise InstructionError(f"The text is not valid Unicode: {error}. Send it as UTF-8.") from error
        room = len(data) + 1  # a byte-level vocabulary never has more tokens than bytes
        buffer = (self._native.llama_token * room)()
        count = self._native.llama_tokenize(self._vocabulary, data, len(data), buffer, room, False, parse_special)
        if count < 0:
            raise InferenceError(f"llama.cpp needs {-count} tokens for {len(data)} bytes; expected fewer.")
        return np.array(buffer[:count], dtype=np.int32)

    def _known_id(self, stop: int | str) -> int:
        if isinstance(stop, str):
            return self.token_id(stop)
        if not 0 <= stop < self.vocab_size:
            raise BundleInvalid(f"{self.path}: stop token {stop} is outside the vocabulary of {self.vocab_size}.")
        return stop

    # --- questions ---------------------------------------------------------------------------------

    def generate(
        self, segments: Sequence[DecoderSegment], *, max_tokens: int, grammar: str | None = None
    ) -> Generation:
        """Answer a prompt greedily.

        Args:
            segments: token ids and float32 [n, width] embeddings in prompt order.
            max_tokens: most tokens to write; fewer if the context ends before.
            grammar: GBNF text with a rule `root` that the answer has to follow.

        Raises:
            InstructionError: the prompt is empty or does not fit the context; it is never cut.
            InferenceError: a segment has a wrong shape, or llama.cpp failed.
        """
        start = perf_counter()
        with self._choice(grammar) as choose:
            sequence, prompt_tokens, reused = self._prefill(segments, max_tokens)
            logits = sequence.last_logits()
            prefilled = perf_counter()
            limit = min(max_tokens, self.max_context - prompt_tokens)
            ids, probs, text = self._write(sequence, logits, choose, limit)
        words, ends = text.finish()
        return Generation(
            text=words,
            token_ids=tuple(ids),
            token_probs=tuple(probs),
            token_ends=ends,
            stopped=bool(ids) and ids[-1] in self.stop_ids,
            prompt_tokens=prompt_tokens,
            reused_tokens=reused,
            prefill_ms=(prefilled - start) * 1e3,
            decode_ms=(perf_counter() - prefilled) * 1e3,
        )

    def _write(
        self, sequence: DecoderSequence, logits: F32, choose: Choice, limit: int
    ) -> tuple[list[int], list[float], TokenText]:
        """Tokens until a stop token or the limit, their probabilities, and their text.

        Args:
            sequence: with the prompt in it.
            logits: float32 [V], of the prompt's last row.
            choose: the next token for logits [V]; called once for each token, in order.
            limit: most tokens.
        """
        text = TokenText()
        ids: list[int] = []
        probs: list[float] = []
        rows, draft = logits[None], list[int]()  # row k predicts draft[k], the last one what follows
        while len(ids) < limit:
            start = sequence.position - len(draft)
            for k, row in enumerate(rows):
                token = choose(row)
                ids.append(token)
                probs.append(_probability(row, token))
                text.push(b"" if self._is_special(token) else self.piece(token))
                if token in self.stop_ids or len(ids) == limit:
                    return ids, probs, text
                if k == len(draft) or token != draft[k]:
                    break
            sequence.truncate(start + k)
            draft = self._drafts.after(text.so_far, limit - len(ids)) if self.drafts else []
            rows = sequence.feed_for_logits(np.array([token, *draft], dtype=np.int32))
        return ids, probs, text

    def logits(self, segments: Sequence[DecoderSegment], forced_ids: Sequence[int] = ()) -> F32:
        """Teacher-forced logits, float32 [max(1, n), V]: row i is what predicts `forced_ids[i]`.

        Raises:
            InstructionError: prompt and forced ids do not fit the context.
            InferenceError: an id is outside the vocabulary, or llama.cpp failed.
        """
        forced = TokenSegment(np.asarray(forced_ids[:-1], dtype=np.int32))
        self._check(forced)
        sequence, _, _ = self._prefill(segments, max(1, len(forced_ids)))
        first = sequence.last_logits()[None]
        return np.concatenate([first, sequence.feed_for_logits(forced.ids)])

    @contextmanager
    def _choice(self, grammar: str | None) -> Iterator[Choice]:
        """How the next token is chosen from logits [V]."""
        if grammar is None:
            yield lambda logits: int(logits.argmax())
            return
        stops = np.array(self.stop_ids, dtype=np.int32)
        guard = GrammarGuard(
            self._library,
            self._vocabulary,
            grammar,
            stop_ids=stops,
            plain_ids=self._plain_ids,
            piece=self.piece,
        )
        try:
            yield guard.choose
        finally:
            guard.close()

    def _prefill(self, segments: Sequence[DecoderSegment], max_tokens: int) -> tuple[DecoderSequence, int, int]:
        """Feed a prompt; the logits of its last row are then at hand. Also its rows, and how many were there before."""
        filled = [segment for segment in segments if self._check(segment)]
        if not filled:
            raise InstructionError("The prompt is empty: give at least one token or embedding.")
        count = sum(_length(segment) for segment in filled)
        self.check_room(count)
        sequence = self._sequence_for(min(count + max(1, max_tokens), self.max_context))
        rows = rows_of(filled) if self._keeps_prompt else []
        reused = common_rows(self._kept, rows)
        if pictured := rows_of_media(filled):
            reused = min(reused, pictured)  # the text behind is read whole: see `_batches`
        self._kept = []  # whatever happens from here on, the cache no longer holds that prompt
        sequence.truncate(reused)
        if self._reads_ahead(sequence, filled, reused):
            reused = 0
        unread = self._batches(after_rows(filled, sequence.position))
        for segment in unread:
            sequence.feed(segment, want_last=segment is unread[-1])
        self._kept = rows
        return sequence, count, reused

    def _reads_ahead(self, sequence: DecoderSequence, segments: Sequence[DecoderSegment], reused: int) -> bool:
        """Let the other engine read what it may, if that pays; whether the sequence was begun anew.

        It may read all but the last row, which has to give logits; where prompts are kept, all up to the end of the
        last picture, so that the text behind is read in one way only.
        """
        last = segments[-1]
        if self._reader is None or self._settings.kv_type != "f16" or not isinstance(last, TokenSegment):
            return False
        ahead = rows_of_media(segments) if self._keeps_prompt else sum(map(_length, segments)) - 1
        if not self._reader.pays(ahead) or ahead <= 2 * reused or (rows := self._token_rows) is None:
            return False
        try:
            sequence.take_over(self._reader.keys_values(_embeds(segments, rows)[:ahead]))
        except InferenceError as error:
            _log.warning("prompts are read by llama.cpp from now on: %s", error)
            self._reader = None
            sequence.truncate(0)
        return True

    def _batches(self, segments: Sequence[DecoderSegment]) -> Sequence[DecoderSegment]:
        """As few as can be, but the text behind the last picture is one of its own where prompts are kept.

        It is then read in the same batch whether or not the picture is in the cache, and the same question about the
        same picture has the same answer, to the last digit.
        """
        if not self._keeps_prompt:
            return self._as_one(segments)
        pictures = [number for number, part in enumerate(segments) if isinstance(part, EmbedSegment)]
        text_from = pictures[-1] + 1 if pictures else 0
        return [*self._as_one(segments[:text_from]), *segments[text_from:]]

    def _as_one(self, segments: Sequence[DecoderSegment]) -> Sequence[DecoderSegment]:
        """One batch of embeddings instead of several of tokens and embeddings, where token rows can be read."""
        if len(segments) < 2 or not self.joins or (rows := self._token_rows) is None:
            return segments
        return [EmbedSegment(_embeds(segments, rows))]

    def check_room(self, prompt_tokens: int) -> None:
        """Refuse a prompt that leaves no room for an answer; it is never cut.

        Raises:
            InstructionError: it is longer than the model's context.
        """
        if prompt_tokens >= self.max_context:
            raise InstructionError(
                f"The prompt takes {prompt_tokens} tokens and its answer at least 1; this model allows "
                f"{self.max_context}. Shorten the text, send fewer images or lower --max-tiles."
            )

    def _check(self, segment: DecoderSegment) -> bool:
        """Whether the segment holds anything; refuses what would be undefined behaviour in C."""
        if isinstance(segment, EmbedSegment):
            embeds = segment.embeds
            if embeds.ndim != 2 or embeds.shape[1] != self.width or embeds.dtype != np.float32:
                raise InferenceError(
                    f"Embeddings of shape {embeds.shape} and type {embeds.dtype} cannot enter this decoder; "
                    f"it takes float32 [n, {self.width}]."
                )
        else:
            ids = segment.ids
            if ids.ndim != 1 or ids.dtype != np.int32 or np.any((ids < 0) | (ids >= self.vocab_size)):
                raise InferenceError(f"Token ids have to be int32 [n] below {self.vocab_size}.")
        return _length(segment) > 0

    def _sequence_for(self, tokens: int) -> DecoderSequence:
        """A sequence with room for so many tokens; grown (and then empty), never shrunk."""
        if self._sequence is not None and self._sequence.capacity >= tokens:
            return self._sequence
        self._drop_sequence()  # before the larger one is made: both may not fit in memory
        capacity = min(-(-tokens // CONTEXT_STEP) * CONTEXT_STEP, self.max_context)
        self._sequence = DecoderSequence(self._library, self._model, self._settings, capacity)
        return self._sequence

    def _drop_sequence(self) -> None:
        if self._sequence is not None:
            self._sequence.close()
            self._sequence = None
            self._kept = []

    # --- vocabulary --------------------------------------------------------------------------------

    def _is_special(self, token: int) -> bool:
        return bool(self._native.llama_vocab_get_attr(self._vocabulary, token) & CONTROL_ATTRIBUTE)

    @cached_property
    def _token_rows(self) -> TokenRows | None:
        return TokenRows.open(self.path)

    @cached_property
    def _drafts(self) -> AnswerDrafts:
        return AnswerDrafts(self.tokenize, self.piece)

    @cached_property
    def _plain_ids(self) -> I32:
        """Tokens with a text of their own, which a grammar can talk about."""
        native, vocabulary = self._native, self._vocabulary
        plain = (
            token
            for token in range(self.vocab_size)
            if not self._is_special(token) and not native.llama_vocab_is_eog(vocabulary, token)
        )
        return np.array([token for token in plain if token not in self.stop_ids], dtype=np.int32)


def _length(segment: DecoderSegment) -> int:
    return len(segment.ids if isinstance(segment, TokenSegment) else segment.embeds)


def _embeds(segments: Sequence[DecoderSegment], rows: TokenRows) -> F32:
    """A prompt as embeddings, float32 [n, width]."""
    return np.concatenate([rows.of(s.ids) if isinstance(s, TokenSegment) else s.embeds for s in segments])


def _probability(logits: F32, token: int) -> float:
    """Softmax probability of one token, before any grammar."""
    shares = np.exp(logits - logits.max(), dtype=np.float64)  # a token that a grammar forces may be hopeless
    return float(shares[token] / shares.sum())


def _useful_threads(path: Path, *, rows: int) -> int:
    """As many threads as so many rows through the model's weights keep busy, and at most this process's processors."""
    size_bytes = path.stat().st_size if path.is_file() else 0  # a missing file is named when it is loaded
    return max(1, min(size_bytes * rows // WEIGHT_BYTES_PER_THREAD, len(os.sched_getaffinity(0))))
