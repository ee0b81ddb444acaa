"""The lambda table and the sigma schedule as plots."""

from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from torch import Tensor

from mvguide.drawing.figures import new_figure


class Weights(Protocol):
    """What is drawn of a :class:`mvguide.LambdaTable`."""

    @property
    def weights(self) -> Tensor:
        """``[N, F]`` in [0, 1]."""

    @property
    def sigmas(self) -> Tensor:
        """``[N]``, strictly decreasing, > 0."""

    @property
    def made_by(self) -> str:
        """How the table was made, in words."""


def plot_table(table: Weights, path: str | Path | BinaryIO, columns: str = "frame") -> None:
    """Draw the weights as a PNG: frames across, sigma down on a log scale (noisy at the top), colour = weight.

    Args:
        table: what to draw.
        path: PNG file, or where its bytes go.
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
    figure.suptitle(f"Weight of the warp, by {columns} and noise level", fontsize=11)
    axes.set_title(table.made_by, fontsize=8, wrap=True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(mesh, ax=axes, label="weight lambda / (1 + lambda): 0 = model, 1 = warp")
    figure.savefig(path, dpi=120)


def plot_sigmas(sigmas: Tensor, path: str | Path | BinaryIO, name: str = "") -> None:
    """Draw noise levels as a PNG: steps across, sigma on a log scale; the final 0 is left out.

    Args:
        sigmas: ``[N + 1]``, strictly decreasing, the last 0.
        path: PNG file, or where its bytes go.
        name: of the schedule, for the title.
    """
    figure = new_figure(6.0, 3.0)
    axes = figure.subplots()
    axes.plot(sigmas[:-1].numpy(), marker=".", color="tab:blue")
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("noise level sigma")
    axes.set_title(f"Sigma schedule {name}: {len(sigmas) - 1} steps, then 0", fontsize=10)
    figure.savefig(path, dpi=100)


def _edges(sigmas: np.ndarray) -> np.ndarray:
    """Borders between levels: geometric means, and half a step beyond both ends; decreasing."""
    logs = np.log(sigmas)
    steps = np.diff(logs) if len(logs) > 1 else np.array([-1.0])
    inner = (logs[1:] + logs[:-1]) / 2
    return np.exp(np.concatenate([[logs[0] - steps[0] / 2], inner, [logs[-1] + steps[-1] / 2]]))
