"""What llama.cpp multiplies, seen while it evaluates: the same numbers that torch computes, summed per channel."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_runtime.bundle import DECODER, Bundle
from edge_runtime.check import check_bundle
from edge_runtime.errors import BundleInvalid, DataError, InferenceError
from edge_runtime.records import EmbedSegment, TokenSegment
from quantize import ggml_tensor
from quantize.activation_sums import ActivationSums, collect, hessian_passes, imatrix_of
from quantize.assemble import CalibrationRequest, quantize_bundle
from quantize.calibration import CalibrationSet
from quantize.decoder_files import DecoderGiven, write_decoder
from quantize.gguf_quants import DECODER_TYPES
from quantize.gguf_tensors import GgufFile
from quantize.imatrix import ChannelSums, Imatrix
from quantize.prompts import CalibrationPrompt, asked_prompts, most_rows
from quantize.recipes import Recipe, recipe_named
from tests.seeded_gguf import torch_decoder

# torch's module -> llama.cpp's weight
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip


@pytest.fixture(scope="module")
def prompts(parent: Bundle, calibration: CalibrationSet) -> tuple[CalibrationPrompt, ...]:
    return asked_prompts(parent, calibration.first(4))


@pytest.fixture(scope="module")
def sums(parent: Bundle, prompts: tuple[CalibrationPrompt, ...]) -> ActivationSums:
    return collect(parent.file(DECODER), prompts)


@torch.no_grad()
def torch_squares(parent: Bundle, prompts: tuple[CalibrationPrompt, ...]) -> dict[str, np.ndarray]:
    """Sums of squares of the input of every linear layer, by torch hooks."""
    model = torch_decoder(parent.path.parent / "checkpoint" / "llm", parent.manifest.dims.vocab_size)
    found: dict[str, np.ndarray] = {}

    def watch(name: str) -> Any:
        def hook(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            rows = inputs[0].reshape(-1, inputs[0].shape[-1]).double().numpy()
            found[name] = found.get(name, 0.0) + np.square(rows).sum(axis=0)

        return hook

    handles = [
        layer.get_submodule(part).register_forward_pre_hook(watch(f"blk.{i}.{NAMES[part]}.weight"))
        for i, layer in enumerate(model.model.layers)
        for part in NAMES
    ]
    embed = model.get_input_embeddings()
    for prompt in prompts:
        rows = [
            torch.from_numpy(s.embeds) if isinstance(s, EmbedSegment) else embed(torch.from_numpy(s.ids).long())
            for s in [*prompt.segments, TokenSegment(np.array(prompt.answer_ids[:-1], np.int32))]
        ]
        model(inputs_embeds=torch.cat(rows)[None])
    for handle in handles:
        handle.remove()
    return found


def test_sums_are_those_that_torch_computes(
    parent: Bundle, prompts: tuple[CalibrationPrompt, ...], sums: ActivationSums
) -> None:
    found = {name: entry.squares for name, entry in sums.channel_sums().items()}
    expected = torch_squares(parent, prompts)
    last = parent.manifest.dims.decoder_layers - 1
    # llama.cpp computes the last layer's MLP only for rows whose logits are asked; its head is the tied embedding
    assert set(found) == set(expected) | {"token_embd.weight"}
    for name in (name for name in expected if not name.startswith(f"blk.{last}.ffn")):
        assert np.abs(found[name] - expected[name]).max() <= 5e-3 * expected[name].max(), name


def test_weights_that_read_the_same_share_their_sums(sums: ActivationSums) -> None:
    assert len(sums.reads) == 2 * 7 + 1
    assert len(sums.inputs) == 2 * 4 + 1
    assert sums.reads["blk.0.attn_q.weight"] == sums.reads["blk.0.attn_v.weight"]


def test_rows_are_prompt_and_answer(prompts: tuple[CalibrationPrompt, ...], sums: ActivationSums) -> None:
    rows = sum(prompt.rows - 1 for prompt in prompts)  # the last token is an answer, nothing is asked after it
    assert sums.inputs[sums.reads["blk.0.attn_q.weight"]].rows == rows
    head = sums.inputs[sums.reads["token_embd.weight"]].rows
    assert head == sum(len(prompt.answer_ids) for prompt in prompts)
    assert all(any(isinstance(s, EmbedSegment) for s in prompt.segments) for prompt in prompts)


def test_hessians_have_the_squares_on_their_diagonal(
    parent: Bundle, prompts: tuple[CalibrationPrompt, ...], sums: ActivationSums
) -> None:
    wanted = frozenset({sums.reads["blk.0.ffn_down.weight"], sums.reads["blk.1.attn_k.weight"]})
    again = collect(parent.file(DECODER), prompts, hessians_for=wanted)
    for weight in ("blk.0.ffn_down.weight", "blk.1.attn_v.weight"):
        squares = sums.inputs[sums.reads[weight]].squares
        np.testing.assert_allclose(np.diag(again.hessian(weight)), squares, rtol=1e-3, atol=1e-4 * squares.max())
        assert np.linalg.eigvalsh(again.hessian(weight).astype(np.float64)).min() > -1e-3 * squares.max()


def test_passes_hold_what_fits(sums: ActivationSums) -> None:
    weights = [name for name in sums.reads if name.startswith("blk.")]
    at_once = list(hessian_passes(sums, weights))
    one_by_one = list(hessian_passes(sums, weights, limit_bytes=1))
    assert [list(group) for group in at_once] == [weights]
    assert [name for group in one_by_one for name in group] == weights
    assert all(len(set(group.values())) == 1 for group in one_by_one)


def test_activations_that_are_no_numbers_are_named(parent: Bundle, prompts: tuple[CalibrationPrompt, ...]) -> None:
    bad = np.full((2, parent.manifest.dims.decoder_width), np.nan, np.float32)
    broken = CalibrationPrompt("broken", (*prompts[0].segments[:1], EmbedSegment(bad)), (1, 2), "", wants_points=False)
    with pytest.raises((DataError, InferenceError), match="finite"):
        collect(parent.file(DECODER), [broken])


def test_another_layout_of_tensors_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    import llama_cpp.llama_cpp as native

    class Shifted(ctypes.Structure):
        _fields_ = (("extra", ctypes.c_int64), *ggml_tensor._Tensor._fields_)

    monkeypatch.setattr(ggml_tensor, "_Tensor", Shifted)
    with pytest.raises(InferenceError, match="lays its tensors out in another way"):
        ggml_tensor.Ggml(native._lib)


def test_a_file_that_is_no_model_cannot_be_watched(tmp_path: Path, prompts: tuple[CalibrationPrompt, ...]) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(BundleInvalid, match=r"cannot load .*x\.gguf"):
        collect(tmp_path / "x.gguf", prompts)
    assert most_rows(prompts) > 20


# --- what is made of it ----------------------------------------------------------------------------------


def recipe(decoder: str, method: str = "plain") -> Recipe:
    return Recipe("test", "", "fp32", decoder, method, worst_error=1.0)  # type: ignore[arg-type]


def errors_under(parent: Bundle, gguf: Path, sums: ActivationSums) -> float:
    """Energy of the error over that of the products, by channel use, summed over the layers."""
    before, after = GgufFile(parent.file(DECODER)), GgufFile(gguf)
    total = 0.0
    for name, entry in sums.channel_sums().items():
        w, gap = before.values(name), after.values(name) - before.values(name)
        total += float((gap**2 * entry.mean).sum() / (w**2 * entry.mean).sum())
    return total


def outcomes(parent: Bundle, folder: Path, prompts: Any, *recipes: Recipe) -> Iterator[Path]:
    for number, wanted in enumerate(recipes):
        target = folder / f"{number}.gguf"
        write_decoder(parent, target, wanted, prompts)
        yield target


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_K_M", "IQ4_XS"])
def test_an_importance_matrix_lowers_the_weighed_error(
    parent: Bundle, prompts: Any, sums: ActivationSums, tmp_path: Path, kind: str
) -> None:
    plain, weighed = outcomes(parent, tmp_path, prompts, recipe(kind), recipe(kind, "imatrix"))
    assert plain.read_bytes() != weighed.read_bytes()
    assert errors_under(parent, weighed, sums) < errors_under(parent, plain, sums)


def test_gptq_goes_into_q4_0(parent: Bundle, prompts: Any, sums: ActivationSums, tmp_path: Path) -> None:
    outcome = write_decoder(parent, tmp_path / "g.gguf", recipe("Q4_0", "gptq"), prompts)
    assert len(outcome.compensated) == 14
    assert all(weight.error < weight.error_nearest for weight in outcome.compensated)
    assert np.mean([w.error / w.error_nearest for w in outcome.compensated]) < 0.8
    types = {t.name: t.type for t in GgufFile(tmp_path / "g.gguf").tensors}
    assert all(types[weight.name] == "Q4_0" for weight in outcome.compensated)


def test_an_importance_matrix_of_another_model_is_refused(parent: Bundle, tmp_path: Path) -> None:
    narrow = Imatrix({"blk.0.ffn_up.weight": ChannelSums(np.ones(64), 4.0)})
    with pytest.raises(DataError, match=r"of another model: 'blk\.0\.ffn_up\.weight' is 256 wide, the matrix says 64"):
        write_decoder(parent, tmp_path / "x.gguf", recipe("Q4_0", "imatrix"), (), given=DecoderGiven(narrow))
    alien = Imatrix({"encoder.weight": ChannelSums(np.ones(64), 4.0)})
    with pytest.raises(DataError, match="names no weight of this decoder"):
        write_decoder(parent, tmp_path / "x.gguf", recipe("Q4_0", "imatrix"), (), given=DecoderGiven(alien))


def test_an_importance_matrix_from_a_file_saves_the_calibration_data(
    parent: Bundle, prompts: Any, sums: ActivationSums, tmp_path: Path
) -> None:
    matrix = imatrix_of(sums, prompts, "clip")
    assert matrix.chunks == 4
    made = quantize_bundle(parent.path, tmp_path / "out", recipe("Q4_K_M", "imatrix"), given=DecoderGiven(matrix))
    assert check_bundle(made.bundle.path).ok
    assert made.bundle.manifest.lineage.data_sha256 is None


@pytest.mark.parametrize("kind", DECODER_TYPES)
def test_every_decoder_type_passes_check(parent: Bundle, tmp_path: Path, kind: str) -> None:
    made = quantize_bundle(parent.path, tmp_path / "out", recipe(kind))
    report = check_bundle(made.bundle.path)
    assert report.ok, [f for f in report.findings if not f.ok]
    main = kind.removesuffix("_M")
    layers = {t.type for t in GgufFile(made.bundle.file(DECODER)).tensors if t.name.endswith("attn_q.weight")}
    assert layers == {main}


@pytest.mark.slow
def test_gptq_bundles_are_the_same_each_time(parent: Bundle, clip: Path, tmp_path: Path) -> None:
    request = CalibrationRequest(clip, count=4)
    made = [
        quantize_bundle(parent.path, tmp_path / name, recipe_named("smallest"), calibration=request).bundle
        for name in ("one", "two")
    ]
    first, second = ({n: e.sha256 for n, e in b.manifest.files.items()} for b in made)
    assert first == second
