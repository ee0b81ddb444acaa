"""Cameras from files, in every format that people have, and back."""
