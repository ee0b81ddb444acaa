"""The one place that says which seeds are for what. The ranges do not meet."""

TRAINING = range(1_000_000, 1_000_000_000)
"""Seeds that a model may be trained on."""

HELD_OUT = range(0, 1_000)
"""Seeds for validation and for choosing settings: never trained on."""

BENCH = range(1_000, 10_000)
"""Seeds for the figures that are reported: never trained on, nor used to choose anything."""

EXAMPLES = range(10_000, 20_000)
"""Seeds of the example scenes that ship with the package: never trained on, nor used to choose anything."""
