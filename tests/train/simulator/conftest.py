"""One renderer and a few dozen samples for all simulator tests; drawing them takes about three seconds."""

import pytest

from train.simulator.assets import CORE_NOUNS, library
from train.simulator.render import Renderer
from train.simulator.sample import Sample, draw_sample

RASTER = (224, 224)
SEED = 1
COUNT = 60


@pytest.fixture(scope="session")
def renderer():
    with Renderer(library(CORE_NOUNS, held_out=False), width=320, height=240) as renderer:
        yield renderer


@pytest.fixture(scope="session")
def samples(renderer) -> list[Sample]:
    return [draw_sample(renderer, SEED, index, raster=RASTER) for index in range(COUNT)]
