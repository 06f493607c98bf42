"""A training file read sample by sample: the same samples as reading it whole, whatever is broken in it."""

import copy
import json
import multiprocessing
from pathlib import Path

import pytest

from edge_runtime.prompt import POINT_SUFFIX
from tests.train.data.trees import entries, write_tree
from train.data.errors import DatasetInvalid
from train.data.json_index import SCHEMA, IndexedSamples, build_index, open_samples
from train.data.json_scan import Scanner
from train.data.refspatial import FAULTS, POINT_REQUEST
from train.spatial.formats import read_training


def said(*lines: object) -> list[dict[str, object]]:
    return [{"from": "gpt" if k % 2 else "human", "value": line} for k, line in enumerate(lines)]


GOOD = {"id": "ü 𝄞", "image": "a.jpg", "conversations": said("?", "!")}


def write(path: Path, *texts: str, end: str = "]") -> Path:
    path.write_text("[" + ",\n".join(texts) + end, encoding="utf-8")
    return path


def test_samples_are_those_of_reading_the_file_whole(tmp_path: Path) -> None:
    path = write_tree(tmp_path) / "3D" / "choice_qa.json"
    samples = open_samples(path)
    assert [samples[k] for k in range(len(samples))] == read_training(path)
    assert samples.index.turns.tolist() == [len(e["conversations"]) // 2 for e in entries(path)]
    views = open_samples(tmp_path / "3D" / "multi_view_qa.json").index.views
    assert views.tolist() == [2, 2]


@pytest.mark.parametrize("window", [1, 7, 64, 4096])
@pytest.mark.parametrize("style", ["indent", "dense", "lines", "bom", "unicode"])
def test_every_window_finds_the_same(tmp_path: Path, window: int, style: str) -> None:
    wanted = [{**GOOD, "id": name} for name in ("a", "ü\u2028𝄞", 'quo"te\\', "[{", "")]
    path = tmp_path / "x.json"
    text = {
        "indent": json.dumps(wanted, indent=1),
        "dense": json.dumps(wanted, separators=(",", ":")),
        "lines": "\n".join(json.dumps(entry) for entry in wanted) + "\n",
        "bom": "\ufeff" + json.dumps(wanted),
        "unicode": json.dumps(wanted, ensure_ascii=False),
    }[style]
    path.write_text(text, encoding="utf-8")
    with path.open("rb") as file:
        found = list(Scanner(file, window_bytes=window))
    assert [f.entry for f in found] == wanted
    data = path.read_bytes()
    assert [json.loads(data[f.start : f.start + f.length]) for f in found] == wanted


FAULTY = {
    "not_json": '{"id": "x", "image": "a.jpg", oops}',
    "no_object": '["id"]',
    "no_picture": json.dumps({**GOOD, "image": None}),
    "picture_path": json.dumps({**GOOD, "image": "../../etc/passwd"}),
    "depth_count": json.dumps({**GOOD, "depth": ["a.png", "b.png"]}),
    "no_turns": json.dumps({**GOOD, "conversations": []}),
    "roles": json.dumps({**GOOD, "conversations": said("?")}),
    "no_text": json.dumps({**GOOD, "conversations": said("<image>\n", "!")}),
    "no_point": json.dumps({**GOOD, "conversations": said(f"the cup {POINT_SUFFIX}", "over there")}),
    "point_outside": json.dumps({**GOOD, "conversations": said(f"the cup {POINT_SUFFIX}", "[(0.5, 1.2)]")}),
}
MORE = {
    "absolute path": ("picture_path", json.dumps({**GOOD, "image": "/etc/passwd"})),
    "a picture that is a number": ("no_picture", json.dumps({**GOOD, "image": [1]})),
    "an empty list of pictures": ("no_picture", json.dumps({**GOOD, "image": []})),
    "one depth for two pictures": ("depth_count", json.dumps({**GOOD, "image": ["a", "b"], "depth": "a"})),
    "conversations that are text": ("no_turns", json.dumps({**GOOD, "conversations": "?"})),
    "gpt begins": ("roles", json.dumps({**GOOD, "conversations": said("?", "!")[::-1]})),
    "turns that are text": ("roles", json.dumps({**GOOD, "conversations": ["?", "!"]})),
    "a number said": ("no_text", json.dumps({**GOOD, "conversations": said(1, "!")})),
    "reasoned but never answered": (
        "no_point",
        json.dumps({**GOOD, "conversations": said(POINT_SUFFIX, "<think>Step1: [Position] [a]: [(0.1, 0.2)]</think>")}),
    ),
    "a number": ("no_object", "12"),
    "null": ("no_object", "null"),
    "an open string": ("not_json", '{"id": "x, "image": "a.jpg"}'),
    "no closing brace": ("not_json", '{"id": "x", "image": {"a": 1'),
    "words": ("not_json", "nothing at all"),
    "deep nesting": ("not_json", "[" * 100_000),
    "half a letter said": ("not_json", json.dumps({**GOOD, "conversations": said("the cut \ud83d", "!")})),
    "half a letter in a name": ("not_json", json.dumps({**GOOD, "image": "\udc80.jpg"})),
    "no UTF-8": ("not_json", '{"id": "\udcff"}'),
}  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "text"), [*FAULTY.items(), *MORE.values()], ids=[*FAULTY, *MORE]
)  # fmt: skip
@pytest.mark.parametrize("last", [False, True], ids=["between", "last"])
def test_a_malformed_sample_costs_itself_only(tmp_path: Path, fault: str, text: str, last: bool) -> None:
    good = json.dumps(GOOD, ensure_ascii=False)
    path = tmp_path / "x.json"
    texts = [good, good, text] if last else [good, text, good]
    path.write_bytes(("[" + ",\n".join(texts) + "]").encode("utf-8", "surrogateescape"))
    samples = open_samples(path)
    assert [samples[k].id for k in range(len(samples))] == ["ü 𝄞"] * 2
    assert samples.index.faults == {fault: 1}
    (left_out,) = samples.index.malformed
    assert (left_out.position, left_out.fault) == (2 if last else 1, fault)
    assert path.read_bytes()[left_out.start :].decode("utf-8", "surrogateescape").startswith(text[:5])


def test_half_a_letter_in_an_id_is_spelt_out(tmp_path: Path) -> None:
    samples = open_samples(write(tmp_path / "x.json", *(json.dumps({**GOOD, "id": name}) for name in ("\ud83d", "𝄞"))))
    assert [samples[k].id for k in range(2)] == [r"\ud83d", "𝄞"]


def test_every_fault_has_a_case_and_a_meaning() -> None:
    assert {*FAULTY, "cut_off"} == set(FAULTS)
    assert POINT_REQUEST in POINT_SUFFIX


@pytest.mark.parametrize("cut", [1, 30, 130, 200])
def test_a_file_that_was_cut_keeps_what_is_whole(tmp_path: Path, cut: int) -> None:
    texts = [json.dumps({**GOOD, "id": str(k)}) for k in range(4)]
    path = write(tmp_path / "x.json", *texts)
    path.write_bytes(path.read_bytes()[:-cut])
    samples = open_samples(path)
    assert samples.index.faults == {"cut_off": 1}
    assert [samples[k].id for k in range(len(samples))] == [str(k) for k in range(len(samples))]
    assert len(samples) == (4 if cut == 1 else 3 if cut < len(texts[0]) else 2)


def test_damage_larger_than_a_window_is_survived(tmp_path: Path) -> None:
    texts = [json.dumps({**GOOD, "id": str(k)}) for k in range(3)]
    path = write(tmp_path / "x.json", texts[0], '{"id": "' + "x" * 5000, texts[1], texts[2])
    with path.open("rb") as file:
        found = list(Scanner(file, window_bytes=100, largest_bytes=1000))
    assert [f.entry["id"] for f in found if f.fault is None] == ["0", "1", "2"]


@pytest.mark.parametrize("text", ["", "[]", "[1, 2]", "{}", "no json"])
def test_a_file_without_a_good_sample_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DatasetInvalid, match="holds no sample"):
        open_samples(path)


def test_an_absent_file_and_a_pointer_are_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="No such file"):
        open_samples(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(DatasetInvalid, match="git lfs pull"):
        open_samples(tmp_path / "x.json")


def kept(path: Path) -> Path:
    return path.with_name(f".{path.name}.index.npz")


def test_the_index_is_kept_and_made_anew_when_the_file_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", json.dumps(GOOD), "[]")
    reports: list[int] = []
    first = open_samples(path, on_progress=lambda *done: reports.append(done[0]))
    again = open_samples(path, on_progress=lambda *done: reports.append(done[0]))
    assert len(reports) == 1
    assert again.index.malformed == first.index.malformed
    assert again.index.faults == {"no_object": 1}
    assert again[0] == first[0]
    write(path, json.dumps(GOOD), json.dumps(GOOD))
    assert len(open_samples(path)) == 2
    kept(path).write_bytes(b"damaged")
    assert len(open_samples(path)) == 2
    assert SCHEMA == 1


def test_a_folder_that_cannot_be_written_is_only_slower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.json", json.dumps(GOOD))
    real = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self.suffix == ".npz":
            raise PermissionError(13, "Permission denied")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    assert len(open_samples(path)) == 1
    assert not kept(path).exists()


def test_a_file_that_changes_under_way_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", json.dumps(GOOD), json.dumps(GOOD))
    samples = open_samples(path)
    path.write_text(" " * 10 + path.read_text())
    with pytest.raises(DatasetInvalid, match="has changed"):
        samples[0]


def _first_id(samples: IndexedSamples) -> str:
    return samples[0].id


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_other_processes_read_on(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", json.dumps(GOOD), json.dumps(GOOD))
    samples = open_samples(path)
    assert samples[1].id == GOOD["id"]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_first_id, (samples,)) == GOOD["id"]
    sent = copy.copy(samples)  # what travels to a process that starts afresh
    assert sent._file is None
    assert sent[1].id == GOOD["id"]


def test_the_first_malformed_are_listed_and_all_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.data.json_index.MOST_LISTED", 3)
    index = build_index(write(tmp_path / "x.json", *["1"] * 10, json.dumps(GOOD)))
    assert index.faults == {"no_object": 10}
    assert [m.position for m in index.malformed] == [0, 1, 2]
