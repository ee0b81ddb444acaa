import os
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from mvguide.errors import FileError, OutputError
from mvguide.files.atomic import atomic_path, check_writable, output_folder


def tree(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


def test_the_result_appears_whole_and_alone(tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep" / "a.npz"
    with atomic_path(target) as temporary:
        assert temporary.suffix == ".npz"
        temporary.write_text("result")
        assert not target.exists()
    assert target.read_text() == "result"
    assert tree(tmp_path) == ["new", "new/deep", "new/deep/a.npz"]


def fail_halfway(result: AbstractContextManager[Path], error: type[BaseException]) -> None:
    with result as temporary:
        (temporary / "half.txt" if temporary.is_dir() else temporary).write_text("half")
        raise error("stop")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, FileError])
def test_a_failure_leaves_the_old_result_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error):
        fail_halfway(atomic_path(target), error)
    assert target.read_text() == "old"
    assert tree(tmp_path) == ["a.txt"]
    with pytest.raises(error):
        fail_halfway(atomic_path(tmp_path / "x" / "y" / "a.txt"), error)
    assert tree(tmp_path) == ["a.txt"]


def test_a_disk_error_becomes_a_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"a\.txt cannot be written \(No space left on device\)"),
        atomic_path(tmp_path / "a.txt"),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(OutputError, match=r"cannot be written"), atomic_path(tmp_path / "a.txt"):
        pass  # nothing was written
    assert tree(tmp_path) == []


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    with atomic_path(tmp_path / "link.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with atomic_path("a.txt") as temporary:
        temporary.write_text("x")
    with output_folder("out") as folder:
        (folder / "b.txt").write_text("y")
    with output_folder(".") as folder:
        (folder / "c.txt").write_text("z")
    assert tree(tmp_path) == ["a.txt", "c.txt", "out", "out/b.txt"]


def test_check_writable_says_what_is_wrong_and_creates_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    before = tree(tmp_path)
    assert check_writable(tmp_path / "folder", folder=True) == tmp_path / "folder"
    check_writable(tmp_path / "new" / "deep", folder=True)
    check_writable(tmp_path / "file")
    cases: list[tuple[str | Path, bool, str]] = [
        (tmp_path / "file", True, r"output folder .*file is an existing file"),
        (tmp_path / "folder", False, r"output file .*folder is an existing folder"),
        (tmp_path / "file" / "below", True, r"file is not a folder"),
        (tmp_path / "file" / "below" / "more.txt", False, r"file is not a folder"),
        ("a\0b", False, r"cannot be written"),
        (os.devnull, False, r"is a pipe or a device"),
    ]
    for path, folder, words in cases:
        with pytest.raises(OutputError, match=words):
            check_writable(path, folder=folder)
    assert tree(tmp_path) == before


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that nobody can write to")  # noqa: PTH112
def test_a_folder_that_cannot_be_written_is_refused_for_the_administrator_too() -> None:
    with pytest.raises(OutputError, match=r"cannot be written: folder /proc/self refuses new files"):
        check_writable("/proc/self/out.txt")
    with pytest.raises(OutputError, match=r"cannot be written"), output_folder("/proc/self/out"):
        pytest.fail("must be refused before any work")


def test_a_fresh_output_folder_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a" / "out"
    with output_folder(target) as folder:
        (folder / "frames").mkdir()
        (folder / "frames" / "0000.png").write_text("0")
        (folder / "report.json").write_text("{}")
        assert not target.exists()
    assert tree(target) == ["frames", "frames/0000.png", "report.json"]
    assert tree(tmp_path / "a") == ["out", *(f"out/{name}" for name in tree(target))]


def test_an_existing_output_folder_loses_only_what_is_replaced_or_stale(tmp_path: Path) -> None:
    target = tmp_path / "out"
    (target / "frames").mkdir(parents=True)
    for name in ("frames/0000.png", "frames/0001.png", "frames/notes.txt", "mine.txt", "report.json"):
        (target / name).write_text("old")
    with output_folder(target, stale=["frames/[0-9][0-9][0-9][0-9].png"]) as folder:
        (folder / "frames").mkdir()
        (folder / "frames" / "0000.png").write_text("new")
        (folder / "report.json").write_text("new")
        (folder / "video.mp4").write_text("new")
    contents = {name: (target / name).read_text() for name in tree(target) if (target / name).is_file()}
    assert contents == {
        "frames/0000.png": "new",
        "frames/notes.txt": "old",
        "mine.txt": "old",
        "report.json": "new",
        "video.mp4": "new",
    }
    assert tree(tmp_path) == ["out", *(f"out/{name}" for name in tree(target))]


def test_a_failure_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(RuntimeError):
        fail_halfway(output_folder(target / "deep"), RuntimeError)
    assert tree(tmp_path) == []
    target.mkdir()
    (target / "a.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fail_halfway(output_folder(target, stale=["*.txt"]), KeyboardInterrupt)
    assert tree(tmp_path) == ["out", "out/a.txt"]
    assert (target / "a.txt").read_text() == "old"


@pytest.mark.parametrize("clash", ["file", "folder"])
def test_clashes_are_found_before_anything_moves(tmp_path: Path, clash: str) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "x").mkdir() if clash == "folder" else (target / "x").write_text("old")
    (target / "a.txt").write_text("old")

    def write() -> None:
        with output_folder(target) as folder:
            (folder / "a.txt").write_text("new")
            if clash == "folder":
                (folder / "x").write_text("new")
            else:
                (folder / "x").mkdir()
                (folder / "x" / "y").write_text("new")

    with pytest.raises(OutputError, match=rf"is an existing {clash}"):
        write()
    assert (target / "a.txt").read_text() == "old"
    assert tree(target) == ["a.txt", "x"]
