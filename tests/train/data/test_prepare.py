"""`prepare`: archives and parts of them become verified files, whatever interrupts it and whatever an archive holds."""

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError, StorageError
from tests.train.data.trees import split, tar_bytes
from train.data import prepare as module
from train.data.archive_work import ArchiveOutcome, prepare_one
from train.data.archives import PartsReader, survey
from train.data.errors import ArchiveInvalid, DatasetInvalid
from train.data.extract import extract
from train.data.extraction_log import ExtractedFile, ExtractionLog
from train.data.prepare import Prepared, prepare

FILES = {f"image/{k:03d}.jpg": bytes([k]) * (1000 + 37 * k) for k in range(40)}
DEPTHS = {f"./depth/{k:03d}.png": os.urandom(300) for k in range(20)}


def download(root: Path) -> Path:
    """A download: one archive in parts, one whole, JSON."""
    split(root / "3D" / "image.tar.gz", tar_bytes(FILES), "abc")
    (root / "3D" / "depth.tar.gz").write_bytes(tar_bytes(DEPTHS))
    (root / "3D" / "choice_qa.json").write_text("[]")
    return root


def content(root: Path) -> dict[str, bytes]:
    """What lies in a folder, hidden files and archives aside."""
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not any(part.startswith(".") for part in Path(name).parts) and ".tar" not in name:
            found[name] = path.read_bytes()
    return found


def failed(made: Prepared) -> list[ArchiveOutcome]:
    """Archives that are not whole on the disk."""
    return [outcome for outcome in made.archives if outcome.error is not None]


WANTED = {
    **{f"3D/{name}": data for name, data in FILES.items()},
    **{f"3D/{Path(name)}": data for name, data in DEPTHS.items()},
    "3D/choice_qa.json": b"[]",
}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_download_becomes_files(tmp_path: Path, workers: int) -> None:
    root, seen = download(tmp_path), []
    made = prepare(root, workers=workers, on_progress=lambda *done: seen.append(done))
    assert content(root) == WANTED
    assert [(a.name, a.parts, a.state, a.files, a.verified) for a in made.archives] == [
        ("3D/depth.tar.gz", 1, "extracted", 20, "sizes"),
        ("3D/image.tar.gz", 3, "extracted", 40, "sizes"),
    ]
    assert seen[-1][0] == seen[-1][1] == sum(a.bytes for a in made.archives)
    assert (root / "3D" / "image.tar.gz.part_a").exists()
    again = prepare(root, workers=workers)
    assert [a.state for a in again.archives] == ["was_there", "was_there"]


def test_archives_go_only_when_every_file_was_read_back(tmp_path: Path) -> None:
    root = download(tmp_path)
    made = prepare(root, delete_archives=True)
    assert all(a.deleted and a.verified == "contents" for a in made.archives)
    assert list(root.rglob("*.tar*[a-c,z]")) == []
    assert content(root) == WANTED
    again = prepare(root, delete_archives=True)
    assert [a.state for a in again.archives] == ["deleted_before"] * 2
    (root / "3D/image/007.jpg").unlink()
    lost = prepare(root)
    assert [a.name for a in failed(lost)] == ["3D/image.tar.gz"]
    assert "007.jpg" in str(failed(lost)[0].error)
    assert "download it again" in str(failed(lost)[0].error)


def test_a_file_that_changed_on_the_disk_keeps_its_archive(tmp_path: Path) -> None:
    root = download(tmp_path)
    prepare(root)
    path = root / "3D/image/005.jpg"
    path.write_bytes(bytes(len(path.read_bytes())))
    made = prepare(root, delete_archives=True)
    assert [a.name for a in failed(made)] == ["3D/image.tar.gz"]
    assert "other content" in str(failed(made)[0].error)
    assert len(list((root / "3D").glob("image.tar.gz.part_*"))) == 3
    assert not (root / "3D" / "depth.tar.gz").exists()


def test_a_deletion_that_was_killed_half_way_is_finished(tmp_path: Path) -> None:
    root = download(tmp_path)
    prepare(root, delete_archives=True)
    split(root / "3D" / "image.tar.gz", tar_bytes(FILES), "abc")
    log = ExtractionLog(root, "3D/image.tar.gz")
    log.forget()
    prepare(root)
    record = log.done()
    assert record is not None
    log.finish(type(record)(**{**record.__dict__, "deleted": True}))
    (root / "3D" / "image.tar.gz.part_c").unlink()
    made = prepare(root, delete_archives=True)
    assert failed(made) == []
    assert list(root.rglob("*.part_*")) == []


class _KilledError(Exception):
    """Stands for a kill: the file in work is not finished."""


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    noise = {f"image/{k:03d}.jpg": os.urandom(60_000) for k in range(60)}
    split(tmp_path / "image.tar.gz", tar_bytes(noise), "ab")
    (archive,) = survey(tmp_path).archives
    left = 2

    def stop(_: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise _KilledError

    with pytest.raises(_KilledError):
        extract(archive, on_read=stop)
    log = ExtractionLog(tmp_path, archive.name)
    written = {file.name for file in log.files()}
    assert 0 < len(written) < 60
    assert log.done() is None
    stamps = {name: (tmp_path / name).stat().st_ino for name in written}
    with log._files.open("a") as file:
        file.write('{"name": "image/0')  # what a kill leaves of a line
    extract(archive)
    assert content(tmp_path) == noise
    assert {name: (tmp_path / name).stat().st_ino for name in written} == stamps
    assert {file.name for file in log.files()} == set(noise)
    assert list(log.wrong_files(contents=True)) == []
    assert not [path for path in tmp_path.rglob(".*") if path.is_file() and path.parent.name == "image"]


def test_reading_back_can_be_stopped_and_deletes_nothing(tmp_path: Path) -> None:
    root = download(tmp_path)
    assert failed(prepare(root)) == []
    (archive,) = (a for a in survey(root).archives if a.name == "3D/image.tar.gz")
    left = len(FILES) + 10  # sizes of all are looked at first

    def stop(count: int) -> None:
        nonlocal left
        left -= count == 0
        if left < 0:
            raise _KilledError

    with pytest.raises(_KilledError):
        prepare_one(archive, delete=True, on_read=stop)
    assert len(list((root / "3D").glob("image.tar.gz.part_*"))) == 3
    record = ExtractionLog(root, archive.name).done()
    assert record is not None
    assert not record.deleted


def test_a_log_that_cannot_be_written_is_no_fault_of_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.data.extraction_log._FLUSH_EVERY", 1)
    with ExtractionLog(tmp_path, "image.tar.gz") as log:
        with monkeypatch.context() as patched, Path("/dev/full").open("ab", buffering=0) as full:
            patched.setattr(log, "_open", io.TextIOWrapper(full, write_through=True))
            with pytest.raises(StorageError, match="No space left"):
                log.add(ExtractedFile("image/0.jpg", 1, 0))
        log.add(ExtractedFile("image/0.jpg", 1, 0))
    assert list(log.files()) == [ExtractedFile("image/0.jpg", 1, 0)]


def odd(name: str, kind: bytes, *, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


@pytest.mark.parametrize(
    "member",
    [
        odd("../outside.jpg", tarfile.REGTYPE, size=4),
        odd("image/../../outside.jpg", tarfile.REGTYPE, size=4),
        odd("/tmp/outside.jpg", tarfile.REGTYPE, size=4),
        odd("image/link", tarfile.SYMTYPE, link="../../outside"),
        odd("image/link", tarfile.SYMTYPE, link="000.jpg"),
        odd("image/link", tarfile.LNKTYPE, link="../../outside"),
        odd("image/pipe", tarfile.FIFOTYPE),
        odd("image/disk", tarfile.BLKTYPE),
    ],
    ids=lambda member: f"{member.name} {member.type!r}",
)
def test_an_archive_cannot_leave_its_folder(tmp_path: Path, member: tarfile.TarInfo) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "image.tar.gz").write_bytes(tar_bytes({"image/000.jpg": b"fine"}, odd=[member]))
    (one,) = failed(prepare(root, delete_archives=True))
    assert "refused" in str(one.error)
    assert (root / "image.tar.gz").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    assert not Path("/tmp/outside.jpg").exists()
    assert content(root) == {"image/000.jpg": b"fine"}


def test_a_link_on_the_disk_does_not_lead_out_either(tmp_path: Path) -> None:
    root, outside = tmp_path / "data", tmp_path / "outside"
    outside.mkdir()
    root.mkdir()
    (root / "image").symlink_to(outside)
    (root / "image.tar.gz").write_bytes(tar_bytes({"image/000.jpg": b"x"}))
    (one,) = failed(prepare(root))
    assert "outside" in str(one.error)
    assert list(outside.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "image.tar.gz").write_bytes(tar_bytes({"choice_qa.json": b"[{}]", "image/1.jpg": b"1"}))
    (tmp_path / "choice_qa.json").write_bytes(b"mine")
    (one,) = failed(prepare(tmp_path))
    assert "move it away" in str(one.error)
    assert (tmp_path / "choice_qa.json").read_bytes() == b"mine"


def test_files_of_an_earlier_extraction_are_taken_over_and_empty_ones_replaced(tmp_path: Path) -> None:
    root = download(tmp_path)
    (root / "3D/image").mkdir()
    (root / "3D/image/001.jpg").write_bytes(FILES["image/001.jpg"])
    (root / "3D/image/002.jpg").write_bytes(b"")
    inode = (root / "3D/image/001.jpg").stat().st_ino
    assert failed(prepare(root)) == []
    assert content(root) == WANTED
    assert (root / "3D/image/001.jpg").stat().st_ino == inode


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "image.tar.gz").write_bytes(tar_bytes({"image/._1.jpg": b"mac", "image/1.jpg": b"1"}))
    assert prepare(tmp_path).archives[0].files == 1
    assert not (tmp_path / "image/._1.jpg").exists()


def broken_checksum(data: bytes) -> bytes:
    return data[:-8] + bytes(4) + data[-4:]


def broken_header(_: bytes) -> bytes:
    """tarfile takes a damaged header for the end of the archive and says nothing."""
    plain = bytearray(gzip.decompress(tar_bytes({"a.jpg": b"1" * 512, "b.jpg": b"2" * 512})))
    plain[1024:1124] = b"?" * 100
    return gzip.compress(bytes(plain))


def no_end(_: bytes) -> bytes:
    plain = gzip.decompress(tar_bytes({"a.jpg": b"1" * 512}))
    return gzip.compress(plain[:1024])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda data: data[: len(data) // 2], "ends too early"),
        (lambda data: data[:-1], "ends too early"),
        (broken_checksum, "damaged"),
        (broken_header, "a header in it is damaged"),
        (no_end, "without the mark of its end"),
        (lambda _: b"no archive at all", "damaged"),
        (lambda _: gzip.compress(b"no tar"), "damaged"),
        (lambda _: b"", "damaged"),
    ],
    ids=["half", "last byte", "checksum", "header", "no end", "no gzip", "no tar", "empty"],
)
def test_damage_is_told_and_the_archive_kept(tmp_path: Path, spoil, says: str) -> None:
    (tmp_path / "bad.tar.gz").write_bytes(spoil(tar_bytes(FILES)))
    (tmp_path / "good.tar.gz").write_bytes(tar_bytes(DEPTHS))
    made = prepare(tmp_path, delete_archives=True)
    assert [a.name for a in failed(made)] == ["bad.tar.gz"]
    assert says in str(failed(made)[0].error)
    assert (tmp_path / "bad.tar.gz").exists()
    assert (tmp_path / "depth" / "000.png").exists()


def test_what_grows_a_hundredfold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.data.extract.ALWAYS_ALLOWED_BYTES", 2**20)
    (tmp_path / "bomb.tar.gz").write_bytes(tar_bytes({"image/0.jpg": bytes(64 * 2**20)}))
    (one,) = failed(prepare(tmp_path))
    assert "100-fold" in str(one.error)
    assert content(tmp_path) == {}


@pytest.mark.parametrize("suffixes", [["a", "c"], ["b"], ["aa", "ac"], ["0", "2"], ["2"]], ids=str)
def test_a_missing_part_is_named_before_any_work(tmp_path: Path, suffixes: list[str]) -> None:
    split(tmp_path / "image.tar.gz", tar_bytes(FILES), suffixes)
    with pytest.raises(ArchiveInvalid, match="a part is missing"):
        prepare(tmp_path)


@pytest.mark.parametrize("suffixes", ["ab", ["aa", "ab", "ac"], ["1", "2"], ["00", "01"], list("abcdefghijk")], ids=str)
def test_parts_are_read_in_order_under_any_scheme(tmp_path: Path, suffixes: list[str]) -> None:
    data = tar_bytes(FILES)
    split(tmp_path / "image.tar.gz", data, suffixes)
    (archive,) = survey(tmp_path).archives
    assert io.BufferedReader(PartsReader(archive, lambda _: None)).read() == data
    assert failed(prepare(tmp_path)) == []


def test_the_hash_of_the_hub_is_compared(tmp_path: Path) -> None:
    root = download(tmp_path)
    for part in sorted((root / "3D").glob("*.tar.gz*")):
        metadata = root / ".cache/huggingface/download/3D" / f"{part.name}.metadata"
        metadata.parent.mkdir(parents=True, exist_ok=True)
        wrong = part.name == "depth.tar.gz"
        digest = hashlib.sha256(part.read_bytes() + b"?" * wrong).hexdigest()
        metadata.write_text(f"{'a' * 40}\n{digest}\n1700000000.0\n")
    made = prepare(root)
    assert {a.name: a.hashed_parts for a in made.archives if a.error is None} == {"3D/image.tar.gz": 3}
    assert "sha256 differs" in str(failed(made)[0].error)


def test_a_git_lfs_pointer_is_told(tmp_path: Path) -> None:
    (tmp_path / "image.tar.gz").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(DatasetInvalid, match="git lfs pull"):
        prepare(tmp_path)


def test_a_joined_copy_beside_its_parts_is_left_alone(tmp_path: Path) -> None:
    root = download(tmp_path)
    (root / "3D" / "image.tar.gz").write_bytes(b"half joined")
    made = prepare(root, delete_archives=True)
    assert failed(made) == []
    assert "left alone" in made.notes[0]
    assert (root / "3D" / "image.tar.gz").read_bytes() == b"half joined"


def test_too_little_space_is_told_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = download(tmp_path)
    sizes = sorted((a.bytes for a in survey(root).archives), reverse=True)
    usage = type("Usage", (), {"free": round(0.1 * sum(sizes) + sizes[0]) + 1})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match="--delete-archives --workers 1"):
        prepare(root)
    assert not (root / "3D/image").exists()
    assert failed(prepare(root, delete_archives=True)) == []


def test_two_runs_do_not_work_on_one_folder(tmp_path: Path) -> None:
    root = download(tmp_path)
    with module._alone(root), pytest.raises(ConfigError, match="another run"):
        prepare(root)


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_archives_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArchiveInvalid, match=r"no folder|no \.tar\.gz"):
        prepare(tmp_path / name)


def test_a_full_disk_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = download(tmp_path)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("train.data.extract._write", full)
    with pytest.raises(StorageError, match="No space left"):
        prepare(root)
    monkeypatch.undo()
    assert failed(prepare(root)) == []
    assert content(root) == WANTED
    assert json.loads((root / ".prepare" / "3D__depth.tar.gz.done.json").read_text())["files"] == 20
