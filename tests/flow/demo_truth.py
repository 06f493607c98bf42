"""Which pixels are right for the demo's instructions, frame by frame; and which instructions a bundle gets right.

The truth is rendered with the clip (`make demo-clip`) and never shipped. To choose instructions for a new bundle:

    python -m train.simulator.clip CLIP --seed 21 --truth truth.npz     # of everything that can be asked
    python -m tests.flow.demo_truth CLIP truth.npz --bundle BUNDLE
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_runtime.frame_view import view_of
from edge_runtime.pipeline import Pipeline
from hardware.camera.open import open_camera
from tests.conftest import REPOSITORY

CLIP = REPOSITORY / "models" / "nano" / "demo"
TRUTH = REPOSITORY / "tests" / "flow" / "demo_truth.npz"

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DemoTruth:
    """Right pixels [frames, H, W] of each instruction."""

    masks: dict[str, Bools]

    def is_hit(self, instruction: str, frame: int, px: tuple[int, int]) -> bool:
        """Whether a pixel (u, v) of a frame is right."""
        u, v = px
        return bool(self.masks[instruction][frame, v, u])


def read_truth(path: Path = TRUTH) -> DemoTruth:
    """What `train.simulator.clip --truth` wrote."""
    with np.load(path) as file:
        masks = np.unpackbits(file["masks"], axis=-1).astype(bool)
        return DemoTruth({str(text): mask for text, mask in zip(file["instructions"], masks, strict=True)})


def judge(clip: Path, truth: DemoTruth, pipeline: Pipeline) -> dict[str, float]:
    """Share of frames whose every point is right, per instruction."""
    frames = []
    with open_camera(str(clip)) as camera:
        assert camera.info.frame_count is not None
        frames += [camera.read() for _ in range(camera.info.frame_count)]
    shares = {}
    for instruction in truth.masks:
        answers = [pipeline.refer([view_of(frame)], instruction) for frame in frames]
        hits = [
            bool(answer.points) and all(truth.is_hit(instruction, k, point.px) for point in answer.points)
            for k, answer in enumerate(answers)
        ]
        shares[instruction] = sum(hits) / len(hits)
    return shares


def main() -> None:
    """Print the share of right answers for every instruction, best first."""
    parser = argparse.ArgumentParser(description="Which instructions does a bundle get right on a clip?")
    parser.add_argument("clip", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--bundle", type=Path, required=True)
    options = parser.parse_args()
    with Pipeline.open(options.bundle) as pipeline:
        shares = judge(options.clip, read_truth(options.truth), pipeline)
    for instruction, share in sorted(shares.items(), key=lambda item: -item[1]):
        sys.stdout.write(f"{share:4.0%}  {instruction}\n")


if __name__ == "__main__":
    main()
