"""Inputs: images, cameras and depth from files, missing depth, held-out images, and the path of the camera."""
