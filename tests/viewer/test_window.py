"""The viewer without a browser: what is drawn, what the panel does, and who may connect."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mvguide.cli import main
from mvguide.commands.viewing import open_viewer
from mvguide.config.parsing import load_settings
from mvguide.config.view_options import ViewConfig
from mvguide.errors import InputError
from mvguide.viewer.nodes import look_through, pixels_of, pose_of
from mvguide.viewer.window import Viewer

pytest.importorskip("viser")
QUICK = {"width": 32, "height": 32, "num_frames": 5, "port": 0, "points": 4000, "quiet": True}


@pytest.fixture
def viewer(tmp_path: Path) -> Iterator[Viewer]:
    config = load_settings(ViewConfig, scene="two_views", out=str(tmp_path / "path.json"), **QUICK)
    with open_viewer(config) as opened:
        yield opened


def names(viewer: Viewer, below: str) -> list[str]:
    """Nodes of the scene right below a name."""
    known = viewer.server.scene._handle_from_node_name
    return sorted(name for name in known if name.rpartition("/")[0] == below)


def test_the_scene_holds_views_path_and_points(viewer: Viewer) -> None:
    assert names(viewer, "/views") == ["/views/0", "/views/1"]
    assert names(viewer, "/path") == [*(f"/path/{frame}" for frame in range(5)), "/path/line"]
    assert 2000 < len(viewer.points.points) <= 4000
    for frustum, view in zip(viewer.views, viewer.shown.views, strict=True):
        assert frustum.image.shape == (256, 256, 3)
        torch.testing.assert_close(pose_of(frustum), view.camera.camera_to_world.double(), atol=1e-5, rtol=0)
    assert np.linalg.norm(viewer.server.initial_camera.position) < 100


def test_the_slider_moves_the_frame_and_its_image(viewer: Viewer) -> None:
    before = viewer.image.image
    viewer.slider.value = 3
    torch.testing.assert_close(pose_of(viewer.frame), viewer.shown.trajectory[3].camera_to_world.double())
    assert not np.array_equal(viewer.image.image, before)
    assert viewer.frame.image is viewer.image.image
    viewer.what.value = "mask"
    mask = (viewer.shown.frames["mask"][3][0] * 255).round().byte().numpy()
    assert np.array_equal(viewer.image.image[::8, ::8, 0], mask), "enlarged by whole pixels"
    viewer.in_scene.value = False
    assert viewer.frame.image is None


def test_of_a_long_path_some_cameras_are_drawn_and_all_frames_shown(tmp_path: Path) -> None:
    small = {**QUICK, "width": 16, "height": 16, "num_frames": 260}
    with open_viewer(load_settings(ViewConfig, scene="marbles", out=str(tmp_path / "path.json"), **small)) as viewer:
        drawn = names(viewer, "/path")
        assert len(drawn) == 201
        assert {"/path/0", "/path/259", "/path/line"} <= set(drawn)
        assert viewer.slider.max == 259
        viewer.slider.value = 258
        torch.testing.assert_close(pose_of(viewer.frame), viewer.shown.trajectory[258].camera_to_world.double())


@pytest.mark.parametrize(
    ("size", "shown"), [((20, 30), (180, 270)), ((300, 200), (300, 200)), ((64, 2048), (32, 1024))]
)
def test_images_have_a_useful_size(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert pixels_of(torch.rand(3, *size)).shape == (*shown, 3)
    smaller = tuple(min(side, side * 512 // max(shown)) for side in shown)
    assert pixels_of(torch.rand(1, *size), 512).shape[:2] == smaller


def test_points_are_coloured_on_request(viewer: Viewer) -> None:
    by_image = viewer.points.colors
    assert viewer.colours.options == ("image", "seen", "confidence")
    for kind in ("seen", "confidence"):
        viewer.colours.value = kind
        share = viewer.shown.point_shares[kind]
        brightness = viewer.points.colors.astype(float).sum(-1)
        assert brightness[share.argmax()] > brightness[share.argmin()]
    viewer.colours.value = "image"
    assert np.array_equal(viewer.points.colors, by_image)


def test_keys_are_added_dragged_deleted_and_saved(viewer: Viewer, tmp_path: Path) -> None:
    panel, path = viewer.keys, viewer.shown.trajectory
    assert names(viewer, "/keys") == ["/keys/0"]
    assert panel.handles.visible, "of posed views, the first key may be moved"
    for frame in (2, 4):
        panel.add(path[frame].camera_to_world)
    assert names(viewer, "/keys") == ["/keys/0", "/keys/1", "/keys/2", "/keys/line"]
    assert panel.key.value == "2"
    panel.handles.position = tuple(path[3].center.tolist())
    panel.move(pose_of(panel.handles))  # what a drag does
    torch.testing.assert_close(panel.keys.cameras[2].center, path[3].center.double())
    assert np.allclose(panel.frusta[2].position, path[3].center.numpy())
    panel.key.value = "1"
    panel.delete()
    assert names(viewer, "/keys") == ["/keys/0", "/keys/1", "/keys/line"]
    panel.save()
    assert "--trajectory.file" in panel.said.content
    assert (tmp_path / "path.json").exists()
    panel.delete()
    assert names(viewer, "/keys") == ["/keys/0"]
    with pytest.raises(InputError, match="at least 2 key cameras"):
        panel.save()


def test_a_saved_path_is_gone_on_with_and_rendered(tmp_path: Path) -> None:
    given = {**QUICK, "scene": "marbles", "out": str(tmp_path / "path.json")}
    with open_viewer(load_settings(ViewConfig, **given)) as viewer:
        assert not viewer.keys.handles.visible, "a path of one image starts at it"
        viewer.keys.add(viewer.shown.trajectory[3].camera_to_world)
        viewer.keys.save()
        expected = viewer.keys.keys.trajectory(smooth=True)
    with open_viewer(load_settings(ViewConfig, **given)) as viewer:
        assert len(viewer.keys.keys) == 2
        assert viewer.keys.key.options == ("0", "1")
    size = ["--width", "32", "--height", "32", "--num_frames", "5", "--steps", "1", "--quiet"]
    path = ["--trajectory.kind", "file", "--trajectory.file", str(tmp_path / "path.json")]
    assert main(["render", "--scene", "marbles", *path, *size, "--out", str(tmp_path / "result")]) == 0
    result = load_settings(ViewConfig, scene=str(tmp_path / "result"), port=0, quiet=True, out=str(tmp_path / "n.json"))
    with open_viewer(result) as viewer:
        torch.testing.assert_close(viewer.shown.trajectory.world_to_camera, expected.world_to_camera)
        assert viewer.what.options == ("result", "warp", "mask", "confidence")


def test_a_result_that_shrank_while_it_is_shown(tmp_path: Path) -> None:
    """A frame that is gone is told of in the browser, and the panel goes on."""
    assert main(["render", "--scene", "marbles", "--steps", "1", "--width", "32", "--height", "32", "--num_frames", "3",
                 "--quiet", "--out", str(tmp_path / "result")]) == 0  # fmt: skip
    config = load_settings(ViewConfig, scene=str(tmp_path / "result"), port=0, quiet=True, out=str(tmp_path / "n.json"))
    with open_viewer(config) as viewer:
        shutil.rmtree(tmp_path / "result" / "images")
        told: list[str] = []
        client = SimpleNamespace(add_notification=lambda title, body, color: told.append(body))
        act = viewer.guarded(lambda _: viewer.show_frame())
        act(SimpleNamespace(client=client))
        assert "0000.png" in told[0]
        viewer.what.value = "warp"
        act(SimpleNamespace(client=client))
        assert len(told) == 1


def test_looking_through_a_camera_holds_all_of_its_image(viewer: Viewer) -> None:
    class Client:
        """As much of viser's client as is used."""

        def __init__(self, aspect: float) -> None:
            self.camera = SimpleNamespace(aspect=aspect)

        def atomic(self) -> "Client":
            return self

        def __enter__(self) -> None: ...

        def __exit__(self, *of: object) -> None: ...

    camera = viewer.shown.trajectory[2]
    fov = float(torch.deg2rad(camera.fov_degrees))
    wide, tall = Client(2.0), Client(0.5)
    for client in (wide, tall):
        look_through(client, camera)
        assert np.allclose(client.camera.position, camera.center.numpy())
        torch.testing.assert_close(pose_of(client.camera), camera.camera_to_world.double())
    assert wide.camera.fov == pytest.approx(fov), "square images"
    assert np.tan(tall.camera.fov / 2) * 0.5 == pytest.approx(np.tan(fov / 2)), "as wide as the window"


def test_only_pages_of_this_machine_may_connect(viewer: Viewer) -> None:
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus
    from websockets.typing import Origin

    async def status(origin: str) -> int:
        address = viewer.address.replace("http", "ws")
        try:
            async with connect(address, origin=Origin(origin), subprotocols=["viser-v0"]):  # type: ignore[list-item]
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code

    assert viewer.address.startswith("http://127.0.0.1:")
    assert asyncio.run(status(viewer.address)) == 101
    for origin in ("http://example.org", "http://127.0.0.1.example.org", "https://127.0.0.1", "null"):
        assert asyncio.run(status(origin)) == 403, origin
    with urllib.request.urlopen(viewer.address) as page:
        assert b"viser" in page.read()[:100_000].lower()


def test_nothing_is_shared_outside(viewer: Viewer) -> None:
    assert viewer.server.request_share_url() is None
    assert viewer.server._share_tunnel is None


def test_ctrl_c_ends_it_well(tmp_path: Path) -> None:
    words = ["view", "marbles", "--num_frames", "2", "--width", "32", "--height", "32", "--port", "0"]
    # Tests that run in the background ignore Ctrl-C, and so would their children.
    start = (
        "import signal, sys; from mvguide.cli import main; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", start, *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        assert process.stderr is not None
        said = ""
        while "open http://127.0.0.1:" not in said:
            said = process.stderr.readline()
            assert said, "it ended by itself"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert out == "", "viser's own words are kept back"
