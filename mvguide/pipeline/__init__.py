"""The pipeline: prepare, calibrate, sample, and what comes out."""
