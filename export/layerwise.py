"""The decoder in float32, one layer at a time, from weights that stay as the checkpoint's files hold them.

An 8B's decoder is 15 GB in its files, mapped and never copied, and would be 30 GB in float32. A layer is widened when
it is called and forgotten when it returns, so the results are those of a model read as float32, bit for bit, and a step
costs the widening on top: about the time that reading float32 weights takes anyway.
"""

from typing import Any

from torch import Tensor, nn


def widen_layer_by_layer(llm: Any) -> None:
    """Let a decoder with weights of any float dtype compute in float32.

    Args:
        llm: transformers' `Qwen2ForCausalLM`, weights as stored.
    """
    llm.get_input_embeddings().register_forward_hook(_widen_output)
    for layer in (*llm.model.layers, llm.model.norm, llm.get_output_embeddings()):
        _Widening(layer)


class _Widening:
    """Hooks of a layer that lend it float32 weights while it runs."""

    def __init__(self, layer: nn.Module) -> None:
        self._stored: list[tuple[nn.Module, str, nn.Parameter]] = []
        layer.register_forward_pre_hook(self._lend)
        layer.register_forward_hook(self._take_back, always_call=True)

    def _lend(self, layer: nn.Module, _inputs: Any) -> None:
        for module in layer.modules():
            for name, stored in list(module.named_parameters(recurse=False)):
                self._stored.append((module, name, stored))
                setattr(module, name, nn.Parameter(stored.float(), requires_grad=False))

    def _take_back(self, _layer: nn.Module, _inputs: Any, _output: Any) -> None:
        while self._stored:
            module, name, stored = self._stored.pop()
            setattr(module, name, stored)


def _widen_output(_module: nn.Module, _inputs: Any, rows: Tensor) -> Tensor:
    return rows.float()
