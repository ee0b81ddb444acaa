"""Parts of the trainer of the embedded model (``tools/train_tiny.py``)."""
