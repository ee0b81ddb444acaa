"""The figures of ``tools/bench.py``, a module each."""
