"""Damaged files for every reader, and what a reader may do with them."""
