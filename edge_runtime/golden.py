"""Golden cases: small questions that travel inside a bundle, with what the full-precision model computed for them.

`export` writes `golden.npz`; `check` reads it on the robot, runs the same questions through every stage and compares.
Large arrays are stored as samples, so the file stays small for the real models too. No torch here, no pickle.

Keys of the archive, for case i (texts are UTF-8 bytes in uint8 arrays):

```
case<i>/name, case<i>/instruction, case<i>/prompt_text      uint8 [n]
case<i>/rgb                                                  uint8 [H, W, 3]
case<i>/depth_m                                              float32 [H, W] metres, NaN = hole; absent: RGB only
case<i>/prompt_ids                                           int32 [S], one placeholder id per media block
case<i>/greedy_ids                                           int32 [n], includes the stop token if one was reached
case<i>/margins                                              float32 [n], logit gap between best and second best
case<i>/<array>  <array>.shape  <array>.stride  <array>.scale    one sampled array, see `Sampled`
```
`<array>` is `pixels_<m>` [T, 3, h, w], `features_<m>` [T, N, C], `embeds_<m>` [blocks * n, D] for modality
`<m>` (image, depth), and `logits` [greedy ids, V], teacher-forced.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import gcd, prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import BundleInvalid
from edge_runtime.records import F32, I32, MetricDepth, Modality, View

# Values kept of one array; a case of the largest model then takes about a quarter of a megabyte.
SAMPLE_VALUES = 8192

STAGES = ("pixels", "features", "embeds")
MODALITIES: tuple[Modality, ...] = ("image", "depth")


@dataclass(frozen=True)
class Sampled:
    """Every stride-th value of an array, with what is needed to compare the whole one."""

    shape: tuple[int, ...]
    stride: int
    scale: float  # largest absolute value of the whole array
    values: F32  # array.ravel()[::stride]

    @classmethod
    def of(cls, array: F32, *, limit: int = SAMPLE_VALUES) -> "Sampled":
        """Sample an array; the stride shares no factor with any axis, so every channel is met."""
        stride = max(1, -(-array.size // limit))
        while stride > 1 and any(gcd(stride, length) > 1 for length in array.shape if length > 1):
            stride += 1
        values = np.ascontiguousarray(array, np.float32).ravel()[::stride]
        return cls(array.shape, stride, float(np.abs(array).max(initial=0.0)), values)

    def resampled(self, limit: int) -> "Sampled":
        """The same array with fewer values; only a whole one (stride 1) can be sampled again."""
        return Sampled.of(self.values.reshape(self.shape), limit=limit)

    def relative_error(self, found: F32) -> float:
        """max|found - golden| / max|golden|; infinite if the shape differs or a value is no number."""
        if found.shape != self.shape:
            return float("inf")
        gap = float(np.abs(found.ravel()[:: self.stride] - self.values).max(initial=0.0))
        return gap / max(self.scale, 1e-12) if np.isfinite(gap) else float("inf")


@dataclass(frozen=True)
class GoldenCase:
    """One question and every stage's expected output."""

    name: str
    instruction: str  # sent unchanged
    view: View
    prompt_text: str
    prompt_ids: I32  # [S]
    pixels: Mapping[Modality, Sampled]  # [T, 3, h, w]
    features: Mapping[Modality, Sampled]  # [T, N, C], tower output
    embeds: Mapping[Modality, Sampled]  # [sum of block lengths, D], all blocks of the modality in prompt order
    logits: Sampled  # [n, V], row i predicts greedy_ids[i]
    greedy_ids: I32  # [n]
    margins: F32  # [n]

    def resampled(self, limit: int = SAMPLE_VALUES) -> "GoldenCase":
        """The same case with at most about `limit` values of each array."""
        return replace(
            self,
            pixels={m: s.resampled(limit) for m, s in self.pixels.items()},
            features={m: s.resampled(limit) for m, s in self.features.items()},
            embeds={m: s.resampled(limit) for m, s in self.embeds.items()},
            logits=self.logits.resampled(limit),
        )


def write_golden(path: Path, cases: tuple[GoldenCase, ...]) -> None:
    """Write cases as an archive whose bytes depend on nothing else.

    Raises:
        OSError: The disk is full or not writable.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    for index, case in enumerate(cases):
        arrays |= {f"case{index}/{key}": value for key, value in _arrays(case).items()}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def read_golden(path: Path) -> tuple[GoldenCase, ...]:
    """Read the cases of a bundle's `golden.npz`.

    Raises:
        BundleInvalid: Not such an archive, or an array is missing.
    """
    try:
        arrays = read_arrays(path)
        count = len({name.partition("/")[0] for name in arrays})
        return tuple(_case(_below(arrays, f"case{i}/")) for i in range(count))
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise BundleInvalid(f"{path} holds no golden values ({error!r}); export the bundle again") from error


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Every array of an archive; raises what numpy and zipfile raise on a damaged one."""
    # opened here because numpy leaks the file when it is no archive
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _below(arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _arrays(case: GoldenCase) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {
        "name": _bytes(case.name),
        "instruction": _bytes(case.instruction),
        "prompt_text": _bytes(case.prompt_text),
        "rgb": case.view.rgb,
        "prompt_ids": case.prompt_ids,
        "greedy_ids": case.greedy_ids,
        "margins": case.margins,
        **sampled_arrays("logits", case.logits),
    }
    if isinstance(case.view.depth, MetricDepth):
        arrays["depth_m"] = case.view.depth.depth_m
    for stage, samples in zip(STAGES, (case.pixels, case.features, case.embeds), strict=True):
        for modality, sample in samples.items():
            arrays |= sampled_arrays(f"{stage}_{modality}", sample)
    return arrays


def _case(arrays: Mapping[str, npt.NDArray[Any]]) -> GoldenCase:
    pixels, features, embeds = (_by_modality(arrays, stage) for stage in STAGES)
    depth = MetricDepth(arrays["depth_m"]) if "depth_m" in arrays else None
    return GoldenCase(
        name=_text(arrays["name"]),
        instruction=_text(arrays["instruction"]),
        view=View(arrays["rgb"], depth),
        prompt_text=_text(arrays["prompt_text"]),
        prompt_ids=arrays["prompt_ids"],
        pixels=pixels,
        features=features,
        embeds=embeds,
        logits=sampled_of(arrays, "logits"),
        greedy_ids=arrays["greedy_ids"],
        margins=arrays["margins"],
    )


def _by_modality(arrays: Mapping[str, npt.NDArray[Any]], stage: str) -> dict[Modality, Sampled]:
    return {m: sampled_of(arrays, f"{stage}_{m}") for m in MODALITIES if f"{stage}_{m}" in arrays}


def sampled_arrays(name: str, sample: Sampled) -> dict[str, npt.NDArray[Any]]:
    """The arrays that stand for a sampled one in an archive."""
    return {
        name: sample.values,
        f"{name}.shape": np.array(sample.shape, np.int64),
        f"{name}.stride": np.array(sample.stride, np.int64),
        f"{name}.scale": np.array(sample.scale, np.float64),
    }


def sampled_of(arrays: Mapping[str, npt.NDArray[Any]], name: str) -> Sampled:
    """What `sampled_arrays` wrote.

    Raises:
        KeyError, ValueError: It is not there, or does not fit itself.
    """
    shape = tuple(int(n) for n in arrays[f"{name}.shape"])
    stride, values = int(arrays[f"{name}.stride"]), arrays[name]
    if stride < 1 or values.shape != (-(-prod(shape) // stride),):
        raise ValueError(f"{name}: {values.shape} values do not sample {shape} at stride {stride}")
    return Sampled(shape, stride, float(arrays[f"{name}.scale"]), values)


def _bytes(text: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(text.encode("utf-8"), np.uint8)


def _text(array: npt.NDArray[Any]) -> str:
    return bytes(array).decode("utf-8")
