"""The 24-question cut of the sim bench, drawn once from its seeds: some seconds, no files in the repository."""

import pytest

from train.simulate.sim_bench import CUT, BenchMade, write_sim_bench


@pytest.fixture(scope="session")
def cut(tmp_path_factory: pytest.TempPathFactory) -> BenchMade:
    return write_sim_bench(CUT, tmp_path_factory.mktemp("cut") / "bench")
