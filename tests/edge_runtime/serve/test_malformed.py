"""What a server refuses: the corpus, the fuzzer's way in, and what its OpenAPI document leads to."""

import sys
from pathlib import Path

import pytest

from bench.serve_corpus import broken_files, corpus, good_png
from bench.serve_fuzz import decode
from bench.serve_malformed import Verdict, send_all
from edge_runtime.errors import DataError
from edge_runtime.serve.limits import ServeLimits
from edge_runtime.serve.pictures import Files, check_files, views_of
from edge_runtime.serve.refusals import Refusal
from hardware.child import run_command
from tests.edge_runtime.serve.conftest import Live, Served


def sent(served: Served, every: int) -> Verdict:
    return send_all("127.0.0.1", served.port, corpus()[::every])


def test_the_corpus_is_large() -> None:
    assert len(corpus()) >= 300


def test_a_sample_of_the_corpus_is_refused(served: Served) -> None:
    verdict = sent(served, every=7)
    assert verdict.wrong == []
    assert served.thread.state == "ready"


@pytest.mark.slow
def test_orders_that_are_none_change_nothing(live: Live) -> None:
    orders = [request for request in corpus() if request.path == "/v1/target"]
    assert len(orders) >= 90
    before = live.side.orders.asked
    verdict = send_all("127.0.0.1", live.served.port, orders)
    assert verdict.wrong == []
    assert verdict.statuses[400] > 90
    assert verdict.statuses[200] == 0
    assert live.side.orders.asked == before


@pytest.mark.slow
def test_the_whole_corpus_is_refused(served: Served) -> None:
    verdict = sent(served, every=1)
    assert verdict.wrong == []
    assert verdict.statuses.total() >= 300
    assert served.thread.state == "ready"


@pytest.mark.parametrize(
    ("status", "text"),
    [(500, "x"), (200, "{}"), (400, 'File "/work/x.py"'), (400, "y" * 5000), (400, "Traceback (most")],
)
def test_the_verdict_can_be_no(status: int, text: str) -> None:
    verdict = Verdict()
    verdict.saw("bad", status, text)
    assert len(verdict.wrong) == 1


@pytest.mark.parametrize(("name", "data"), broken_files().items(), ids=broken_files())
def test_broken_file_is_refused_as_picture_and_as_depth(name: str, data: bytes) -> None:
    for files in (Files([data], []), Files([good_png()], [data])):
        with pytest.raises((DataError, Refusal)):
            check_files(files, ServeLimits())
            views_of(files)
    decode(data)


@pytest.mark.slow
def test_fuzzing_for_some_seconds_finds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="needs the extra fuzz")
    command = [sys.executable, "-m", "bench.serve_fuzz", "--seconds", "10", "--out", str(tmp_path)]
    done = run_command(command, timeout_s=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"ended_well": true' in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("camera", [False, True], ids=["without a camera", "with a camera"])
def test_schemathesis_finds_no_disagreement_with_the_openapi_document(
    camera: bool, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip("schemathesis", reason="needs schemathesis")
    program = Path(sys.executable).with_name("schemathesis")
    served = request.getfixturevalue("live").served if camera else request.getfixturevalue("served")
    # No generator writes pictures in base64, so bodies that fit the document may be refused.
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [
        str(program), "run", f"{served.url}/openapi.json", "--checks", checks, "--max-examples", "15", "--seed", "1",
        "--phases", "examples,coverage,fuzzing", "--generation-database", "none", "--suppress-health-check", "all",
    ]  # fmt: skip
    done = run_command(command, timeout_s=250, environment={"HYPOTHESIS_STORAGE_DIRECTORY": "/dev/null/none"})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
