"""The lambda table as a plot."""

from pathlib import Path

import numpy as np

from mvguide.drawing.figures import new_figure
from mvguide.tables.table import LambdaTable


def plot_table(table: LambdaTable, path: str | Path, columns: str = "frame") -> None:
    """Draw the weights as a PNG: frames across, sigma down on a log scale (noisy at the top), colour = weight.

    Args:
        table: what to draw.
        path: of the PNG.
        columns: what a column is: frame, or latent frame.
    """
    sigmas, weights = table.sigmas.numpy(), table.weights.numpy()
    figure = new_figure(7.2, 4.8)
    from matplotlib.ticker import MaxNLocator

    axes = figure.subplots()
    frames = np.arange(weights.shape[1] + 1) - 0.5
    mesh = axes.pcolormesh(frames, _edges(sigmas), weights, cmap="viridis", vmin=0, vmax=1)
    axes.set_yscale("log")
    axes.set_xlabel(columns)
    axes.set_ylabel("noise level sigma (sampling runs downwards)")
    axes.set_title(table.source or "lambda table", fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(mesh, ax=axes, label="weight lambda / (1 + lambda): 0 = model, 1 = warp")
    figure.savefig(path, dpi=120)


def _edges(sigmas: np.ndarray) -> np.ndarray:
    """Borders between levels: geometric means, and half a step beyond both ends; decreasing."""
    logs = np.log(sigmas)
    steps = np.diff(logs) if len(logs) > 1 else np.array([-1.0])
    inner = (logs[1:] + logs[:-1]) / 2
    return np.exp(np.concatenate([[logs[0] - steps[0] / 2], inner, [logs[-1] + steps[-1] / 2]]))
