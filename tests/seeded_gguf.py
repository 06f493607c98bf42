"""A tiny seeded decoder for tests: our own checkpoint, converted once, and the torch model it came from."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Qwen2ForCausalLM

from edge_runtime.records import F32
from export.gguf_decoder import WeightType, write_gguf
from train.seeded import write_seeded

STOP = "<|im_end|>"


def seeded_llm(folder: Path, variant: str = "dynamic") -> Path:
    """The `llm/` folder of a seeded checkpoint below `folder`, written if it is not there."""
    checkpoint = folder / variant
    if not checkpoint.is_dir():
        write_seeded(checkpoint, variant)
    return checkpoint / "llm"


def seeded_gguf(folder: Path, variant: str = "dynamic", dtype: WeightType = "f32") -> Path:
    """The same as GGUF."""
    out = folder / f"{variant}-{dtype}.gguf"
    if not out.is_file():
        write_gguf(seeded_llm(folder, variant), out, dtype)
    return out


@cache
def torch_decoder(llm_folder: Path, vocab_size: int) -> Any:
    """transformers' model in float32, its embedding cut to the tokenizer as the reference does."""
    model = Qwen2ForCausalLM.from_pretrained(llm_folder, dtype=torch.float32, attn_implementation="eager").eval()
    model.resize_token_embeddings(vocab_size, mean_resizing=False)
    return model


@torch.no_grad()
def torch_logits(model: Any, embeds: F32, forced_ids: list[int]) -> F32:
    """Teacher-forced logits float32 [max(1, n), V] after embeddings float32 [m, D]."""
    forced = model.get_input_embeddings()(torch.tensor([forced_ids[:-1]], dtype=torch.long))
    rows = torch.cat([torch.from_numpy(embeds)[None], forced], dim=1)
    logits: F32 = model(inputs_embeds=rows).logits[0, len(embeds) - 1 :].numpy()
    return logits


@torch.no_grad()
def torch_embeddings(model: Any, ids: Any) -> F32:
    """Rows of the embedding, float32 [n, D]."""
    rows: F32 = model.get_input_embeddings()(torch.from_numpy(np.asarray(ids, dtype=np.int64))).numpy()
    return rows


def error_of_scale(found: F32, expected: F32) -> float:
    """max|a - b| / max|b|."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())
