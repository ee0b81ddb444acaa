"""The page and the table of a batch: whole, escaped, and of what really lies in the folders."""

import csv
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from mvguide.evaluation import overview
from mvguide.evaluation.overview import INDEX, TABLE, Entry, Overview, read_entry

VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """What a page refers to, its text, and whether its tags are closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.targets: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        self.targets += [str(value) for name, value in attrs if name in ("src", "href", "poster", "data", "action")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def check_page(path: Path) -> Page:
    """All that the page refers to lies beside it; nothing is fetched from elsewhere."""
    page = Page(path)
    for target in page.targets:
        assert ":" not in target
        assert not target.startswith("/")
        assert (path.parent / unquote(target)).exists(), target
    return page


def write_result(folder: Path, **changed: Any) -> None:
    """What the overview reads of a result folder."""
    (folder / "images").mkdir(parents=True)
    for name in ("video.mp4", "sheet.png", "report.html", "images/0002.png"):
        (folder / name).write_bytes(b"x")
    command = {"digest": "abc", "run": "r1"}
    report = {"settings": {"command": command}, "seen": [1, 0.5, 0.5, 0.4], "seconds": {"denoise": 1.5, "decode": 0.5}}
    (folder / "report.json").write_text(json.dumps({**report, **changed}))


def write_evaluation(folder: Path) -> None:
    (folder / "evaluation").mkdir()
    rows = {"result": {"psnr whole": 20.5, "psnr seen": 21.0, "psnr holes": None, "flicker": 0.1}}
    document = {"format": "mvguide evaluation 1", "result": "..", "rows": rows, "frames": [0, 1]}
    (folder / "evaluation" / "evaluation.json").write_text(json.dumps(document))


def test_an_entry_is_what_the_folder_tells(tmp_path: Path) -> None:
    assert read_entry(tmp_path / "none") == Entry()
    write_result(tmp_path / "a")
    assert read_entry(tmp_path / "a") == Entry("done", "abc", "r1", 4, {"seconds": 2.0, "seen": 0.6})
    write_evaluation(tmp_path / "a")
    assert read_entry(tmp_path / "a").figures["psnr whole"] == 20.5
    assert "psnr holes" not in read_entry(tmp_path / "a").figures
    (tmp_path / "a" / "error.txt").write_text("it failed\n\ntraceback\n")
    assert read_entry(tmp_path / "a") == Entry("failed", error="it failed\n\ntraceback")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"seen": 3}', '{"settings": 1, "seen": [1]}', '{"settings": {"command": null}, "seen": [1]}',
     '{"settings": {"command": {}}, "seen": []}', '{"settings": {"command": {}}, "seen": ["x"]}', "\0\xff"],
)  # fmt: skip
def test_a_damaged_report_is_no_result(text: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(text)
    assert read_entry(tmp_path).status == "waiting"


def test_the_page_is_escaped_and_refers_to_what_is_there(tmp_path: Path) -> None:
    nasty = "<script>alert('1')</script>&\""
    jobs: dict[str, dict[str, Any]] = {
        "a b#%?": {"prompt": nasty, "seed": 0},
        "복도": {"prompt": "plain", "seed": 1},
        "lost": {"prompt": nasty, "steps": None},
        "later": {},
    }
    write_result(tmp_path / "a b#%?")
    write_evaluation(tmp_path / "a b#%?")
    write_result(tmp_path / "복도")
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / "error.txt").write_text(f"cannot read {nasty}\n\nTraceback\n")
    Overview(tmp_path, nasty, {"model": nasty}, jobs, jobs).save()
    page = check_page(tmp_path / INDEX)
    assert "<script" not in (tmp_path / INDEX).read_text()
    assert page.text.count(nasty) >= 5
    assert "4 jobs: 2 done, 1 failed, 1 waiting." in page.text
    assert "20.50" in page.text
    assert "Traceback" not in page.text
    assert sum(target.endswith("video.mp4") for target in page.targets) == 2
    with (tmp_path / TABLE).open(newline="", encoding="utf-8") as stream:
        rows = {row["job"]: row for row in csv.DictReader(stream)}
    assert list(rows) == list(jobs)
    assert rows["a b#%?"]["prompt"] == nasty
    assert float(rows["a b#%?"]["psnr whole"]) == 20.5
    assert rows["복도"]["psnr whole"] == ""
    assert (rows["lost"]["status"], rows["lost"]["error"]) == ("failed", f"cannot read {nasty}")
    assert (rows["later"]["status"], rows["later"]["seed"]) == ("waiting", "")


def test_many_jobs_have_several_pages_and_only_changed_ones_are_written(tmp_path: Path) -> None:
    jobs = {f"job{number}": {"seed": number} for number in range(250)}
    (tmp_path / "index_9.html").write_text("of an earlier batch")
    view = Overview(tmp_path, "many", {}, jobs, jobs)
    view.save()
    assert sorted(path.name for path in tmp_path.glob("*.html")) == ["index.html", "index_2.html", "index_3.html"]
    before = {path.name: path.stat().st_ino for path in tmp_path.glob("*.html")}
    write_result(tmp_path / "job240")
    view.read(["job240"])
    view.save(at_last=True)
    changed = {name for name, number in before.items() if (tmp_path / name).stat().st_ino != number}
    assert changed == {"index.html", "index_3.html"}
    assert "250 jobs: 1 done, 249 waiting" in check_page(tmp_path / INDEX).text
    assert "job240" in check_page(tmp_path / "index_3.html").text
    assert "job240" not in (tmp_path / "index_2.html").read_text()


def test_writing_takes_a_small_part_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(overview.time, "monotonic", lambda: now[0])
    view = Overview(tmp_path, "slow", {}, {"a": {}}, {"a"})
    written = view.write_table

    def slowly(path: Path) -> None:
        now[0] += 1
        written(path)

    monkeypatch.setattr(view, "write_table", slowly)
    stamps = []
    for _ in range(100):
        now[0] += 1
        before = now[0]
        view.save()
        stamps.append(now[0] > before)
    assert 3 <= sum(stamps) <= 6
    before = now[0]
    view.save(at_last=True)
    assert now[0] > before


def test_the_last_of_several_processes_has_read_the_jobs_of_all(tmp_path: Path) -> None:
    jobs: dict[str, dict[str, Any]] = {"a": {}, "b": {}}
    one, other = Overview(tmp_path, "t", {}, jobs, {"a"}), Overview(tmp_path, "t", {}, jobs, {"b"})
    write_result(tmp_path / "a")
    one.read(["a"])
    one.save(at_last=True)
    assert "1 done, 1 waiting" in check_page(tmp_path / INDEX).text
    write_result(tmp_path / "b")
    other.read(["b"])
    other.save(at_last=True)
    assert "2 jobs: 2 done" in check_page(tmp_path / INDEX).text
    assert not list(tmp_path.glob(".*"))
