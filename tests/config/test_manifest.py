"""Manifests: the product, the layers, globs, names of folders, and a sentence for each mistake."""

import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mvguide.config.manifest import Manifest, expand, read_manifest
from mvguide.config.parsing import packaged_configs
from mvguide.errors import ConfigError, FileError, MvguideError


def made(text: str, folder: Path = Path("/nowhere")) -> Manifest:
    return expand(yaml.safe_load(text), folder / "jobs.yaml")


def names(manifest: Manifest) -> list[str]:
    return [job.name for job in manifest.jobs]


def test_the_grid_is_a_product_for_every_job() -> None:
    manifest = made("""
shared: {model: tiny, num_frames: 4}
jobs: [{scene: marbles}, {scene: hall, name: The hall}]
grid:
  seed: [0, 1]
  trajectory: [orbit, {kind: orbit, degrees: -10.5}]
""")
    assert names(manifest) == [
        "marbles_seed0_orbit",
        "marbles_seed0_orbit-degrees-10.5",
        "marbles_seed1_orbit",
        "marbles_seed1_orbit-degrees-10.5",
        "The-hall_seed0_orbit",
        "The-hall_seed0_orbit-degrees-10.5",
        "The-hall_seed1_orbit",
        "The-hall_seed1_orbit-degrees-10.5",
    ]
    job = manifest.jobs[-1]
    assert job.own == {"scene": "hall", "seed": 1, "trajectory.kind": "orbit", "trajectory.degrees": -10.5}
    found = manifest.settings(job)
    assert (found.num_frames, found.seed, found.trajectory.kind) == (4, 1, "orbit")
    assert vars(found.trajectory)["degrees"] == -10.5
    assert Path(str(found.image)).name == "image.png", "the scene file is read"


def test_layers_shared_then_job_then_grid_and_groups_setting_by_setting() -> None:
    manifest = made("""
shared:
  scene: marbles
  steps: 9
  seed: 4
  trajectory: {kind: dolly, distance: 0.3}
  guidance: {mask: hard, weight: 0.5}
jobs: [{steps: 8, trajectory.easing: smooth}, {guidance: top_share, guidance.floor: 0.2}]
grid: {seed: [7]}
""")
    one, other = map(manifest.settings, manifest.jobs)
    assert (one.steps, one.seed, other.steps, other.seed) == (8, 7, 9, 7)
    assert one.trajectory.params() == {"distance": 0.3, "easing": "smooth"}
    assert (other.guidance.kind, other.guidance.mask, vars(other.guidance)["floor"]) == ("top_share", "hard", 0.2)
    assert names(manifest) == ["steps8_smooth_seed7", "top_share-floor0.2_seed7"]


def test_presets_and_scenes_are_layers_as_in_render() -> None:
    (job,) = made("{shared: {scene: hall}, jobs: [{guidance: {preset: nvs_solver_dgs}, name: a}]}").jobs
    found = made("{shared: {scene: hall}, jobs: [{guidance: {preset: nvs_solver_dgs}, name: a}]}").settings(job)
    assert (found.guidance.kind, found.sigmas, found.hole_radius) == ("top_share", "sigmas_100", 2)
    assert found.trajectory.kind == "file"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("photos/b.jpg", "photos/a.jpg", "photos/c.png", "rooms/x/view_0.png", "rooms/y/view_10.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_inputs_by_glob_are_jobs_in_the_order_of_their_names(photos: Path) -> None:
    manifest = made('{shared: {image: "photos/*.jpg", depth: "depth/{match}.npy"}, grid: {seed: [1]}}', photos)
    assert names(manifest) == ["a_seed1", "b_seed1"]
    found = manifest.settings(manifest.jobs[0])
    assert found.image == str(photos / "photos" / "a.jpg")
    assert found.depth == str(photos / "depth" / "a.npy")
    assert manifest.jobs[0].own["image"] == "photos/a.jpg"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('jobs: [{image: "photos/*"}]', ["a", "b", "c"]),
        ('jobs: [{image: "photos/*.jpg", name: pic}]', ["pic_a", "pic_b"]),
        ('jobs: [{image: "photos/[ab].jpg"}]', ["a", "b"]),
        ('jobs: [{image: "photos/?.png"}]', ["c"]),
        ('jobs: [{image: "rooms/*/view_*.png"}]', ["x-0", "y-10"]),
        ('jobs: [{image: "rooms/**/*.png", depth_unit: 0.001}]', ["x-view_0", "y-view_10"]),
        ('jobs: [{scene: marbles}]\ngrid: {trajectory.degrees: [5, 6.5], offload: [none, model]}',
         ["marbles_degrees5_none", "marbles_degrees5_model", "marbles_degrees6.5_none", "marbles_degrees6.5_model"]),
        ("grid: {scene: [hall, marbles]}", ["hall", "marbles"]),
        ("{shared: {scene: hall}, jobs: [{}]}", ["hall"]),
        ("{shared: {scene: hall}, jobs: [{warp_condition: false}]}", ["warp_condition-false"]),
        ("{shared: {scene: hall}, grid: {steps: [null, 3]}}", ["steps-null", "steps3"]),
        ("{shared: {scene: hall}, grid: {model: [tiny, /models/svd-xt]}}", ["tiny", "svd-xt"]),
    ],
)  # fmt: skip
def test_names_of_folders(text: str, wanted: list[str], photos: Path) -> None:
    assert names(made(text, photos)) == wanted


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(photos: Path) -> None:
    (photos / "photos" / "[ab].jpg").touch()
    assert names(made('jobs: [{image: "photos/[ab].jpg"}]', photos)) == ["ab"]


def test_names_do_not_depend_on_the_other_jobs(photos: Path) -> None:
    entries = ["{scene: hall}", "{scene: marbles, steps: 3}", '{image: "photos/*.jpg"}', "{scene: hall, name: other}"]
    alone = [set(names(made(f"{{jobs: [{entry}], grid: {{seed: [0, 1]}}}}", photos))) for entry in entries]
    chance = random.Random(0)
    for _ in range(5):
        chance.shuffle(entries)
        together = names(made(f"{{jobs: [{', '.join(entries)}], grid: {{seed: [0, 1]}}}}", photos))
        assert set(together) == set().union(*alone)


def test_words_that_differ_in_what_no_file_name_holds_have_names_that_differ() -> None:
    manifest = made(f"""
shared: {{scene: hall}}
grid:
  prompt: ["a: b", "a; b", "{"long " * 30}one", "{"long " * 30}two", "복도", "index.html"]
""")
    found = names(manifest)
    assert len({name.casefold() for name in found}) == 6
    assert "복도" in found
    assert all(len(name.encode()) <= 130 and "/" not in name and not name.startswith(".") for name in found)
    assert not any(name.endswith(".html") for name in found)


def test_the_digest_is_that_of_the_settings_alone(photos: Path) -> None:
    text = '{shared: {image: "photos/a.jpg", fov: 60}, jobs: [{name: a}]}'
    manifest = made(text, photos)
    found = manifest.settings(manifest.jobs[0])
    moved = made(text, photos / ".." / "elsewhere")
    assert moved.digest(moved.settings(moved.jobs[0])) == manifest.digest(found), "the data set may be moved"
    same = made('{shared: {image: "photos/a.jpg", fov: 60.0, seed: 0, device: cpu}, jobs: [{name: b}]}', photos)
    assert same.digest(same.settings(same.jobs[0])) == manifest.digest(found)
    for other in ("fov: 61", "fov: 60, seed: 1", "fov: 60, guidance: none", "fov: 60, trajectory: orbit"):
        changed = made(f'{{shared: {{image: "photos/a.jpg", {other}}}, jobs: [{{name: a}}]}}', photos)
        assert changed.digest(changed.settings(changed.jobs[0])) != manifest.digest(found)


def test_names_of_what_comes_with_mvguide_stay_and_files_beside_the_manifest_are_found(photos: Path) -> None:
    (photos / "own.npz").touch()
    manifest = made("{jobs: [{scene: hall, sigmas: sigmas_25, guidance.table: own.npz}]}", photos)
    found = manifest.settings(manifest.jobs[0])
    assert (found.sigmas, found.model, found.guidance.table) == ("sigmas_25", "tiny", str(photos / "own.npz"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1, 2]", "holds a list; it must have jobs or grid"),
        ("", "holds a NoneType; it must have jobs or grid"),
        ("{job: [{scene: hall}]}", "has 'job', which is not known; did you mean jobs"),
        ("{shared: {scene: hall}}", "has no jobs; give a list of settings under jobs"),
        ("{jobs: []}", "has no jobs"),
        ("{jobs: {scene: hall}}", "has no jobs; give a list"),
        ("{jobs: [hall]}", "entry 1 of jobs is 'hall'; it must be settings by name"),
        ("{shared: hall, jobs: [{}]}", "shared is 'hall'; it must be settings by name"),
        (
            "{jobs: [{scene: hall}, {scene: hall}]}",
            "entry 2 of jobs and entry 1 of jobs have jobs with the folder hall",
        ),
        ("{jobs: [{scene: hall}], grid: {seed: [1, 1]}}", "have jobs with the folder hall_seed1"),
        ("{jobs: [{scene: hall, name: A}, {scene: hall, name: a}]}", "have jobs with the folder a"),
        ("{jobs: [{scene: hall, sed: 1}]}", "gives 'sed', which is not known; did you mean seed"),
        ("{jobs: [{scene: hall, xyzzy: 1}]}", "gives 'xyzzy', which is not known; mvguide render --help"),
        ("{jobs: [{trajectory: {degres: 1}}]}", r"gives trajectory\.degres, which is not known; did you mean degrees"),
        ("{jobs: [{trajectory.degres: 1}]}", "did you mean degrees"),
        ("{jobs: [{seed.x: 1}]}", "gives 'seed.x', which is not known"),
        ("{jobs: [{1: 1}]}", "gives 1, which is not known"),
        ("{jobs: [{trajectory: 3}]}", "trajectory is 3; give its kind, or its settings by name"),
        ("{jobs: [{scene: hall, seed: null}]}", "seed is null, which is no value of it"),
        ("{jobs: [{scene: hall, guidance: {kind: null}}]}", "guidance.kind is null"),
        ("{jobs: [{scene: hall, out: x}]}", "gives out; that is one for all jobs, give --out to mvguide batch"),
        ("{shared: {resume: true}, jobs: [{scene: hall}]}", "shared gives resume; that is one for all jobs"),
        ("{jobs: [{scene: hall, name: 3}]}", "has the name 3; it must be a text"),
        ("{jobs: [{scene: hall, name: ''}]}", "has the name ''; it must be a text with letters"),
        ("{jobs: [{scene: hall, name: ///}]}", "has the name '///'"),
        ("{grid: [1]}", r"grid is \[1\]; it must be lists of values by setting"),
        ("{grid: {seed: 3}}", "grid: seed is 3; give a list of its values"),
        ("{grid: {seed: []}}", r"grid: seed is \[\]; give a list"),
        ("{grid: {trajectory: [orbit], trajectory.kind: [dolly]}}", r"grid gives trajectory\.kind twice"),
        ("{jobs: [{scene: hall, seed: 1}], grid: {seed: [0]}}", "entry 1 of jobs gives seed, and so does grid"),
        ("{grid: {name: [a]}}", "gives 'name', which is not known"),
        ('{jobs: [{image: "no/*.png"}]}', r"entry 1 of jobs: image 'no/\*.png' matches no file in"),
    ],
)
def test_a_wrong_manifest_gives_a_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        made(text, tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{jobs: [{scene: hall, seed: x}]}", "seed"),
        ("{jobs: [{scene: hall, trajectory: orbitt}]}", "trajectory.kind"),
        ("{jobs: [{scene: hall, views: [{img: a}]}]}", "views"),
        ("{jobs: [{scene: hall, image: a.png}]}", "--scene and --image were given"),
        ("{jobs: [{scene: no/such.yaml}]}", "scene file no/such.yaml does not exist"),
    ],
)
def test_values_that_do_not_fit_are_refused_when_the_job_is_read(text: str, sentence: str) -> None:
    manifest = made(text)
    with pytest.raises(MvguideError, match=sentence):
        manifest.settings(manifest.jobs[0])


def test_too_many_jobs_are_refused_before_they_are_made() -> None:
    lists = {name: list(range(1000)) for name in ("seed", "fps", "steps")}
    with pytest.raises(ConfigError, match="has more than 1000000 jobs"):
        expand({"grid": lists}, Path("jobs.yaml"))


def test_files_that_are_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="manifest none.yaml does not exist"):
        read_manifest("none.yaml")
    (tmp_path / "bad.yaml").write_text("jobs: [")
    with pytest.raises(FileError, match=r"manifest .*bad.yaml cannot be read"):
        read_manifest(tmp_path / "bad.yaml")
    (tmp_path / "code.yaml").write_text("jobs: !!python/object/apply:os.system [ls]")
    with pytest.raises(FileError, match="cannot be read"):
        read_manifest(tmp_path / "code.yaml")
    (tmp_path / "bomb.yaml").write_text("a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
    ))  # fmt: skip
    with pytest.raises(FileError, match="values in all"):
        read_manifest(tmp_path / "bomb.yaml")


def test_the_manifest_that_comes_with_mvguide() -> None:
    manifest = read_manifest("grid")
    assert len(manifest.jobs) == 12
    for job in manifest.jobs:
        manifest.settings(job)
    assert manifest.path == packaged_configs()["grid"]


WORDS = st.text(max_size=8)
VALUES: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | WORDS
    | st.sampled_from(["hall", "orbit", "*", "{match}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
KEYS = (
    st.sampled_from(["scene", "seed", "trajectory", "guidance", "trajectory.degrees", "name", "views", "image"]) | WORDS
)


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "shared": VALUES | st.dictionaries(KEYS, VALUES, max_size=3),
            "jobs": VALUES | st.lists(st.dictionaries(KEYS, VALUES, max_size=3), max_size=3),
            "grid": VALUES | st.dictionaries(KEYS, st.lists(VALUES, max_size=3), max_size=3),
        },
    )
    | VALUES
)
def test_anything_is_jobs_or_a_sentence(found: Any) -> None:
    try:
        manifest = expand(found, Path("/nowhere/jobs.yaml"))
        for job in manifest.jobs:
            assert job.name
            assert "/" not in job.name
            manifest.digest(manifest.settings(job))
    except MvguideError as error:
        assert str(error)
    else:
        assert len(set(names(manifest))) == len(manifest.jobs)
