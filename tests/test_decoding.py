"""YAML that would take for ever is refused before it is built."""

import time
from pathlib import Path

import pytest
import yaml

from mvguide.config.parsing import read_scene_file
from mvguide.decoding import check_readable, check_yaml, is_file, is_folder, reading_only
from mvguide.errors import FileError

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "20000 values in all, aliases counted in full"),
        (f"image: {'[' * 20_000}{']' * 20_000}", "nested more than 20 deep"),
        ("views: &a [1, *a]", "has a part, a, that contains itself"),
        ("intrinsics: [" + "0, " * 5000 + "0]", "more than 1000 entries"),
        ("image: " + "x" * 300_000, "has 300007 characters"),
        ("views:\n" + "".join(f"- {{a{k}: [{'1, ' * 900}1]}}\n" for k in range(40)), "20000 values in all"),
    ],
)
def test_yaml_that_would_take_for_ever_is_refused(tmp_path: Path, text: str, words: str) -> None:
    start = time.monotonic()
    with pytest.raises(FileError, match=f"^scene x .*{words}"):
        check_yaml(text, "scene x")
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(FileError, match=rf"^scene file .*a\.yaml .*{words}"):
        read_scene_file(tmp_path / "a.yaml")
    assert time.monotonic() - start < 5


def test_ordinary_yaml_passes_and_so_does_what_the_parser_is_to_complain_about() -> None:
    check_yaml(yaml.safe_dump({"views": [{"image": "a.png", "camera_to_world": [[1.0] * 4] * 4}] * 50}), "x")
    check_yaml("a: &a [1, 2]\nb: *a\nc: *a\n", "x")
    check_yaml("a: [1,\nb: }", "x")
    check_yaml("a: *nowhere", "x")
    check_yaml("", "x")


def test_readers_that_are_confined_see_nothing_else(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a.txt").write_text("x")
    (inside / "link").symlink_to(outside)
    (inside / "way").symlink_to(inside / "a.txt")
    hidden = [outside / "a.txt", inside / ".." / "out" / "a.txt", inside / "link" / "a.txt", Path("/etc/passwd")]
    with reading_only(inside, tmp_path / "not there"):
        assert check_readable(inside / "a.txt", "file") == inside / "a.txt"
        assert is_file(inside / "way")
        assert is_folder(inside)
        for path in hidden:
            with pytest.raises(FileError, match="is not among the files that were given"):
                check_readable(path, "file")
            assert not is_file(path)
        assert not is_folder(outside)
        assert not is_folder(inside / "link")
        for name in ("a\0b", "x" * 5000):
            assert not is_file(Path(name))
        with reading_only(outside):
            assert not is_file(inside / "a.txt"), "the inner one counts"
    assert is_file(outside / "a.txt")
