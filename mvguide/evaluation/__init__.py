"""Figures that say how good frames are."""
