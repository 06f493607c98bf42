"""What starts training on many machines: scripts run or checked, configs read by accelerate's own reader."""

import itertools
import json
import os
import subprocess
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils.deepspeed import HfDeepSpeedConfig

from tests.contracts.readme_tree import REPOSITORY
from train.model.projector import Projector
from train.stages.settings import Settings

LAUNCH = REPOSITORY / "train" / "stages" / "launch"


@pytest.mark.parametrize("script", ["slurm.sh", "multi_host.sh"])
def test_scripts_are_whole(script: str) -> None:
    text = (LAUNCH / script).read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert (LAUNCH / script).stat().st_mode & 0o100
    subprocess.run(["bash", "-n", LAUNCH / script], check=True)


def stub(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """Commands of a cluster that only say what they were told."""
    stub(tmp_path, "torchrun", 'printf "%s\\n" "$@"')
    stub(tmp_path, "scontrol", "echo node-a; echo node-b")
    stub(tmp_path, "srun", 'shift; SLURM_NODEID=1 exec "$@"')
    stub(tmp_path, "nvidia-smi", "echo GPU 0; echo GPU 1")
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}


def told(script: str, environment: dict[str, str]) -> list[str]:
    done = subprocess.run(
        [LAUNCH / script, "sft", "a folder", "data"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_host_starts_a_process_for_each_gpu(cluster: dict[str, str]) -> None:
    words = told("multi_host.sh", {**cluster, "NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1"})
    pairs = dict(itertools.pairwise(words))
    assert (pairs["--nnodes"], pairs["--node-rank"], pairs["--nproc-per-node"]) == ("2", "1", "2")
    assert pairs["--master-addr"] == "10.0.0.1"
    assert words[-5:] == ["roborefer-edge", "train", "sft", "a folder", "data"]


def test_a_host_that_is_not_told_enough_says_so(cluster: dict[str, str]) -> None:
    done = subprocess.run([LAUNCH / "multi_host.sh", "sft"], env=cluster, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "NNODES: how many machines" in done.stderr


def test_slurm_starts_the_same_on_every_node(cluster: dict[str, str]) -> None:
    job = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node-[a-b]",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "8",
        "SLURM_SUBMIT_DIR": str(REPOSITORY),
    }
    words = told("slurm.sh", {**cluster, **job})
    pairs = dict(itertools.pairwise(words))
    assert (pairs["--nnodes"], pairs["--node-rank"], pairs["--nproc-per-node"]) == ("2", "1", "8")
    assert pairs["--master-addr"] == "node-a"
    assert words[-5:] == ["roborefer-edge", "train", "sft", "a folder", "data"]


@pytest.mark.parametrize(("name", "kind"), [("fsdp.yaml", "FSDP"), ("zero3.yaml", "DEEPSPEED")])
def test_accelerate_reads_its_configs(name: str, kind: str) -> None:
    config = load_config_from_file(str(LAUNCH / name))
    assert str(getattr(config.distributed_type, "value", config.distributed_type)) == kind
    assert "NOT RUN" in (LAUNCH / name).read_text()


def test_fsdp_wraps_layers_that_exist() -> None:
    from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
    from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer

    config = load_config_from_file(str(LAUNCH / "fsdp.yaml")).fsdp_config
    names = {layer.__name__ for layer in (Qwen2DecoderLayer, SiglipEncoderLayer, Projector)}
    assert set(config["fsdp_transformer_layer_cls_to_wrap"].split(",")) == names


def test_zero3_leaves_to_the_preset_what_is_its() -> None:
    path = load_config_from_file(str(LAUNCH / "zero3.yaml")).deepspeed_config["deepspeed_config_file"]
    config = HfDeepSpeedConfig(json.loads((REPOSITORY / path).read_text()))
    assert config.is_zero3()
    by_preset = {key for key, value in config.config.items() if value == "auto"}
    assert {"gradient_accumulation_steps", "gradient_clipping", "train_micro_batch_size_per_gpu"} <= by_preset
    # what accelerate would fill in from `model.config`, which our module has not, must not be left to it
    assert "auto" not in config.get_value("zero_optimization").values()
    assert Settings.__dataclass_fields__["max_grad_norm"].default == 1.0
