"""A ggml tensor as seen from llama.cpp's evaluation callback: its name, its operation, its inputs and their values.

The C struct is not part of llama.cpp's stable interface, so its layout is proven before it is used: a small product is
built with the library's own functions, and every field we read must hold what was put there.

Source: ggml/include/ggml.h (struct ggml_tensor).
"""

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np

from edge_runtime.errors import InferenceError
from edge_runtime.llama_library import limit_spinning
from edge_runtime.records import F32

MUL_MAT: Final = "MUL_MAT"
_F32: Final = 0  # GGML_TYPE_F32
_MOST_SOURCES, _MOST_PARAMS, _LONGEST_NAME = 10, 16, 64


class _Tensor(ctypes.Structure):
    """struct ggml_tensor."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),  # elements in each dimension, fastest first
        ("nb", ctypes.c_size_t * 4),  # bytes between neighbours in each dimension
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * _MOST_PARAMS),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * _MOST_SOURCES),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * _LONGEST_NAME),
    )


class _InitParams(ctypes.Structure):
    """struct ggml_init_params."""

    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


@dataclass(frozen=True)
class Product:
    """One matrix product that is being computed: activation [rows, K] by weight [N, K]."""

    weight: str  # name of the weight tensor
    input: str  # name of the activation
    width: int  # K
    rows: int
    address: int  # of the activation's struct


class Ggml:
    """The few functions of ggml that watching needs.

    Raises:
        InferenceError: This llama.cpp lays its tensors out otherwise than we know.
    """

    def __init__(self, library: Any) -> None:
        self._get = _function(library, "ggml_backend_tensor_get", None, "pppp", ctypes.c_size_t)
        self._op_name = library.ggml_op_name
        self._op_name.argtypes, self._op_name.restype = [ctypes.c_int], ctypes.c_char_p
        self._op_names: dict[int, str] = {}
        _prove_layout(library, self)

    def product(self, address: int) -> Product | None:
        """The product behind a tensor, if it is one of a named weight with float activations."""
        tensor = _at(address)
        if self.operation(tensor.op) != MUL_MAT or not tensor.src[0] or not tensor.src[1]:
            return None
        weight, given = _at(tensor.src[0]), _at(tensor.src[1])
        if given.type != _F32 or not weight.name.endswith(b".weight"):
            return None
        rows = given.ne[1] * given.ne[2] * given.ne[3]
        return Product(_text(weight.name), _text(given.name), int(given.ne[0]), int(rows), int(tensor.src[1]))

    def operation(self, number: int) -> str:
        """Name of an operation; numbers change between releases."""
        if number not in self._op_names:
            self._op_names[number] = (self._op_name(number) or b"").decode()
        return self._op_names[number]

    def activation(self, product: Product) -> F32:
        """The activation of a product, float32 [rows, K], wherever it lies.

        Raises:
            InferenceError: It has gaps between its rows.
        """
        tensor = _at(product.address)
        width = int(tensor.ne[0])
        strides, row = list(tensor.nb), 4 * width
        expected = [4, row, row * tensor.ne[1], row * tensor.ne[1] * tensor.ne[2]]
        if strides != expected:
            raise InferenceError(f"llama.cpp gives {product.input!r} with gaps ({strides}); report its version")
        values = np.empty((product.rows, width), np.float32)
        self._get(product.address, values.ctypes.data, 0, values.nbytes)
        return values


@cache
def ggml() -> Ggml:
    """Ggml behind the llama.cpp of this environment.

    Raises:
        InferenceError: It lays its tensors out otherwise than we know.
    """
    limit_spinning()
    import llama_cpp.llama_cpp as native

    return Ggml(native._lib)  # noqa: SLF001  the package wraps no function of ggml


def _at(address: int) -> _Tensor:
    return ctypes.cast(address, ctypes.POINTER(_Tensor)).contents


def _text(name: bytes) -> str:
    return name.decode("utf-8", errors="replace")


def _function(library: Any, name: str, result: Any, kinds: str, size: Any) -> Any:
    """A C function; in `kinds` p stands for a pointer or size, i for int64."""
    function = getattr(library, name)
    function.argtypes = [{"p": ctypes.c_void_p, "i": ctypes.c_int64}[kind] for kind in kinds]
    if name == "ggml_backend_tensor_get":
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, size, size]
    function.restype = result
    return function


def _prove_layout(library: Any, known: Ggml) -> None:
    """Build a named product of known shape and read it back through our struct."""
    library.ggml_init.argtypes, library.ggml_init.restype = [_InitParams], ctypes.c_void_p
    library.ggml_free.argtypes, library.ggml_free.restype = [ctypes.c_void_p], None
    new = library.ggml_new_tensor_2d
    new.argtypes, new.restype = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int64], ctypes.c_void_p
    multiply = _function(library, "ggml_mul_mat", ctypes.c_void_p, "ppp", None)
    call_it = library.ggml_set_name
    call_it.argtypes, call_it.restype = [ctypes.c_void_p, ctypes.c_char_p], ctypes.c_void_p
    context = library.ggml_init(_InitParams(1 << 16, None, True))
    if not context:
        raise InferenceError("ggml gives no context, so the decoder cannot be watched; reinstall llama-cpp-python")
    try:
        weight, given = new(context, _F32, 32, 5), new(context, _F32, 32, 3)
        call_it(weight, b"proof.weight")
        call_it(given, b"proof-input")
        made = multiply(context, weight, given)
        tensor = _at(made)
        shapes = list(tensor.ne), list(_at(given).ne), list(_at(given).nb)
        fits = shapes == ([5, 3, 1, 1], [32, 3, 1, 1], [4, 128, 384, 384])
        if not fits or known.product(made) != Product("proof.weight", "proof-input", 32, 3, given):
            raise InferenceError(
                "this llama.cpp lays its tensors out in another way than known, so its activations cannot be watched. "
                "Use the llama-cpp-python named in constraints.txt, or a recipe without imatrix and GPTQ."
            )
    finally:
        library.ggml_free(context)
