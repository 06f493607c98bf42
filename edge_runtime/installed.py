"""Which build of a native library is installed, without loading it."""

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Final

from edge_runtime.errors import InferenceError

# The same module comes from different packages, one of which is installed.
_ONNXRUNTIME: Final = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")


def llama_cpp_facts() -> list[str]:
    """Version of llama-cpp-python, and size and time of its shared libraries.

    Raises:
        InferenceError: It is not installed.
    """
    return [importlib.metadata.version("llama-cpp-python"), *_shared_libraries("llama_cpp", "llama-cpp-python")]


def onnxruntime_facts() -> list[str]:
    """Package and version of ONNX Runtime, and size and time of its shared libraries.

    Raises:
        InferenceError: It is not installed.
    """
    versions = [f"{name} {version}" for name in _ONNXRUNTIME if (version := _version(name))]
    return [*versions, *_shared_libraries("onnxruntime", "onnxruntime", below="capi")]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _shared_libraries(module: str, package: str, *, below: str = ".") -> list[str]:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise InferenceError(f"{package} is not installed. `make demo` installs and builds it.")
    folder = Path(found.origin).parent / below
    libraries = sorted(path for path in folder.rglob("*.so*") if path.is_file())
    stats = [(path.name, path.stat()) for path in libraries]
    return [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats]
