"""Depth maps: z along the optical axis in scene units, read from files."""
