"""RoboRefer's own protocol, asked as clients of the upstream server ask: `requests`, one POST, points marked."""

import ast
import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from edge_runtime.image_files import read_image
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import View
from tests.edge_runtime.serve.conftest import NANO, TOKEN, Served, b64, png

requests = pytest.importorskip("requests", reason="needs requests, as the clients do")

SUFFIX = (
    "Your answer should be formatted as a list of tuples, i.e. [(x1, y1)],  where each tuple contains the x and y "
    "coordinates of a point satisfying the conditions above. The coordinates should be between 0 and 1, indicating "
    "the normalized pixel locations of the points in the image."
)


class RoboReferClient:
    """What somebody writes who read the protocol and never heard of us: JSON out, `answer` in, points marked."""

    def __init__(self, url: str, tries: int = 3) -> None:
        self.url = f"{url}/query"
        self.tries = tries

    def ask(self, image: Path, question: str, depth: Path | None = None) -> list[tuple[float, float]]:
        payload = {
            "image_url": [base64.b64encode(image.read_bytes()).decode("utf-8")],
            "depth_url": [base64.b64encode(depth.read_bytes()).decode("utf-8")] if depth else [],
            "enable_depth": 1,
            "text": question + SUFFIX,  # without a space, as the demo client does
        }
        for _ in range(self.tries):
            reply = requests.post(self.url, json=payload, timeout=60)
            if reply.status_code == 200 and reply.json()["result"] == 1:
                return list(ast.literal_eval(reply.json()["answer"]))
        raise AssertionError(f"HTTP {reply.status_code}: {reply.text}")

    def mark(self, image: Path, points: list[tuple[float, float]]) -> Image.Image:
        picture = Image.open(image).convert("RGB")
        draw = ImageDraw.Draw(picture)
        for x, y in points:
            u, v = int(x * picture.width), int(y * picture.height)
            draw.ellipse((u - 4, v - 4, u + 4, v + 4), fill=(255, 0, 0))
        return picture


def test_unmodified_client_gets_a_point_and_marks_it(served: Served, photo: Path) -> None:
    client = RoboReferClient(served.url)
    points = client.ask(photo, "Point to the blue cup.")
    marked = client.mark(photo, points)
    u, v = int(points[0][0] * 640), int(points[0][1] * 480)
    assert marked.getpixel((u, v)) == (255, 0, 0)
    blue = np.asarray(Image.open(photo).convert("RGB"))[v, u]
    assert blue[2] > 1.5 * blue[0]  # the only blue thing on the table is the cup


def test_token_in_the_url_is_enough(guarded: Served, photo: Path) -> None:
    with_token = f"http://robot:{TOKEN}@127.0.0.1:{guarded.port}"
    assert RoboReferClient(with_token).ask(photo, "Point to the blue cup.")
    without = requests.post(f"{guarded.url}/query", json={}, timeout=20)
    assert (without.status_code, without.json()["kind"]) == (401, "unauthorized")
    assert without.headers["WWW-Authenticate"].startswith("Basic")


def test_greeting_is_text_for_programs_and_a_page_for_browsers(served: Served) -> None:
    said = requests.get(served.url, timeout=20)
    assert said.headers["Content-Type"].startswith("text/plain")
    page = requests.get(served.url, headers={"Accept": "text/html,application/xhtml+xml"}, timeout=20)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "<form" in page.text


def ask(served: Served, **body: Any) -> Any:
    whole = {"image_url": [b64(png())], "depth_url": [], "enable_depth": 0, "text": f"the cup {SUFFIX}", **body}
    return requests.post(f"{served.url}/query", json=whole, timeout=60)


def test_answer_is_the_pipelines_own(served: Served, photo: Path) -> None:
    text = f"Point to the yellow shoe. {SUFFIX}"
    reply = ask(served, image_url=[b64(photo.read_bytes())], text=text)
    with Pipeline.open(NANO, n_threads=1) as pipeline:
        direct = pipeline.refer([View(rgb=read_image(photo))], text, raw_prompt=True)
    assert reply.json() == {"result": 1, "answer": direct.answer, "depth_source": "none"}


def test_enabled_depth_that_was_not_sent_is_said_to_be_missing(served: Served) -> None:
    reply = ask(served, enable_depth=1)
    assert reply.headers["X-RoboRefer-Depth"] == "none"
    assert reply.json()["depth_source"] == "none"


def picture_bytes(array: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


GREY = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))
DEPTHS = {
    "upstream's 8-bit picture of three channels": picture_bytes(np.repeat(GREY[..., None], 3, axis=2)),
    "8-bit grey": picture_bytes(GREY),
    "8-bit of another size": picture_bytes(GREY[:24, :32]),
    "16-bit metric": picture_bytes(GREY.astype(np.uint16) * 10 + 500),
    "float metres": picture_bytes(GREY.astype(np.float32) / 100 + 0.5, "TIFF"),
}


@pytest.mark.parametrize("depth", DEPTHS.values(), ids=DEPTHS)
def test_depth_of_every_kind_is_used(served: Served, depth: bytes) -> None:
    reply = ask(served, enable_depth=1, depth_url=[b64(depth)])
    assert reply.status_code == 200, reply.text
    assert reply.headers["X-RoboRefer-Depth"] == "file"


def test_depth_that_is_not_enabled_is_not_even_read(served: Served) -> None:
    reply = ask(served, enable_depth=0, depth_url=["no base64 at all"])
    assert reply.json()["depth_source"] == "none"


def test_several_pictures_in_one_question(served: Served) -> None:
    pictures = [b64(png(seed=i)) for i in range(2)]
    assert ask(served, image_url=pictures).status_code == 200
    both = ask(served, image_url=pictures, depth_url=[b64(DEPTHS["8-bit grey"])] * 2, enable_depth=1)
    assert both.headers["X-RoboRefer-Depth"] == "file"
    one_short = ask(served, image_url=pictures, depth_url=[b64(DEPTHS["8-bit grey"])], enable_depth=1)
    assert one_short.status_code == 400


def test_names_of_other_clients_and_missing_types_are_passed_over(served: Served) -> None:
    assert ask(served, model="x", temperature=0.5).status_code == 200
    body = json.dumps({"image_url": [b64(png())], "enable_depth": 0, "text": f"the cup {SUFFIX}"})
    assert requests.post(f"{served.url}/query", data=body, timeout=60).status_code == 200
