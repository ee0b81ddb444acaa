"""From settings to views: pictures, cameras and depth from files, and the path of the camera."""

from mvguide.inputs.loading import Inputs, find_posed, load_inputs
from mvguide.inputs.scene_file import with_scene

__all__ = ["Inputs", "find_posed", "load_inputs", "with_scene"]
