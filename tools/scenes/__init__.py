"""Procedural ray-traced scenes with exact colour, depth and cameras, on the CPU or on CUDA.

A scene is a function of its seed alone: not of the batch that it is drawn in, nor of the device (beyond rounding).
World axes: y up, metres. Cameras: OpenCV axes, pixel centres at +0.5, ``world_to_camera``.
"""

from tools.scenes.render import Scenes, flow_bucket, render_scenes
from tools.scenes.seeds import BENCH, EXAMPLES, HELD_OUT, TRAINING

__all__ = ["BENCH", "EXAMPLES", "HELD_OUT", "TRAINING", "Scenes", "flow_bucket", "render_scenes"]
