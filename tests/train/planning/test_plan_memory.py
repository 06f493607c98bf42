"""The planner's bytes against counted ones: weights, gradients, optimizer state, and what small models' passes keep."""

from dataclasses import replace

import pytest
import torch

from tests.train.planning.measured import SMALL, inputs_of, peak_of_a_pass, shape_of, small_model
from train.planning.activations import Numbers, pass_bytes
from train.planning.memory import Weights, gpu_memory, weights_of
from train.planning.shapes import published
from train.seeded import VARIANTS
from train.stages.learning import make_optimizer, set_recomputing
from train.stages.presets import settings_of

# What the planner may be off by against a measured pass; it leaves out what does not grow with the model.
TOLERANCE = 0.15


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("numbers", ["fp32", *(pytest.param(n, marks=pytest.mark.slow) for n in ("autocast", "bf16"))])
def test_activations_of_a_pass_are_as_measured(numbers: Numbers, recomputed: bool) -> None:
    model, shape = small_model()
    set_recomputing(model, recomputed)
    if numbers == "bf16":
        model = model.to(torch.bfloat16)
    inputs, work = inputs_of(model, text=200)
    measured = peak_of_a_pass(model, inputs, numbers)
    planned = pass_bytes(shape, work, numbers, frozenset(shape.parts), recomputed).total
    if numbers == "autocast":
        overrides = [f"learn={','.join(shape.parts)}", "precision=bf16"]
        overrides.append(f"gradient_checkpointing={str(recomputed).lower()}")
        planned += gpu_memory(shape, settings_of("sft_nano", "sft", overrides), work, gpus=1, zero=0).copies
    assert planned == pytest.approx(measured, rel=TOLERANCE)


def test_what_stays_between_passes_is_counted_exactly() -> None:
    model, shape = small_model()
    settings = settings_of("sft_nano", "sft", ["learn=llm,vision_tower,mm_projector,depth_tower,depth_projector"])
    inputs, work = inputs_of(model)
    peak_of_a_pass(model, inputs, "fp32")
    optimizer = make_optimizer(model, settings)
    optimizer.step()
    parameters = list(model.parameters())
    state = sum(t.nbytes for one in optimizer.state.values() for t in one.values() if t.ndim)
    planned = gpu_memory(shape, settings, work, gpus=1, zero=0)
    assert planned.weights == sum(p.nbytes for p in parameters)
    assert planned.gradients == sum(p.grad.nbytes for p in parameters if p.grad is not None)
    assert planned.optimizer == state


@pytest.mark.parametrize("variant", ["dynamic", "resize", "shared", "dynamic_s2", "rgb_only"])
def test_weights_of_every_layout_are_counted_exactly(variant: str) -> None:
    model, shape = small_model(replace(VARIANTS[variant], pooling_head=False))
    for part in shape.parts:
        assert shape.weights_of(part) == sum(p.numel() for p in getattr(model, part).parameters()), part


def test_published_sizes_are_those_of_modules_built_from_them() -> None:
    """On the meta device: no memory."""
    shape = published("2b")
    assert shape_of(VARIANTS["shape_2b"], 151_652) == shape
    config = {
        "architectures": ["Qwen2ForCausalLM"], "hidden_size": 3584, "intermediate_size": 18944, "vocab_size": 151_652,
        "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "tie_word_embeddings": False,
    }  # fmt: skip
    with torch.device("meta"):
        from transformers import Qwen2Config, Qwen2ForCausalLM

        decoder = Qwen2ForCausalLM(Qwen2Config.from_dict(config))
    assert published("8b").decoder.weights == sum(p.numel() for p in decoder.parameters())


@pytest.mark.parametrize("preset", ["sft_2b", "sft_8b", "align_2b", "align_8b"])
def test_sharing_out_never_needs_more_and_divides_what_it_says(preset: str) -> None:
    settings = settings_of(preset, preset.split("_", maxsplit=1)[0])
    shape = published(settings.architecture)
    work = inputs_of(small_model()[0])[1]
    by_zero = [gpu_memory(shape, settings, work, gpus=8, zero=zero) for zero in (0, 1, 2, 3)]
    lasting = [m.weights + m.gradients + m.optimizer for m in by_zero]
    assert lasting == sorted(lasting, reverse=True)
    counts = weights_of(shape, settings)
    # arXiv 1910.02054, figure 1: 2 + 2 + 12 bytes, the last ones of stage 1, the last two of stage 2, all of stage 3
    learning, frozen = counts.learning, counts.frozen * 2
    assert lasting[1] == pytest.approx(learning * (2 + 2 + 12 / 8) + frozen, rel=1e-6)
    assert lasting[2] == pytest.approx(learning * (2 + 2 / 8 + 12 / 8) + frozen, rel=1e-6)
    assert lasting[3] == pytest.approx((learning * 16 + frozen) / 8, rel=1e-6)


def test_align_learns_the_depth_projector_alone() -> None:
    shape = published("2b")
    counts = weights_of(shape, settings_of("align_2b", "align"))
    # LayerNorm 10368, Linear to 3456, LayerNorm, Linear to 1536, Linear to 1536
    projector = 2 * 10368 + (10368 + 1) * 3456 + 2 * 3456 + (3456 + 1) * 1536 + (1536 + 1) * 1536
    assert counts == Weights(projector, sum(map(shape.weights_of, shape.parts)) - projector)


def test_adapters_and_four_bits_shrink_what_they_should() -> None:
    shape, work = published("2b"), inputs_of(small_model()[0])[1]
    full, lora, qlora = (
        gpu_memory(shape, settings_of(f"{name}_2b", "sft"), work, gpus=1, zero=0) for name in ("sft", "lora", "qlora")
    )
    assert full.optimizer > 10 * lora.optimizer > 30 * qlora.optimizer
    assert full.weights > lora.weights > qlora.weights
    linears = shape.decoder.layers * sum(a * b for a, b in shape.decoder.layer_linears)
    assert lora.weights - qlora.weights == pytest.approx(linears * (2 - 0.5625), rel=1e-6)


def test_small_is_large_enough_to_tell() -> None:
    """A formula that forgot the MLP, or the norms, would be off by more than the tolerance."""
    shape = shape_of(SMALL, 600)
    _, work = inputs_of(small_model()[0], text=200)
    whole = pass_bytes(shape, work, "fp32", frozenset(shape.parts), False).total
    thinner = replace(shape, decoder=replace(shape.decoder, mlp=1))
    less = pass_bytes(thinner, work, "fp32", frozenset(shape.parts), False).total
    assert less < (1 - TOLERANCE) * whole
