"""The page in a real Chromium: asked by keyboard, pictures and depth uploaded, a pixel measured, seen at two sizes."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.degrade import DegradeSettings
from edge_runtime.serve.page_files import load_page
from hardware.geometry import read_intrinsics
from tests.edge_runtime.serve.conftest import CLIP, TOKEN, Live, Served, listening, looking

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def test_page_asks_nobody_else_and_holds_no_inline_code() -> None:
    for name, file in load_page().items():
        text = file.content.decode()
        foreign = [part for part in text.split('"') if part.startswith(("http://", "https://"))]
        assert set(foreign) <= {"http://www.w3.org/2000/svg"}, name
        assert " style=" not in text
        assert " onclick=" not in text


def test_every_control_has_a_label() -> None:
    html = load_page()["index.html"].content.decode()
    for identity in ("instruction", "image", "depth", "intrinsics", "unit"):
        assert f'id="{identity}"' in html
        assert f'<label for="{identity}"' in html


@pytest.fixture
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs a Chromium on the path")
    with playwright.sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def lens(tmp_path: Path) -> Path:
    path = tmp_path / "K.json"
    path.write_text(json.dumps(read_intrinsics(CLIP / "intrinsics.json").to_json()))
    return path


def opened(browser: Any, url: str, *, width: int, complaints: list[str], **context: Any) -> Any:
    page = browser.new_context(viewport={"width": width, "height": 900}, **context).new_page()
    page.set_default_timeout(90_000)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.goto(url)
    page.wait_for_selector('#state[data-state="ready"]')
    return page


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")], ids=["desktop", "phone"])
def test_a_person_points_and_measures(
    browser: Any, served: Served, photo: Path, depth_file: Path, lens: Path, width: int, scheme: str
) -> None:
    complaints: list[str] = []
    page = opened(browser, served.url, width=width, complaints=complaints, color_scheme=scheme)
    page.set_input_files("#image", photo)
    page.set_input_files("#depth", depth_file)
    page.wait_for_selector("#depth-view img")
    page.locator("summary").click()
    page.set_input_files("#intrinsics", lens)
    page.focus("#instruction")
    page.keyboard.type("Point to the blue cup.")
    page.keyboard.press("Enter")
    page.wait_for_selector("#points li")
    assert " m away" in page.inner_text("#said")
    assert page.locator("#rgb-view .label").text_content().endswith("%")
    first = page.locator("#rgb-view circle").first.get_attribute("cx")
    page.focus("#rgb-view")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_text("m deep").wait_for()
    page.fill("#instruction", "Point to the yellow shoe.")
    page.click("#ask")
    page.locator(f'#rgb-view circle[cx="{first}"]').first.wait_for(state="detached")
    page.focus("#instruction")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert page.input_value("#instruction") == "Point to the blue cup."
    sideways = page.locator("body").evaluate("(body) => body.scrollWidth - innerWidth")
    assert sideways <= 0
    assert complaints == []


@pytest.mark.slow
def test_mistakes_and_a_server_that_leaves_are_said(browser: Any, guarded: Served, tmp_path: Path) -> None:
    complaints: list[str] = []
    credentials = {"username": "eva", "password": TOKEN}
    page = opened(browser, guarded.url, width=900, complaints=complaints, http_credentials=credentials)
    page.fill("#instruction", "the cup")
    page.keyboard.press("Enter")
    page.locator("#problem", has_text="Choose").wait_for()
    assert page.inner_text("#problem") == "Choose a picture first."
    words = tmp_path / "words.png"
    words.write_text("no picture")
    page.set_input_files("#image", words)
    page.keyboard.press("Enter")
    page.locator("#problem", has_text="not a picture").wait_for()
    assert page.inner_text("#said") == "No answer."
    page.context.set_offline(True)
    page.wait_for_selector('#state[data-state="unreachable"]')
    assert page.inner_text("#state") == "unreachable"
    page.context.set_offline(False)
    page.wait_for_selector('#state[data-state="ready"]')
    assert page.inner_text("#state") == "ready"
    assert {said.partition(":")[0] for said in complaints} == {"Failed to load resource"}  # no script went wrong


@pytest.mark.slow
def test_an_answer_about_the_picture_before_is_not_waited_for(browser: Any, served: Served, photo: Path) -> None:
    page = opened(browser, served.url, width=900, complaints=[])
    page.route("**/v1/refer", lambda _route: None)  # under way until somebody gives up
    page.set_input_files("#image", photo)
    page.fill("#instruction", "Point to the blue cup.")
    with page.expect_request("**/v1/refer"):
        page.keyboard.press("Enter")
    assert page.inner_text("#said") == "Asking…"
    with page.expect_event("requestfailed"):
        page.set_input_files("#image", CLIP / "rgb" / "000001.jpg")
    assert page.inner_text("#said") == "No question yet."
    assert page.get_attribute("#ask", "aria-disabled") is None


# --- the live camera ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")], ids=["desktop", "phone"])
def test_a_person_sees_the_point_move_loses_the_camera_and_gets_it_back(
    browser: Any, live: Live, photo: Path, width: int, scheme: str
) -> None:
    complaints: list[str] = []
    page = opened(browser, live.served.url, width=width, complaints=complaints, color_scheme=scheme)
    page.wait_for_selector("#rgb-view img")
    page.wait_for_selector("#depth-view img")
    assert page.is_checked("#source-live")
    assert not page.is_visible("#image")
    page.focus("#instruction")
    page.keyboard.type("Point to the blue cup.")
    page.keyboard.press("Enter")
    page.wait_for_selector("#rgb-view circle")
    page.wait_for_selector("#points li")
    assert "Point to the blue cup." in page.inner_text("#asked-text")
    shown = page.get_attribute("#rgb-view img", "src")
    page.wait_for_function("(src) => document.querySelector('#rgb-view img').src !== src", arg=shown)
    cup = page.locator("#rgb-view circle").first.get_attribute("cy")  # the shoe stands far above the cup

    page.fill("#instruction", "Point to the yellow shoe.")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "(cup) => Math.abs(document.querySelector('#rgb-view circle')?.cy.baseVal.value - cup) > 100", arg=float(cup)
    )
    page.get_by_text("Pointing at: Point to the yellow shoe.").wait_for()
    page.focus("#rgb-view")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_text("m deep").wait_for()

    live.unplugged.touch()
    page.wait_for_selector('#state[data-state="lost"]')
    assert page.inner_text("#state") == "camera lost"
    page.wait_for_selector("#rgb-view.lost")
    page.locator("#said", has_text="The camera is lost").wait_for()
    for place in ("#rgb-view circle", "#points li"):
        assert page.locator(place).count() == 0, "a place that is not known is not shown"
    live.unplugged.unlink()
    page.wait_for_selector('#state[data-state="ready"]')
    page.wait_for_selector("#rgb-view circle")

    page.check("#source-picture")
    page.set_input_files("#image", photo)
    page.fill("#instruction", "Point to the blue cup.")
    page.click("#ask")
    page.locator("#said", has_text="Point at pixel").wait_for()
    page.check("#source-live")
    page.wait_for_selector("#rgb-view circle")  # the robot went on pointing
    page.click("#stop")
    page.locator("#rgb-view circle").first.wait_for(state="detached")
    assert not page.is_visible("#stop")
    assert page.locator("body").evaluate("(body) => body.scrollWidth - innerWidth") <= 0
    assert {said.partition(":")[0] for said in complaints} <= {"Failed to load resource"}, (
        "503 while the camera is lost"
    )


@pytest.mark.slow
def test_the_live_page_works_behind_a_token_and_says_when_the_robot_is_gone(browser: Any, live: Live) -> None:
    with listening(live.served.thread, token=TOKEN, live=live.side) as guarded:
        credentials = {"username": "eva", "password": TOKEN}
        page = opened(browser, guarded.url, width=900, complaints=[], http_credentials=credentials)
        page.fill("#instruction", "Point to the blue cup.")
        page.keyboard.press("Enter")
        page.wait_for_selector("#rgb-view circle")  # lines of the stream, so it was opened
        page.click("#stop")
    page.wait_for_selector('#state[data-state="unreachable"]')
    assert page.inner_text("#state") == "unreachable"
    page.wait_for_selector("#rgb-view.lost")


@pytest.mark.slow
def test_a_board_that_has_to_do_with_less_says_so_on_the_page(browser: Any, tmp_path: Path) -> None:
    with looking(tmp_path / "unplugged", degrade=DegradeSettings(low_memory_mib=1e9, enough_memory_mib=2e9)) as live:
        page = browser.new_page()
        page.set_default_timeout(90_000)
        page.goto(live.served.url)
        page.wait_for_selector('#state[data-state="hot"]')
        assert "low memory" in page.inner_text("#state")
        assert page.inner_text("#tiles") == "1 per picture"
