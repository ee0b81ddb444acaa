"""Methods, scenes and reports of ``tools/bench_quality.py``."""
