"""The slow path: one question about one or several views, through every stage, to an answer.

    views, instruction -> preprocess -> encoders -> prompt -> decoder -> parse -> deproject -> Answer

The pipeline owns the native handles and belongs to one thread. It draws nothing, prints nothing and knows no camera.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from edge_runtime.bundle import DECODER, Bundle, open_bundle
from edge_runtime.confidence import span_confidence
from edge_runtime.decoder import DEFAULT_UBATCH, Decoder
from edge_runtime.decoder_sequence import KvType
from edge_runtime.deproject import lift, pixel_from_norm
from edge_runtime.encoders import Encoders, available_providers, projected_tiles
from edge_runtime.errors import DepthError, InstructionError
from edge_runtime.grammar import longest_answer_tokens, points_grammar
from edge_runtime.lanes import Lanes
from edge_runtime.last_media import EncodedMedia, LastMedia, key_of
from edge_runtime.manifest import ImageSpec
from edge_runtime.metrics import StageTimer
from edge_runtime.native_check import decoder_verdict
from edge_runtime.parse import parse_points, parse_text
from edge_runtime.prefill import Prefill
from edge_runtime.preprocess import preprocess_depth, preprocess_rgb, with_max_tiles
from edge_runtime.prompt import ask_for_points, asks_for_points, check_instruction, compose, normalise, parts_of
from edge_runtime.provider_choice import choose_provider
from edge_runtime.providers import fallbacks
from edge_runtime.records import (
    F32,
    F64,
    Answer,
    DecoderSegment,
    DepthPart,
    EmbedSegment,
    FrameStamp,
    Generation,
    ImagePart,
    MediaBlock,
    MetricDepth,
    Modality,
    ParsedAnswer,
    Part,
    PointedAt,
    PointM,
    Prompt,
    SpecialToken,
    TextRun,
    TokenSegment,
    View,
    ViewTiles,
)
from edge_runtime.tuning import Tuning, tuned

MAX_ANSWER_TOKENS = 512


class Referrer(Protocol):
    """Whatever answers questions: the Pipeline in process, or a worker in front of one."""

    def refer(
        self,
        views: Sequence[View],
        instruction: str,
        *,
        raw_prompt: bool = False,
        frame: FrameStamp | None = None,
        base_from_camera: F64 | None = None,
    ) -> Answer:
        """Answer one question about the views."""


@dataclass(frozen=True)
class Reply:
    """What the model wrote for a list of parts, before it is read."""

    prompt: Prompt
    generation: Generation
    reused: tuple[str, ...] = ()  # stages that had been done for the question before


class Pipeline:
    """A bundle with its encoders and decoder loaded.

    Example:
        with Pipeline.open(bundle_path) as pipeline:
            answer = pipeline.refer([View(rgb)], "the red cup")
    """

    def __init__(
        self,
        bundle: Bundle,
        spec: ImageSpec,
        encoders: Encoders,
        decoder: Decoder,
        owned: ExitStack,
        *,
        remembers: bool = False,
        side_by_side: bool = True,
    ) -> None:
        self.bundle = bundle
        self.encoders = encoders
        self.decoder = decoder
        self._spec = self._opened_spec = spec
        self._owned = owned
        self._lanes = Lanes(side_by_side=side_by_side)
        self._owned.callback(self._lanes.close)
        self._last = LastMedia() if remembers else None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        max_tiles: int | None = None,
        providers: Sequence[str] | None = None,
        n_threads: int | None = None,
        kv_type: KvType | None = None,
        remembers: bool = False,
    ) -> "Pipeline":
        """Open a bundle and load its networks, with what `doctor --tune` found for this machine.

        Args:
            path: The bundle folder.
            max_tiles: Tile budget per picture; default: the manifest's.
            providers: ONNX Runtime execution providers, best first; default: the tuned or the chosen one.
            n_threads: Threads of each native library; default: the tuned or the useful ones.
            kv_type: Type of the decoder's key-value cache; default: the tuned one, else f16.
            remembers: Keep what was made of the last pictures and prompt: asking about the same frame again is
                then cheap, and the last digits of a confidence depend on what was asked before.

        Raises:
            BundleError: The bundle is not whole.
            ConfigError: The tile budget or a provider is impossible.
            InferenceError: The native libraries do not work on this machine.
        """
        bundle = open_bundle(path)
        tuning = tuned(bundle)
        if providers is None:
            best = tuning.provider or choose_provider(bundle)
            providers = fallbacks(best, available_providers())
        return cls.of_bundle(
            bundle, max_tiles=max_tiles, providers=providers, n_threads=n_threads, kv_type=kv_type,
            tuning=tuning, remembers=remembers,
        )  # fmt: skip

    @classmethod
    def of_bundle(
        cls,
        bundle: Bundle,
        *,
        max_tiles: int | None = None,
        providers: Sequence[str] | None = None,
        n_threads: int | None = None,
        kv_type: KvType | None = None,
        tuning: Tuning | None = None,
        remembers: bool = False,
    ) -> "Pipeline":
        """The same for a bundle whose files are known to be good; nothing is looked up, encoders default to the CPU."""
        use = (tuning or Tuning()).with_asked(n_threads=n_threads, kv_type=kv_type)
        spec = with_max_tiles(bundle.manifest.image, max_tiles)
        verdict = decoder_verdict(bundle.file(DECODER))
        with ExitStack() as stack:
            encoders = stack.enter_context(Encoders.open(bundle, providers=providers, n_threads=use.encoder_threads))
            decoder = stack.enter_context(
                Decoder.open(
                    bundle.file(DECODER),
                    stop_ids=bundle.manifest.tokens.stop,
                    n_threads=use.decode_threads,
                    n_prefill_threads=use.prefill_threads,
                    n_ubatch=use.ubatch or DEFAULT_UBATCH,
                    kv_type=use.kv_type or "f16",
                    use_extra_bufts=verdict.use_extra_bufts,
                    keeps_prompt=remembers,
                    reader=Prefill.open(bundle, n_threads=use.prefill_threads),
                )
            )
            return cls(
                bundle, spec, encoders, decoder, stack.pop_all(), remembers=remembers,
                side_by_side=use.side_by_side and not encoders.fills_processors,
            )  # fmt: skip

    def __enter__(self) -> "Pipeline":
        """Return itself; leaving the block frees the networks."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the networks."""
        self.close()

    def close(self) -> None:
        """Free the networks; the pipeline cannot be used afterwards."""
        self._owned.close()

    def limit_tiles(self, max_tiles: int | None) -> None:
        """Use another tile budget per picture from now on; None: the one it was opened with.

        Raises:
            ConfigError: The budget is impossible.
        """
        spec = self._opened_spec if max_tiles is None else with_max_tiles(self.bundle.manifest.image, max_tiles)
        if spec != self._spec:
            self._spec = spec
            self._last = LastMedia() if self._last else None

    def refer(
        self,
        views: Sequence[View],
        instruction: str,
        *,
        raw_prompt: bool = False,
        grammar: bool = True,
        frame: FrameStamp | None = None,
        base_from_camera: F64 | None = None,
        max_tokens: int | None = None,
    ) -> Answer:
        """Answer one question.

        A model without depth input is asked about the picture alone; depth still lifts its points to metres.

        Args:
            views: The pictures asked about, each with or without depth; points are pixels of the first one.
            instruction: The operator's sentence.
            raw_prompt: Send the sentence unchanged instead of appending the request for points.
            grammar: Make malformed coordinates impossible when points are asked for.
            frame: Identity of the first view; default: its size with id 0.
            base_from_camera: float [4, 4], takes camera points to the robot's base.
            max_tokens: Longest answer; default: what the grammar needs at most, else `MAX_ANSWER_TOKENS`.

        Raises:
            InstructionError: Empty, not text, longer than the context, or no view to ask about.
            DepthError: Some views have depth and others have not, or the model takes none.
            InferenceError: Native code failed.
        """
        timer = StageTimer()
        _check_views(views)
        check_instruction(instruction)
        asked = views if self.bundle.manifest.image.depth else _without_depth(views)
        template = self.bundle.manifest.prompt
        text = instruction if raw_prompt else ask_for_points(instruction, template)
        wants_points = not raw_prompt or asks_for_points(text, template)
        reply = self.answer_parts(
            parts_of(asked, text), grammar=grammar and wants_points, max_tokens=max_tokens, timer=timer
        )
        with timer.stage("parse"):
            written = reply.generation
            complete = written.stopped
            parsed = parse_points(written.text, complete=complete) if wants_points else parse_text(written.text)
            points = tuple(self._located(views[0], written, parsed, base_from_camera))
        rgb = views[0].rgb
        return Answer(
            kind=parsed.kind,
            answer=written.text.strip(),
            valid=parsed.valid,
            reason=parsed.reason,
            points=points,
            steps=parsed.steps,
            depth_source=views[0].depth.source if views[0].depth else "none",
            timings_ms=timer.timings_ms(),
            prompt_tokens=written.prompt_tokens,
            generated_tokens=len(written.token_ids),
            bundle=self.bundle.manifest.name,
            reused=reply.reused,
            frame=frame or FrameStamp(id=0, width=rgb.shape[1], height=rgb.shape[0]),
        )

    def answer_parts(
        self,
        parts: Sequence[Part],
        *,
        grammar: bool,
        max_tokens: int | None = None,
        timer: StageTimer | None = None,
    ) -> Reply:
        """What the model writes for text and media in any order; the general form behind `refer`.

        Raises:
            InstructionError: The prompt is longer than the context.
            DepthError: The model has no depth input.
            InferenceError: Native code failed.
        """
        timer = timer or StageTimer()
        media, prompt, known = self._media(parts, timer)
        segments = self.decoder_segments(prompt, media.image_blocks, media.depth_blocks)
        longest = max_tokens or (longest_answer_tokens() if grammar else MAX_ANSWER_TOKENS)
        generation = self.decoder.generate(segments, max_tokens=longest, grammar=points_grammar() if grammar else None)
        timer.add("prefill", generation.prefill_ms)
        timer.add("decode", generation.decode_ms)
        return Reply(prompt=prompt, generation=generation, reused=_reused(media, generation) if known else ())

    def _media(self, parts: Sequence[Part], timer: StageTimer) -> tuple[EncodedMedia, Prompt, bool]:
        """The pictures, encoded, and the prompt around them; and whether they were known from the question before."""
        with timer.stage("preprocess"):
            key = key_of(parts) if self._last else b""
            known = self._last.find(key) if self._last else None
            images, depths = (known.images, known.depths) if known else self.tiles(parts)
            prompt = self.prompt(parts, images, depths)
            self.decoder.check_room(self._prompt_tokens(prompt, images, depths))  # before the encoders' long work
        if known:
            return known, prompt, True
        media = EncodedMedia(images, depths, *self.encoded(images, depths, timer))
        if self._last:
            self._last.keep(key, media)
        return media, prompt, False

    # --- the stages, one by one, for checks and parity ------------------------------------------------

    def tiles(self, parts: Sequence[Part]) -> tuple[list[ViewTiles], list[ViewTiles]]:
        """Tiles of all images and of all depth pictures."""
        spec, depth_spec = self._spec, self.bundle.manifest.depth
        return self._lanes.both(
            lambda: [preprocess_rgb(p.rgb, spec) for p in parts if isinstance(p, ImagePart)],
            lambda: [preprocess_depth(p.depth, spec, depth_spec) for p in parts if isinstance(p, DepthPart)],
        )

    def encoded(
        self, images: Sequence[ViewTiles], depths: Sequence[ViewTiles], timer: StageTimer
    ) -> tuple[list[F32], list[F32]]:
        """Embeddings of all images and of all depth pictures, float32 [n, D] blocks in prompt order."""

        def encode(stage: str, modality: Modality, views: Sequence[ViewTiles]) -> list[F32]:
            with timer.stage(stage):
                return self.encoders.encode(modality, views)

        return self._lanes.both(
            lambda: encode("rgb_encoder", "image", images), lambda: encode("depth_encoder", "depth", depths)
        )

    def prompt(self, parts: Sequence[Part], images: Sequence[ViewTiles], depths: Sequence[ViewTiles]) -> Prompt:
        """The prompt for parts whose tiles are known."""
        return compose(
            parts,
            mode=self._spec.mode,
            image_tiles=[len(v.pixels) for v in images],
            depth_tiles=[len(v.pixels) for v in depths],
            tokens=self.bundle.manifest.tokens,
            template=self.bundle.manifest.prompt,
        )

    def decoder_segments(
        self, prompt: Prompt, image_blocks: Sequence[F32], depth_blocks: Sequence[F32]
    ) -> list[DecoderSegment]:
        """Tokens and embeddings in prompt order; each media block is followed by a newline token."""
        tokens = self.bundle.manifest.tokens
        blocks: dict[Modality, Iterator[F32]] = {"image": iter(image_blocks), "depth": iter(depth_blocks)}
        segments: list[DecoderSegment] = []
        for segment in prompt.segments:
            if isinstance(segment, MediaBlock):
                segments += [EmbedSegment(next(blocks[segment.modality])), _token(tokens.newline)]
            elif isinstance(segment, SpecialToken):
                segments.append(_token(tokens.special[segment.name]))
            else:
                segments.append(TokenSegment(self.decoder.tokenize(normalise(segment.text, tokens))))
        return list(_joined(segments))

    def _prompt_tokens(self, prompt: Prompt, images: Sequence[ViewTiles], depths: Sequence[ViewTiles]) -> int:
        """How many rows the decoder will be fed."""
        tiles = sum(projected_tiles(view, self._spec) for view in [*images, *depths])
        runs = (normalise(s.text, self.bundle.manifest.tokens) for s in prompt.segments if isinstance(s, TextRun))
        others = sum(not isinstance(s, TextRun) for s in prompt.segments)  # a special token, or a block's newline
        return (
            tiles * self.bundle.manifest.dims.tokens_per_tile
            + others
            + sum(len(self.decoder.tokenize(run)) for run in runs)
        )

    def _located(
        self, view: View, written: Generation, parsed: ParsedAnswer, base_from_camera: F64 | None
    ) -> Iterator[PointedAt]:
        height, width = view.rgb.shape[:2]
        for point in parsed.points:
            px = pixel_from_norm((point.x, point.y), width, height)
            yield PointedAt(
                norm=(point.x, point.y),
                px=px,
                position=_position(view, px, base_from_camera),
                confidence=span_confidence(written, point.span),
            )


def _reused(media: EncodedMedia, generation: Generation) -> tuple[str, ...]:
    """Stages that were skipped, or (prefill) as good as skipped, for pictures that were known."""
    encoders = [name for name, tiles in (("rgb_encoder", media.images), ("depth_encoder", media.depths)) if tiles]
    prefill = ["prefill"] if 2 * generation.reused_tokens > generation.prompt_tokens else []
    return ("preprocess", *encoders, *prefill)


def _position(view: View, px: tuple[int, int], base_from_camera: F64 | None) -> PointM:
    """The point in metres; only metric depth can give it."""
    if view.depth is None:
        return PointM(camera_m=None, depth_reason="no_depth")
    if not isinstance(view.depth, MetricDepth) or view.depth.source == "estimated":
        return PointM(camera_m=None, depth_reason="relative_depth")
    if view.intrinsics is None:
        return PointM(camera_m=None, depth_reason="no_intrinsics")
    return lift(px, view.depth.depth_m, view.intrinsics, base_from_camera=base_from_camera)


def _without_depth(views: Sequence[View]) -> list[View]:
    return [replace(view, depth=None) for view in views]


def _check_views(views: Sequence[View]) -> None:
    if not views:
        raise InstructionError("no picture to ask about: pass at least one view")
    with_depth = sum(v.depth is not None for v in views)
    if with_depth not in (0, len(views)):
        raise DepthError(f"{with_depth} of {len(views)} views have depth: give depth for all of them or for none")


def _token(token_id: int) -> TokenSegment:
    return TokenSegment(np.array([token_id], np.int32))


def _joined(segments: Sequence[DecoderSegment]) -> Iterator[DecoderSegment]:
    """Neighbouring tokens as one segment: fewer, larger batches for the decoder."""
    held: list[TokenSegment] = []
    for segment in segments:
        if isinstance(segment, TokenSegment):
            held.append(segment)
            continue
        if held:
            yield TokenSegment(np.concatenate([s.ids for s in held]))
            held = []
        yield segment
    if held:
        yield TokenSegment(np.concatenate([s.ids for s in held]))
