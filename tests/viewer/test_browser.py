"""The viewer in a real browser, as a person uses it."""

import io
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mvguide.cameras.transforms import read_transforms
from mvguide.cli import main
from mvguide.commands.viewing import open_viewer
from mvguide.config.parsing import load_settings
from mvguide.config.view_options import ViewConfig
from mvguide.geometry.camera import Camera
from mvguide.viewer.nodes import pixels_of, pose_of
from mvguide.viewer.window import Viewer
from tests.browsing import chromium_page, in_browser

pytestmark = in_browser("viser")
ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0  # seconds; WebGL is slow without a GPU


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not in {PATIENCE:g} s: {what}"
        time.sleep(0.05)


def scene_tree(page: Any) -> list[str]:
    """Names of the nodes that the browser has, from its own list of them."""
    page.locator("svg.tabler-icon-adjustments").click()
    for parent in ("/views", "/path"):
        page.locator(f"[data-scene-node='{parent}'] svg").first.click()
        page.locator(f"[data-scene-node^='{parent}/']").first.wait_for()
    names = page.locator("[data-scene-node]").evaluate_all("rows => rows.map(row => row.dataset.sceneNode)")
    page.locator("svg.tabler-icon-arrow-back").click()
    return names


def shown_image(page: Any) -> np.ndarray:
    """The picture beside the slider, as the browser has it."""
    found = page.locator("img[src^='blob:']").first.evaluate(
        "async image => Array.from(new Uint8Array(await (await fetch(image.src)).arrayBuffer()))"
    )
    return np.asarray(Image.open(io.BytesIO(bytes(found))).convert("RGB"))


def shows(page: Any, wanted: np.ndarray) -> Callable[[], bool]:
    """Whether that is a picture, up to JPEG."""

    def same() -> bool:
        image = shown_image(page)
        return image.shape == wanted.shape and float(np.abs(image.astype(float) - wanted).mean()) < 4

    return same


def browser_camera(viewer: Viewer) -> Any:
    (client,) = viewer.server.get_clients().values()
    return client.camera


def is_at(viewer: Viewer, camera: Camera) -> bool:
    """Whether the browser looks from a camera."""
    return torch.allclose(pose_of(browser_camera(viewer)), camera.camera_to_world.double(), atol=1e-3)


def on_screen(viewer: Viewer, point: torch.Tensor, width: int = 1280, height: int = 800) -> tuple[float, float]:
    """Where the browser shows a point of the world."""
    camera = browser_camera(viewer)
    x, y, z = (torch.linalg.inv(pose_of(camera)) @ torch.cat([point, torch.ones(1, dtype=torch.float64)]))[:3].tolist()
    focal = height / 2 / math.tan(camera.fov / 2)
    return width / 2 + focal * x / z, height / 2 + focal * y / z


def drag(page: Any, start: tuple[float, float], by: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.wait_for_timeout(300)  # the pointer's target is found while a frame is drawn
    page.mouse.down()
    for step in range(1, 6):
        page.mouse.move(start[0] + by[0] * step / 5, start[1] + by[1] * step / 5)
        page.wait_for_timeout(60)
    page.mouse.up()


def open_config(tmp_path: Path, scene: str, **more: Any) -> ViewConfig:
    given = {"points": 20_000, "port": 0, "out": str(tmp_path / "path.json"), "quiet": True}
    return load_settings(ViewConfig, scene=scene, **{**given, **more})


def test_a_path_is_placed_saved_rendered_and_looked_at(tmp_path: Path) -> None:
    with open_viewer(open_config(tmp_path, "marbles")) as viewer, chromium_page(viewer.address) as page:
        page.get_by_text("Key cameras").wait_for()
        page.locator("canvas").first.wait_for()
        nodes = scene_tree(page)
        assert [name for name in nodes if name.startswith("/views/")] == ["/views/0"]
        frusta = [f"/path/{number}" for number in range(8)]
        assert [name for name in nodes if name.startswith("/path/")] == [*frusta, "/path/line"]
        # The slider moves the picture.
        frames, thumb = viewer.shown.frames, page.get_by_role("slider").first
        wait_for(shows(page, pixels_of(frames["warp"][0])), "the first frame")
        for number in (1, 2, 3):
            thumb.press("ArrowRight")
            wait_for(shows(page, pixels_of(frames["warp"][number])), f"frame {number}")
        torch.testing.assert_close(pose_of(viewer.frame), viewer.shown.trajectory[3].camera_to_world.double())
        page.locator("input[value=warp]").first.click()
        page.get_by_role("option", name="mask").click()
        wait_for(shows(page, pixels_of(frames["mask"][3])), "the mask")
        # The start of one image stays, and a sentence says so.
        page.get_by_role("button", name="Delete").click()
        page.get_by_text("the path starts at the image").wait_for()
        # Look through a frame, turn a little, and place a key camera there.
        page.get_by_role("button", name="Look through this frame").click()
        wanted = viewer.shown.trajectory[3]
        wait_for(lambda: is_at(viewer, wanted), "the camera of frame 3")
        drag(page, (500, 400), (40, 0))
        wait_for(lambda: not is_at(viewer, wanted), "another camera")
        page.wait_for_timeout(1000)  # it comes to rest
        page.get_by_role("button", name="Add where I look from").click()
        wait_for(lambda: len(viewer.keys.keys) == 2, "a key camera")
        assert is_at(viewer, viewer.keys.keys.cameras[1])
        # From farther away, drag it by its arrow.
        page.locator("svg.tabler-icon-adjustments").click()
        page.get_by_role("button", name="Reset View").click()
        page.locator("svg.tabler-icon-arrow-back").click()
        page.wait_for_timeout(2500)
        pose = viewer.keys.keys.cameras[1].camera_to_world
        arrow = pose[:3, 3] + 0.75 * viewer.keys.handles.scale * pose[:3, 1]
        x, y = on_screen(viewer, arrow)
        drag(page, (x, y), (0, 60))
        wait_for(lambda: not torch.equal(viewer.keys.keys.cameras[1].center, pose[:3, 3]), "a dragged key camera")
        moved = viewer.keys.keys.cameras[1].center - pose[:3, 3]
        assert float(moved @ pose[:3, 1]) > 0.5 * float(moved.norm()), "down, along the arrow"
        page.get_by_role("button", name="Save the path").click()
        page.get_by_text("Saved 2 key cameras").wait_for()
        expected = viewer.keys.keys.trajectory(smooth=True)
    saved = read_transforms(tmp_path / "path.json")
    torch.testing.assert_close(saved.cameras.world_to_camera, expected.world_to_camera)
    path = ["--trajectory.kind", "file", "--trajectory.file", str(tmp_path / "path.json")]
    result = tmp_path / "result"
    assert main(["render", "--scene", "marbles", *path, "--steps", "4", "--save_latents", "--quiet", "--out",
                 str(result)]) == 0  # fmt: skip
    (tmp_path / "path.json").unlink()
    with open_viewer(open_config(tmp_path, str(result))) as viewer, chromium_page(viewer.address) as page:
        torch.testing.assert_close(viewer.shown.trajectory.world_to_camera, expected.world_to_camera)
        wait_for(shows(page, pixels_of(viewer.shown.frames["result"][0])), "the result")
        page.get_by_role("slider").first.press("End")
        wait_for(shows(page, pixels_of(viewer.shown.frames["result"][7])), "its last frame")
        page.locator("input[value=image]").first.click()
        page.get_by_role("option", name="seen").click()
        wait_for(lambda: viewer.colours.value == "seen", "another colour")


def test_the_picture_of_the_documentation(tmp_path: Path) -> None:
    """With MVGUIDE_SCREENSHOTS=1 it replaces the one in docs/images."""
    config = open_config(tmp_path, "marbles", points=100_000)
    with open_viewer(config) as viewer, chromium_page(viewer.address) as page:
        wait_for(shows(page, pixels_of(viewer.shown.frames["warp"][0])), "the first frame")
        number = page.locator("input[inputmode=decimal]").first
        number.fill("5")
        number.press("Enter")
        wait_for(shows(page, pixels_of(viewer.shown.frames["warp"][5])), "frame 5")
        for frame, away in ((3, (-0.9, -0.3, 0.3)), (7, (-2.4, -0.2, 0.3))):
            pose = viewer.shown.trajectory[frame].camera_to_world.double()
            pose[:3, 3] += torch.tensor(away, dtype=torch.float64)
            viewer.keys.add(pose)
        page.get_by_text("Software WebGL").locator("xpath=../..").locator("button").click()
        page.wait_for_timeout(2000)
        file = tmp_path / "viewer.png"
        page.screenshot(path=file)
        pixels = np.asarray(Image.open(file).convert("RGB")).astype(int)
        scene = pixels[:, :900]
        assert (np.abs(scene - 255).sum(-1) > 60).mean() > 0.1, "points and cameras are drawn"
        for colour in ((240, 140, 30), (60, 120, 216), (40, 160, 90)):
            assert (np.abs(scene - colour).sum(-1) < 75).sum() > 50, "views, path and keys"
    if os.environ.get("MVGUIDE_SCREENSHOTS") == "1":
        Image.open(file).convert("RGB").quantize(128).save(ROOT / "docs" / "images" / "viewer.png")
