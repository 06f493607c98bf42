"""Every stage of the torch model against what the reference implementation recorded, from parts to text."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from edge_runtime.records import DepthPart, ImagePart, Modality, Part, RelativeDepth, TextPart
from tests.recordings import GOLDEN, all_cases, arrays, record
from train.checkpoint import Checkpoint, load_checkpoint
from train.inputs import ModelInputs, answer, prepare
from train.model.vision_tower import VisionTower
from train.model.vlm import MediaTiles
from train.specs import context_tokens, token_spec
from train.tokenizer import text_ids

pytestmark = pytest.mark.reference

# Absolute; the reference itself moves by 2.7e-6 and 6.6e-5 between two attention kernels.
EMBED_TOLERANCE = 1e-5
LOGIT_TOLERANCE = 5e-4


@cache
def loaded(variant: str) -> Checkpoint:
    return load_checkpoint(GOLDEN / variant / "checkpoint")


@dataclass(frozen=True)
class Case:
    """One recorded question, and our inputs for it."""

    checkpoint: Checkpoint
    record: dict[str, Any]
    name: str
    variant: str
    parts: list[Part]
    inputs: ModelInputs

    def array(self, field: str) -> Any:
        return arrays(self.variant)[f"{self.name}/{field}"]

    def media(self) -> Iterator[tuple[Modality, MediaTiles]]:
        if self.inputs.images:
            yield "image", self.inputs.images
        if self.inputs.depths:
            yield "depth", self.inputs.depths


def part(kind: str, value: str) -> Part:
    if kind == "text":
        return TextPart(value)
    picture = Image.open(GOLDEN / "images" / value)
    if kind == "image":
        return ImagePart(np.asarray(picture.convert("RGB")))
    return DepthPart(RelativeDepth(np.asarray(picture)))


@pytest.fixture(params=all_cases())
def case(request: pytest.FixtureRequest) -> Case:
    variant, name = request.param
    checkpoint = loaded(variant)
    recorded = record(variant)["cases"][name]
    parts = [part(kind, value) for kind, value in recorded["parts"]]
    return Case(checkpoint, recorded, name, variant, parts, prepare(checkpoint, parts))


def worst(ours: Tensor, theirs: Any) -> float:
    assert tuple(ours.shape) == theirs.shape
    return float(np.abs(ours.detach().numpy() - theirs).max())


def test_prompt_and_token_ids_are_exact(case: Case) -> None:
    assert case.inputs.prompt.text == case.record["prompt_text"]
    assert case.inputs.input_ids[0].tolist() == case.record["input_ids"]


@torch.no_grad()
def test_pixels_features_and_projections(case: Case) -> None:
    model = case.checkpoint.model
    for modality, media in case.media():
        assert len(media.pixels) == case.record["n_tiles"][modality]
        pixels = media.pixels[case.record["pixel_index"][modality]]
        assert worst(pixels, case.array(f"pixel_values_{modality}")) <= 1e-6
        features = model.features(modality, media.pixels)
        kept = features[case.record["tile_index"][modality]]
        assert worst(kept, case.array(f"tower_features_{modality}")) <= EMBED_TOLERANCE
        if model.multiscale:
            per_view = features.split([g.tiles for g in media.grids])
            merged = [model.multiscale.merge(f, g) for f, g in zip(per_view, media.grids, strict=True)]
            features = torch.cat(merged)
            kept = features[case.record["projector_in_index"][modality]]
            assert worst(kept, case.array(f"projector_in_{modality}")) <= EMBED_TOLERANCE
        projected = case.array(f"projector_out_{modality}")
        ours = model.projector(modality)(features)[: len(projected)]
        assert worst(ours, projected) <= EMBED_TOLERANCE


@torch.no_grad()
def test_embeddings_hidden_states_and_first_logits(case: Case) -> None:
    model, inputs = case.checkpoint.model, case.inputs
    blocks = model.blocks("image", inputs.images), model.blocks("depth", inputs.depths)
    spliced = model.splice(inputs.input_ids, *blocks)
    assert spliced.embeds.shape[1] == case.record["seq_len"]
    assert worst(spliced.embeds[0], case.array("inputs_embeds")) <= EMBED_TOLERANCE
    output = model(inputs.input_ids, inputs.images, inputs.depths, output_hidden_states=True)
    hidden = torch.stack([state[0, -1] for state in output.hidden_states])
    assert worst(hidden, case.array("llm_hidden_last")) <= LOGIT_TOLERANCE
    assert worst(output.logits[0, -1], case.array("logits_first")) <= LOGIT_TOLERANCE


def test_greedy_ids_and_text_are_exact(case: Case) -> None:
    given = answer(case.checkpoint, case.parts, max_new_tokens=32, return_logits=True)
    assert list(given.greedy.ids) == case.record["output_ids"]
    assert given.text == case.record["text"]
    assert given.greedy.stopped == case.record["stopped_on_eos"]
    assert given.greedy.prompt_tokens == case.record["seq_len"]
    if case.name == "rgbd":
        assert given.greedy.logits is not None
        assert worst(given.greedy.logits, case.array("logits_steps")) <= LOGIT_TOLERANCE


@pytest.mark.parametrize("variant", "ABCD")
@torch.no_grad()
def test_every_hidden_state_of_the_towers(variant: str) -> None:
    checkpoint, recorded = loaded(variant), arrays(variant)
    for modality in ("image", "depth"):
        theirs = recorded[f"rgbd/tower_hidden_states_tile0_{modality}"]
        pixels = torch.from_numpy(recorded[f"rgbd/pixel_values_{modality}"][:1])
        tower = checkpoint.model.tower(modality)
        for index in range(len(theirs)):
            other = VisionTower(tower.vision_model.config, select_layer=index)
            other.load_state_dict(tower.state_dict())
            assert worst(other(pixels)[0], theirs[index]) <= EMBED_TOLERANCE


@pytest.mark.parametrize("variant", "ABCD")
def test_tokenizer_facts(variant: str) -> None:
    checkpoint, facts = loaded(variant), record(variant)["tokenizer"]
    tokens, tokenizer = token_spec(checkpoint), checkpoint.tokenizer
    media = facts["media_token_ids"]
    assert len(tokenizer) == facts["len"] == checkpoint.model.llm.get_input_embeddings().weight.shape[0]
    assert (tokens.special["<image>"], tokens.special["<depth>"]) == (media["image"], media["depth"])
    assert [tokens.newline] == facts["newline_ids"]
    assert list(tokens.stop) == record(variant)["generation"]["stop_token_ids"]
    assert context_tokens(checkpoint) == record(variant)["generation"]["model_max_length"]


@pytest.mark.parametrize("variant", "ABCD")
def test_tokenizer_samples(variant: str) -> None:
    tokenizer, facts = loaded(variant).tokenizer, record(variant)["tokenizer"]
    for sample in facts["samples"]:
        assert tokenizer(sample["text"])["input_ids"] == sample["ids"]
        if not any(name in sample["text"] for name in tokenizer.get_added_vocab()):
            assert text_ids(tokenizer, sample["text"]) == sample["ids"]
    for sample in facts["decode_samples"]:
        assert tokenizer.decode(sample["ids"], skip_special_tokens=True).strip() == sample["text"].strip()
