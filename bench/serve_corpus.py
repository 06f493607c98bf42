"""Requests that a server has to refuse: damaged, oversized, of the wrong type, hostile; made from tables.

Each has a name and a body; none has an answer. `bench.serve_malformed` sends them all.
"""

import io
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from edge_runtime.serve.wire import text_of

_JSON = "application/json"
_BOUNDARY = "----edge"


@dataclass(frozen=True)
class Malformed:
    """One request that deserves no answer."""

    name: str
    path: str
    body: bytes
    content_type: str = _JSON


def corpus() -> list[Malformed]:
    """All of them, names unique."""
    made = [*_broken_json(), *_wrong_values(), *_broken_files(), *_broken_forms(), *_wrong_types()]
    names = [request.name for request in made]
    assert len(set(names)) == len(names), "two requests have one name"
    return made


# --- material -------------------------------------------------------------------------------------------------


def good_png(width: int = 32, height: int = 24) -> bytes:
    """A picture there is nothing wrong with."""
    rgb = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    return _saved(Image.fromarray(rgb), "PNG")


def _saved(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def _good(path: str) -> dict[str, Any]:
    png = text_of(good_png())
    if path == "/query":
        return {"image_url": [png], "depth_url": [], "enable_depth": 0, "text": "the cup"}
    if path == "/v1/refer":
        return {"images": [png], "text": "the cup"}
    if path == "/v1/target":
        return {"do": "set", "text": "the cup"}
    return {"depth": png}


# --- JSON that is none ----------------------------------------------------------------------------------------

_PATHS = ("/query", "/v1/refer", "/v1/depth", "/v1/target")
_TEXTS: dict[str, bytes] = {
    "empty": b"",
    "white space": b" \n\t ",
    "null": b"null",
    "number": b"1",
    "string": b'"x"',
    "list": b"[]",
    "empty object": b"{}",
    "NaN": b"NaN",
    "not UTF-8": b'{"text": "\xff\xfe"}',
    "UTF-16": '{"text": "x"}'.encode("utf-16"),
    "NUL bytes": b"\0" * 64,
    "random bytes": np.random.default_rng(2).bytes(400),
    "100 000 open brackets": b"[" * 100_000,
    "100 000 open braces": b'{"a":' * 100_000,
    "integer of 10 000 digits": b'{"text": ' + b"9" * 10_000 + b"}",
    "exponent beyond all": b'{"depth_unit_m": 1e999999, "enable_depth": 1e999999}',
    "lone surrogate as key": b'{"\\ud800": 1}',
    "comment": b'{"text": "x" /* no */}',
    "trailing comma": b'{"text": "x",}',
    "single quotes": b"{'text': 'x'}",
    "two values": b"{} {}",
    "HTML": b"<html><script>alert(1)</script></html>",
    "a million spaces": b" " * 1_000_000,
}


def _broken_json() -> Iterator[Malformed]:
    for path in _PATHS:
        for name, body in _TEXTS.items():
            yield Malformed(f"{path}: {name}", path, body)
        whole = json.dumps(_good(path)).encode()
        for share in (1, 10, 50, 90, 99):
            yield Malformed(f"{path}: cut off after {share} %", path, whole[: len(whole) * share // 100])


# --- values of the wrong kind ---------------------------------------------------------------------------------

_WRONG: dict[str, Any] = {
    "null": None, "number": 7, "huge": 10**40, "negative": -1, "fraction": 0.5, "object": {"a": 1}, "words": "words",
    "empty list": [], "list of null": [None], "list of lists": [[[]]], "list of objects": [{"a": {"b": []}}],
    "empty string in a list": [""], "a path": ["/etc/passwd"], "an address": ["file:///etc/passwd"],
    "an http address": ["http://127.0.0.1:1/"], "template": ["{{7*7}}"], "1000 entries": ["AAAA"] * 1000,
    "not base64": ["%%%%"], "half a quantum": ["QUJ"], "words in base64": [text_of(b"words and words and words")],
    "true": True, "infinity": float("inf"), "not a number": float("nan"),
}  # fmt: skip
# Which of these are what a field takes, or are passed over by it.
_FINE = {
    ("/query", "depth_url"): {"null", *[name for name in _WRONG if isinstance(_WRONG[name], list)]},
    ("/query", "enable_depth"): {"true"},
    ("/query", "text"): {"words"},
    ("/v1/refer", "text"): {"words"},
    ("/v1/refer", "depths"): {"empty list"},
    ("/v1/refer", "intrinsics"): {"null"},
    ("/v1/refer", "base_from_camera"): {"null"},
    ("/v1/refer", "depth_unit_m"): {"fraction"},
    ("/v1/refer", "deadline_ms"): {"null", "number"},
    ("/v1/refer", "annotate"): {"true"},
    ("/v1/depth", "px"): {"null"},
    ("/v1/depth", "picture"): {"true"},
    ("/v1/target", "text"): {"words"},
    ("/v1/target", "number"): {"number"},
}
_FIELDS = {
    "/query": ("image_url", "depth_url", "enable_depth", "text"),
    "/v1/refer": (
        "images",
        "depths",
        "text",
        "intrinsics",
        "base_from_camera",
        "depth_unit_m",
        "deadline_ms",
        "annotate",
    ),
    "/v1/depth": ("depth", "px", "picture"),
    "/v1/target": ("do", "text", "number"),
}


def _wrong_values() -> Iterator[Malformed]:
    for path, fields in _FIELDS.items():
        for field in fields:
            for name, value in _WRONG.items():
                if name in _FINE.get((path, field), ()):
                    continue
                body = json.dumps({**_good(path), field: value}).encode()
                yield Malformed(f"{path}: {field} is {name}", path, body)
    for field in ("image_url", "text"):
        rest = {k: v for k, v in _good("/query").items() if k != field}
        yield Malformed(f"/query: {field} is missing", "/query", json.dumps(rest).encode())
    surrogate = json.dumps({**_good("/query"), "text": "X"}).replace('"X"', '"\\ud800"')
    yield Malformed("/query: text is a lone surrogate", "/query", surrogate.encode())
    for name, text in {"blank": " \n ", "only media": "<image><depth>", "too long": "x" * 100_000}.items():
        asked = {**_good("/query"), "text": text}
        yield Malformed(f"/query: text is {name}", "/query", json.dumps(asked).encode())


# --- files that are no pictures -------------------------------------------------------------------------------


def broken_files() -> dict[str, bytes]:
    """Damaged, bent and oversized picture files by name; all are refused as pictures and as depth."""
    png = good_png()
    picture = Image.open(io.BytesIO(png))
    files: dict[str, bytes] = {
        "one byte": b"\x89",
        "PNG signature alone": png[:8],
        "PNG header of 2^31 x 2^31": _png_claiming(2**31 - 1, 2**31 - 1),
        "PNG header of 20000 x 20000": _png_claiming(20_000, 20_000),
        "PNG of no width": _png_claiming(0, 10),
        "PNG of 65535 x 1": _png_claiming(65_535, 1),
        "bomb of 49 megapixels in some kilobytes": _saved(Image.new("1", (7000, 7000)), "PNG"),
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n",
        "PDF": b"%PDF-1.7\n" + b"\0" * 200,
        "zip": b"PK\x03\x04" + b"\0" * 200,
        "ELF": b"\x7fELF" + b"\0" * 200,
        "pickle": b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x02os\x94.",
        "npy of objects": _npy("{'descr': '|O', 'fortran_order': False, 'shape': (32, 32), }"),
        "npy of a trillion": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"),
        "npy of negative shape": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-32, 32), }"),
        "npy of code": _npy("__import__('os').system('true')"),
        "npy without data": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (24, 32), }"),
        "npy of three dimensions": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 24, 32), }"),
    }
    for kind in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"):
        whole = _saved(picture.convert("P") if kind == "GIF" else picture, kind)
        for share in (5, 25):
            files[f"{kind} cut off after {share} %"] = whole[: len(whole) * share // 100]
    return files


def _broken_files() -> Iterator[Malformed]:
    for name, data in broken_files().items():
        yield Malformed(
            f"/query: image is {name}", "/query", json.dumps({**_good("/query"), "image_url": [text_of(data)]}).encode()
        )
        body = {**_good("/query"), "enable_depth": 1, "depth_url": [text_of(data)]}
        yield Malformed(f"/query: depth is {name}", "/query", json.dumps(body).encode())
        yield Malformed(f"/v1/depth: depth is {name}", "/v1/depth", json.dumps({"depth": text_of(data)}).encode())


def _png_claiming(width: int, height: int) -> bytes:
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 99)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _npy(header: str) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


# --- forms ----------------------------------------------------------------------------------------------------


def _part(name: str, value: bytes, *, filename: str | None = None) -> bytes:
    file = f'; filename="{filename}"' if filename is not None else ""
    return f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + value + b"\r\n"


def _broken_forms() -> Iterator[Malformed]:
    end = f"--{_BOUNDARY}--\r\n".encode()
    image, text = _part("images", good_png(), filename="a.png"), _part("text", b"the cup")
    forms = {
        "without parts": end,
        "without a file": text + end,
        "without text": image + end,
        "text twice": image + text + text + end,
        "unknown field": image + text + _part("surprise", b"1") + end,
        "unknown file": image + text + _part("surprise", b"1", filename="b") + end,
        "files without end": image * 40 + text + end,
        "a field of a megabyte": image + _part("text", b"x" * 2**20) + end,
        "intrinsics no JSON": image + text + _part("intrinsics", b"{") + end,
        "intrinsics with NaN": image + text + _part("intrinsics", b'{"fx": NaN}') + end,
        "intrinsics a nest": image + text + _part("intrinsics", b"[" * 60_000) + end,
        "unit in words": image + text + _part("depth_unit_m", b"millimetres") + end,
        "unit NaN": image + text + _part("depth_unit_m", b"nan") + end,
        "truth in words": image + text + _part("annotate", b"perhaps") + end,
        "file name that climbs": text + _part("images", b"x", filename="../../etc/passwd") + end,
        "cut off in a header": image[:30],
        "no name": f"--{_BOUNDARY}\r\nContent-Disposition: form-data\r\n\r\nx\r\n".encode() + end,
        "boundary never comes": b"x" * 1000,
    }  # fmt: skip
    kind = f"multipart/form-data; boundary={_BOUNDARY}"
    for name, body in forms.items():
        yield Malformed(f"/v1/refer form: {name}", "/v1/refer", body, kind)
    for wrong in ("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\u00e4"):
        yield Malformed(f"/v1/refer form: type is {wrong!r}", "/v1/refer", image + text + end, wrong)


def _wrong_types() -> Iterator[Malformed]:
    kinds = (
        "text/plain",
        "application/x-www-form-urlencoded",
        "image/png",
        "application/xml",
        "a/b/c",
        "application/json5",
    )
    for path in _PATHS:
        body = json.dumps(_good(path)).encode()
        for kind in kinds:
            yield Malformed(f"{path}: type is {kind}", path, body, kind)
    yield Malformed("/query: a form", "/query", b"x", f"multipart/form-data; boundary={_BOUNDARY}")
