"""Views: images with cameras and depth, warped along a path and judged."""
