"""The processes that train together: one, several with whole copies (DDP), or several that share the weights.

The door to accelerate and to torch's fully_shard. What a launcher asks accelerate for (its FSDP or DeepSpeed ZeRO) is
taken as it comes; `sharding = fully_shard` does without, and runs on CPUs too. Whichever it is, a step means the same:
gradients of the sum over all passes of all processes.

Not run by us: accelerate's own FSDP and DeepSpeed, which need GPUs.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import (
    DistributedType,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    broadcast_object_list,
)
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from train.stages.arithmetic import accumulation_of
from train.stages.collate import Inputs
from train.stages.learning import set_rate
from train.stages.settings import Settings

log = logging.getLogger(__name__)

# One process indexes a file of several GB, hashes or writes a checkpoint while the others wait for it.
GROUP_TIMEOUT = timedelta(hours=1)


class Engine:
    """This process among those that train together.

    Args:
        settings: Of the run.
        trackers: "tensorboard", "wandb".
        folder: Where trackers write.

    Raises:
        ConfigError: The global batch cannot be shared out over so many processes.
    """

    def __init__(self, settings: Settings, *, trackers: tuple[str, ...] = (), folder: Path | None = None) -> None:
        on_cpu = not torch.cuda.is_available()
        alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
        state = PartialState(cpu=on_cpu, **({} if alone else {"timeout": GROUP_TIMEOUT}))
        self.processes, self.process = int(state.num_processes), int(state.process_index)
        self.settings, self.accumulation = settings, accumulation_of(settings, self.processes)
        self._accelerator = Accelerator(
            cpu=on_cpu,
            mixed_precision="no" if settings.precision == "fp32" else "bf16",
            gradient_accumulation_plugin=GradientAccumulationPlugin(
                num_steps=self.accumulation, sync_with_dataloader=False
            ),
            kwargs_handlers=[] if alone else [InitProcessGroupKwargs(timeout=GROUP_TIMEOUT)],
            log_with=list(trackers) or None,
            project_dir=folder,
        )
        self.device = self._accelerator.device
        self.kind = self._kind()
        self.model: nn.Module | None = None
        self._optimizer: Any = None
        self._tracking = False

    def _kind(self) -> str:
        by_launcher = {DistributedType.FSDP: "accelerate_fsdp", DistributedType.DEEPSPEED: "deepspeed"}
        kind = by_launcher.get(self._accelerator.distributed_type)
        if kind is not None:
            return kind
        if self.settings.sharding == "fully_shard" and self.processes > 1:
            return "fully_shard"
        return "alone" if self.processes == 1 else "ddp"

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks to people."""
        return self.process == 0

    @property
    def pixel_dtype(self) -> torch.dtype:
        """Of tiles on their way to the network."""
        return torch.float32 if self.settings.precision == "fp32" else torch.bfloat16

    # --- model and optimizer ----------------------------------------------------------------------------

    def take(self, model: nn.Module, make_optimizer: Any) -> nn.Module:
        """Put a model on the devices.

        Args:
            model: The same on every process.
            make_optimizer: Of the model as it then is.

        Returns:
            What to call; `self.model` too.
        """
        model.train()
        if self.kind == "fully_shard":
            self.model = self._shard(model)  # unit after unit is moved to the device and cut
            self._optimizer = make_optimizer(self.model)
            return self.model
        if self.kind == "deepspeed":
            plan = self._accelerator.state.deepspeed_plugin.deepspeed_config
            plan["train_micro_batch_size_per_gpu"] = self.settings.per_device_batch
            plan["gradient_clipping"] = self.settings.max_grad_norm
        self.model, self._optimizer = self._accelerator.prepare(model, make_optimizer(model))
        return self.model

    def _shard(self, model: nn.Module) -> nn.Module:
        """Every layer is a unit of its own, what is left over is one more."""
        mesh = init_device_mesh(self.device.type, (self.processes,))
        half = torch.bfloat16 if self.settings.precision == "bf16" else None
        policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32 if half else None)
        for unit in _units(model):
            fully_shard(unit, mesh=mesh, mp_policy=policy)
        # Modules of the root are used outside their own forward (embeddings), so it stays whole during a pass.
        fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
        return model

    # --- a step -----------------------------------------------------------------------------------------

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """Around each pass of a step: gradients are exchanged at the last one only."""
        assert self.model is not None
        if self.kind == "fully_shard":
            with self._accelerator.accumulate():
                self.model.set_requires_gradient_sync(self._accelerator.sync_gradients)  # type: ignore[operator]
                yield
        else:
            with self._accelerator.accumulate(self.model):
                yield

    def backward(self, share: Tensor) -> None:
        """Gradients of this process's share of a sum over all passes and processes."""
        # Processes' gradients are averaged and passes' as well; a sum is wanted.
        self._accelerator.backward(share * self.processes * self.accumulation)

    def step(self, rate: float) -> float:
        """Move the weights and clear gradients; returns the gradients' norm before it was clipped."""
        assert self.model is not None
        set_rate(self._optimizer, rate)
        learning = [p for p in self.model.parameters() if p.requires_grad]
        if self.kind == "deepspeed":
            # DeepSpeed clips by itself and may not know the norm
            norm = self._accelerator.clip_grad_norm_(learning, self.settings.max_grad_norm)
            norm = torch.zeros(()) if norm is None else torch.as_tensor(norm)
        else:
            norm = nn.utils.clip_grad_norm_(learning, self.settings.max_grad_norm)
        if not bool(torch.isfinite(_whole(norm))):
            return float("nan")
        self._optimizer.step()
        self._optimizer.zero_grad()
        return float(_whole(norm))

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        if self.processes == 1:
            return float(value)
        number = torch.tensor(value, dtype=torch.float64 if self.device.type == "cpu" else torch.float32)
        return float(self._accelerator.reduce(number.to(self.device), "sum"))

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of passes, for models that were not taken."""
        context: AbstractContextManager[None] = self._accelerator.autocast()
        return context

    def to_device(self, inputs: Inputs) -> Inputs:
        """The tensors of a pass where the model is."""
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in inputs.items()}

    # --- what is kept -----------------------------------------------------------------------------------

    def gathered_weights(self) -> dict[str, Tensor]:
        """All weights by their names in the model, whole, on the main process's CPU; empty on the others."""
        assert self.model is not None
        if self.kind == "deepspeed":
            state = self._accelerator.get_state_dict(self.model)
        elif self.kind in ("fully_shard", "accelerate_fsdp"):
            state = get_model_state_dict(self.model, options=_GATHERED)
        else:
            state = self.plain_model.state_dict()
        return {n: t.detach().cpu() for n, t in state.items()} if self.is_main else {}

    def gathered_optimizer(self) -> dict[str, Any]:
        """The optimizer's state by the names of weights, likewise."""
        assert self.model is not None
        if self.settings.optimizer == "adamw_8bit":  # never sharded; its state is of a form of its own
            return dict(self._plain_optimizer.state_dict())
        return get_optimizer_state_dict(self.model, self._plain_optimizer, options=_GATHERED)

    def load(self, weights: Mapping[str, Tensor], optimizer: Mapping[str, Any]) -> None:
        """Take over gathered weights (perhaps only those that learn) and optimizer state."""
        assert self.model is not None
        set_model_state_dict(self.model, dict(weights), options=StateDictOptions(full_state_dict=True, strict=False))
        if self.settings.optimizer == "adamw_8bit":
            self._plain_optimizer.load_state_dict(dict(optimizer))
            return
        set_optimizer_state_dict(
            self.model, self._plain_optimizer, dict(optimizer), options=StateDictOptions(full_state_dict=True)
        )

    def save_sharded(self, folder: Path) -> None:
        """DeepSpeed's own state, written by all processes."""
        self._accelerator.save_state(str(folder))

    def load_sharded(self, folder: Path) -> None:
        """What `save_sharded` wrote."""
        self._accelerator.load_state(str(folder))

    @property
    def plain_model(self) -> nn.Module:
        """The model without what processes are wrapped around it."""
        assert self.model is not None
        return self.model if self.kind == "fully_shard" else self._accelerator.unwrap_model(self.model)

    @property
    def _plain_optimizer(self) -> torch.optim.Optimizer:
        return getattr(self._optimizer, "optimizer", self._optimizer)

    # --- together ---------------------------------------------------------------------------------------

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process goes through the block before the others."""
        with self._accelerator.main_process_first():
            yield

    def from_main(self, value: Any) -> Any:
        """The main process's value, on every process."""
        if self.processes == 1:
            return value
        shared = [value]
        broadcast_object_list(shared, from_process=0)
        return shared[0]

    def wait(self) -> None:
        """Until all processes are here."""
        self._accelerator.wait_for_everyone()

    def track(self, project: str, config: Mapping[str, Any]) -> None:
        """Open the trackers."""
        plain = {k: v if isinstance(v, int | float | str) else str(v) for k, v in config.items()}
        self._accelerator.init_trackers(project, config=plain)
        self._tracking = True

    def note(self, figures: Mapping[str, float], step: int) -> None:
        """Give trackers the figures of a step."""
        self._accelerator.log(dict(figures), step=step)

    def close(self) -> None:
        """Close trackers and leave the group."""
        if self._tracking:
            self._accelerator.end_training()
        else:
            self._accelerator.state.destroy_process_group()
        # accelerate's state outlives its objects; the next engine of this process may want another precision
        AcceleratorState._reset_state(reset_partial_state=True)  # noqa: SLF001
        GradientState._reset_state()  # noqa: SLF001


_GATHERED = StateDictOptions(full_state_dict=True, cpu_offload=True)


def _units(model: nn.Module) -> Iterator[nn.Module]:
    """Layers and projectors."""
    vlm: Any = model.model
    yield from vlm.llm.model.layers
    for tower in (vlm.vision_tower, vlm.depth_tower):
        if tower is not None:
            yield from tower.vision_model.encoder.layers
    for projector in (vlm.mm_projector, vlm.depth_projector):
        if projector is not None:
            yield projector


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if hasattr(value, "full_tensor") else value
