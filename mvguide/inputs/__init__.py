"""Inputs: pictures, cameras and depth from files, missing depth, held-out pictures, and the path of the camera."""
