"""The torch model as the subject of a benchmark: what every bundle is compared with.

Pictures and prompts go through the robot's own preprocess and prompt (`train/inputs.py`). Questions about one picture
are answered together: the picture is encoded once, what stands before the question's words is read once, and then all
answers are written side by side. This is the one module of bench that loads torch.
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edge_runtime.errors import ConfigError, DeviceError, InstructionError
from edge_runtime.metrics import StageTimer
from edge_runtime.pipeline import MAX_ANSWER_TOKENS
from edge_runtime.prompt import compose, parts_of
from edge_runtime.records import Generation, Prompt, View
from edge_runtime.token_text import TokenText
from hardware.probe import probe_board
from train.checkpoint import Checkpoint, load_checkpoint
from train.inputs import ModelInputs, prepare
from train.specs import context_tokens, image_spec, prompt_spec, token_spec
from train.tokenizer import prompt_ids

Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16", "nf4"]

# Byte-level vocabularies write each byte as a character: the printable ones of Latin-1 as themselves, the others in
# order from U+0100 on.
_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_BYTES = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(0x100 + n): byte for n, byte in enumerate(sorted({*range(0x100)} - {*_PRINTABLE}))
}


class TorchSubject:
    """A checkpoint that answers questions, greedily and without a grammar.

    Args:
        checkpoint: In the precision it is to run in, on its device.
        device: Where that is.
        precision: Which that is, for the record.
    """

    def __init__(self, checkpoint: Checkpoint, device: Device, precision: Precision) -> None:
        self.checkpoint = checkpoint
        self.device = device
        self.precision = precision
        self._llm: Any = checkpoint.model.llm
        self._stop_ids = frozenset(token_spec(checkpoint).stop)
        self._context_tokens = context_tokens(checkpoint)
        self._added_tokens = checkpoint.tokenizer.added_tokens_decoder

    @classmethod
    def open(cls, path: Path, *, device: Device = "cpu", precision: Precision = "fp32") -> "TorchSubject":
        """Read a checkpoint and bring it to a device.

        Args:
            path: The checkpoint's folder.
            device: "cpu" or "cuda".
            precision: Of weights and arithmetic. "nf4" stores the decoder's matrices in 4 bits, but for the output
                head; what is computed with them, and all else, is bf16.

        Raises:
            CheckpointError: The checkpoint cannot be read.
            DeviceError: torch finds no such device.
            ConfigError: NF4 is asked for and bitsandbytes is not installed.
        """
        _check_device(device)
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
        linear_nf4 = _linear_nf4() if precision == "nf4" else None
        checkpoint = load_checkpoint(path, torch.float32 if precision == "fp32" else torch.bfloat16)
        if linear_nf4 is not None:
            _replace_matrices(checkpoint.model.llm, linear_nf4)
        checkpoint.model.to(device)
        return cls(checkpoint, device, precision)

    @property
    def name(self) -> str:
        """The checkpoint's folder, without the `model/` that training puts it in."""
        path = self.checkpoint.path
        if path is None:
            return "checkpoint"
        return path.resolve().parent.name if path.name == "model" else path.resolve().name

    @property
    def takes_depth(self) -> bool:
        """Whether the model has an input for depth."""
        return self.checkpoint.config.has_depth

    @torch.inference_mode()
    def answer(
        self,
        view: View,
        instructions: Sequence[str],
        *,
        max_tokens: int | None = None,
        stop: bool = True,
        timer: StageTimer | None = None,
    ) -> list[Generation]:
        """Answer questions about one picture.

        Args:
            view: The picture, with depth if the model is to be given it.
            instructions: What is asked, sent unchanged.
            max_tokens: Longest answer; default: what the pipeline allows where no grammar bounds it.
            stop: End where the model ends; False: every answer is as long as it may be, for timing.
            timer: Gets the time that all of them took together.

        Returns:
            One per question. `prefill_ms` and `decode_ms` are the question's share of what all of them took.

        Raises:
            InstructionError: A prompt does not fit the context.
            DepthError: Depth for a model that takes none.
        """
        timer = timer or StageTimer()
        before = timer.timings_ms()
        with timer.stage("preprocess"):
            inputs = prepare(self.checkpoint, parts_of([view], instructions[0]))
            questions = self._cut(inputs, view, instructions)
        embeds = self._embedded(inputs, questions.shared, timer)
        room = self._room(embeds.shape[1], questions.tails, max_tokens or MAX_ANSWER_TOKENS)
        with timer.stage("prefill"):
            reading = _Reading.of(self._llm, embeds, [self._embed(tail) for tail in questions.tails])
            self._wait()
        with timer.stage("decode"):
            written = self._write(reading, room, self._stop_ids if stop else frozenset())
        after = timer.timings_ms()
        spent = {stage: (after[stage] - before[stage]) / len(instructions) for stage in ("prefill", "decode")}
        lengths = [embeds.shape[1] + len(tail) for tail in questions.tails]
        return [self._generation(w, length, spent) for w, length in zip(written, lengths, strict=True)]

    def versions(self) -> dict[str, str]:
        """What ran: versions of what the numbers depend on."""
        import numpy as np
        import PIL
        import transformers

        found = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": np.__version__,
            "pillow": PIL.__version__,
        }
        if self.precision == "nf4":
            found["bitsandbytes"] = _bitsandbytes().__version__
        return found

    def device_name(self) -> str:
        """The GPU as torch calls it, else the processor."""
        return torch.cuda.get_device_name() if self.device == "cuda" else probe_board().model

    # --- the parts of one answer -----------------------------------------------------------------------

    def _cut(self, inputs: ModelInputs, view: View, instructions: Sequence[str]) -> "_Questions":
        """Token ids of each prompt behind its last media block, and those before, which all prompts share."""
        media = torch.tensor([self.checkpoint.model.token_ids.image, self.checkpoint.model.token_ids.depth])
        first = inputs.input_ids[0]
        end = int(torch.isin(first, media).nonzero()[-1]) + 1
        shared = first[:end].tolist()
        tails: list[list[int]] = []
        for instruction in instructions:
            ids = prompt_ids(self.checkpoint.tokenizer, self._prompt(inputs, view, instruction))
            assert ids[:end] == shared, "media stand before the words of every question"
            tails.append(ids[end:])
        return _Questions(first[None, :end], tails)

    def _prompt(self, inputs: ModelInputs, view: View, instruction: str) -> Prompt:
        return compose(
            parts_of([view], instruction),
            mode=image_spec(self.checkpoint).mode,
            image_tiles=[grid.tiles for grid in inputs.images.grids] if inputs.images else [],
            depth_tiles=[grid.tiles for grid in inputs.depths.grids] if inputs.depths else [],
            tokens=token_spec(self.checkpoint),
            template=prompt_spec(self.checkpoint),
        )

    def _embedded(self, inputs: ModelInputs, shared: Tensor, timer: StageTimer) -> Tensor:
        """What all prompts begin with, media spliced in: [1, L, D]."""
        model = self.checkpoint.model
        with timer.stage("rgb_encoder"):
            images = model.blocks("image", inputs.images)
            self._wait()
        with timer.stage("depth_encoder"):
            depths = model.blocks("depth", inputs.depths)
            self._wait()
        with timer.stage("prefill"):
            return model.splice(shared, images, depths).embeds

    def _embed(self, ids: Sequence[int]) -> Tensor:
        """[n] to [n, D]; a generated media token stands for no media and is embedded by its ordinary row."""
        embedded: Tensor = self._llm.get_input_embeddings()(torch.tensor(ids, device=self._llm.device))
        return embedded

    def _room(self, shared: int, tails: Sequence[Sequence[int]], max_tokens: int) -> list[int]:
        """How long each answer may become."""
        longest = shared + max(len(tail) for tail in tails)
        if longest >= self._context_tokens:
            raise InstructionError(
                f"a prompt takes {longest} tokens and its answer at least 1; this model allows {self._context_tokens}. "
                "Shorten the text or use smaller pictures."
            )
        return [min(max_tokens, self._context_tokens - shared - len(tail)) for tail in tails]

    def _write(self, reading: "_Reading", room: Sequence[int], stop_ids: frozenset[int]) -> list["_Written"]:
        """Greedy decoding of all answers side by side; those that ended are fed on and not kept."""
        written = [_Written([], []) for _ in room]
        while True:
            best, probs = reading.most_likely()
            for answer, limit, token, prob in zip(written, room, best, probs, strict=True):
                if not _ended(answer, limit, stop_ids):
                    answer.ids.append(token)
                    answer.probs.append(prob)
            if all(_ended(answer, limit, stop_ids) for answer, limit in zip(written, room, strict=True)):
                return written
            reading.feed(self._embed(best)[:, None])

    def _generation(self, written: "_Written", prompt_tokens: int, spent: Mapping[str, float]) -> Generation:
        text = TokenText()
        for token in written.ids:
            text.push(self._piece(token))
        words, ends = text.finish()
        return Generation(
            text=words,
            token_ids=tuple(written.ids),
            token_probs=tuple(written.probs),
            token_ends=ends,
            stopped=written.ids[-1] in self._stop_ids,
            prompt_tokens=prompt_tokens,
            prefill_ms=spent["prefill"],
            decode_ms=spent["decode"],
        )

    def _piece(self, token: int) -> bytes:
        """The bytes a token stands for; special ones have none."""
        added = self._added_tokens.get(token)
        if added is not None:
            return b"" if added.special else str(added.content).encode()
        return bytes(_BYTES[symbol] for symbol in self.checkpoint.tokenizer.convert_ids_to_tokens(token))

    def _wait(self) -> None:
        """Until the device has done what it was given, so that its time goes to the right stage."""
        if self.device == "cuda":
            torch.cuda.synchronize()


@dataclass(frozen=True)
class _Questions:
    """Prompts about one picture, cut behind their last media block."""

    shared: Tensor  # int64 [1, S], the same for all
    tails: list[list[int]]


@dataclass(frozen=True)
class _Written:
    """An answer as it grows."""

    ids: list[int]
    probs: list[float]


def _ended(answer: _Written, limit: int, stop_ids: frozenset[int]) -> bool:
    return len(answer.ids) >= limit or bool(answer.ids and answer.ids[-1] in stop_ids)


class _Reading:
    """Several prompts with one beginning in the decoder's cache, and what comes next in each.

    Tails of different length are padded at their end; the padding is masked, and positions do not count it.
    """

    def __init__(self, llm: Any, cache: Any, states: Tensor, mask: Tensor, positions: Tensor) -> None:
        self._llm = llm
        self._cache = cache
        self._states = states  # [B, D], of each prompt's last row
        self._mask = mask  # int64 [B, L], 0 where padded
        self._positions = positions  # int64 [B], of the next row

    @classmethod
    def of(cls, llm: Any, shared: Tensor, tails: Sequence[Tensor]) -> "_Reading":
        """Read [1, L, D] once, then each tail [n, D] behind it."""
        begun = llm.model(inputs_embeds=shared, use_cache=True)
        cache, before = begun.past_key_values, shared.shape[1]
        if len(tails) > 1:
            cache.batch_repeat_interleave(len(tails))
        lengths = torch.tensor([len(tail) for tail in tails], device=shared.device)
        padded = nn.utils.rnn.pad_sequence(list(tails), batch_first=True)
        columns = torch.arange(padded.shape[1], device=shared.device)
        mask = (torch.cat([columns.new_zeros(before), columns]) < lengths[:, None]).long()
        mask[:, :before] = 1
        read = llm.model(
            inputs_embeds=padded,
            past_key_values=cache,
            use_cache=True,
            attention_mask=mask,
            position_ids=(before + columns).expand(len(tails), -1),
        )
        rows = torch.arange(len(tails), device=shared.device)
        return cls(llm, read.past_key_values, read.last_hidden_state[rows, lengths - 1], mask, before + lengths)

    def most_likely(self) -> tuple[list[int], list[float]]:
        """The best next token of each prompt and its probability."""
        logits = self._llm.lm_head(self._states).float()  # [B, V]
        best = logits.argmax(dim=-1)
        probs = torch.softmax(logits, dim=-1).gather(1, best[:, None])[:, 0]
        return best.tolist(), probs.tolist()

    def feed(self, embeds: Tensor) -> None:
        """One row each, [B, 1, D]."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], dim=1)
        read = self._llm.model(
            inputs_embeds=embeds,
            past_key_values=self._cache,
            use_cache=True,
            attention_mask=self._mask,
            position_ids=self._positions[:, None],
        )
        self._cache = read.past_key_values
        self._states = read.last_hidden_state[:, -1]
        self._positions = self._positions + 1


# --- devices and precisions -----------------------------------------------------------------------------


def _check_device(device: Device) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"torch {torch.__version__} finds no CUDA device here: use --device cpu, or install a CUDA build of torch"
        )


def _bitsandbytes() -> Any:
    """The package behind NF4, which is no dependency of the project's tests.

    Raises:
        ConfigError: It is not installed, or does not work here.
    """
    try:
        import bitsandbytes
    except (ImportError, OSError, RuntimeError) as error:
        raise ConfigError(
            f"--precision nf4 needs bitsandbytes, which cannot be loaded here ({error}): pip install "
            "'roborefer-edge[nf4]', or use --precision bf16"
        ) from error
    return bitsandbytes


def _linear_nf4() -> Any:
    """A function that turns a linear layer into one that holds NF4; bitsandbytes packs it on its way to a device."""
    layers = _bitsandbytes().nn

    def packed(linear: nn.Linear) -> nn.Module:
        made: Any = layers.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=torch.bfloat16,
            quant_type="nf4",
            device="meta",
        )
        made.weight = layers.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4")
        made.bias = linear.bias
        replaced: nn.Module = made
        return replaced

    return packed


def _replace_matrices(llm: nn.Module, packed: Any) -> None:
    """Put packed layers in the place of a decoder's linear ones, but for the output head."""
    found = [(name, m) for name, m in llm.named_modules() if isinstance(m, nn.Linear) and name != "lm_head"]
    for name, linear in found:
        parent, _, child = name.rpartition(".")
        setattr(llm.get_submodule(parent), child, packed(linear))
