"""How far estimated cameras are from the true ones, after a similarity (Sim(3)), which images leave open."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mvguide.errors import InputError
from mvguide.geometry.camera import Camera

_STILL = 1e-5
"""Paths shorter than this many scene units, or this share of their coordinates, count as still: files round."""


@dataclass(frozen=True)
class Sim3:
    """Similarity `y = scale * rotation @ x + translation`."""

    scale: float
    rotation: Tensor  # [3, 3] float64
    translation: Tensor  # [3] float64

    def __call__(self, points: Tensor) -> Tensor:
        """Points ``[N, 3]`` moved."""
        return self.scale * points.double() @ self.rotation.T + self.translation


@dataclass(frozen=True)
class PathError:
    """Errors of an estimated camera path.

    Args:
        ate: absolute trajectory error: root mean square distance of the aligned centres, scene units.
        ate_share: the same as a share of the true path's length.
        rpe_translation: root mean square error of the motion from frame to frame, scene units, at the aligned scale.
        rpe_rotation: root mean square angle by which the turn from frame to frame is off, degrees.
    """

    ate: float
    ate_share: float
    rpe_translation: float
    rpe_rotation: float


def align_sim3(source: Tensor, target: Tensor) -> Sim3:
    """Similarity that takes points to others with the least squared error (Umeyama, PAMI 1991, eqs. 40 to 43).

    With means m, centred points and the covariance `U D V^T = sum (y - m_y)(x - m_x)^T / N`: `R = U S V^T`,
    `c = tr(D S) / var(x)`, `t = m_y - c R m_x`, S = diag(1, 1, det U det V). Where the points lie on a line, the turn
    about it is one of many.

    Args:
        source: ``[N, 3]``, N >= 3.
        target: ``[N, 3]``.

    Raises:
        InputError: other shapes, values that are not finite, or source points that coincide, which have no scale.
    """
    if source.ndim != 2 or source.shape != target.shape or source.shape[1] != 3 or len(source) < 3:
        raise InputError(
            f"points of shapes {tuple(source.shape)} and {tuple(target.shape)}; give two of [N, 3], N >= 3"
        )
    x, y = source.double(), target.double()
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise InputError("points to align hold NaN or infinite values")
    mean_x, mean_y = x.mean(0), y.mean(0)
    variance = float(((x - mean_x) ** 2).sum(1).mean())
    if math.sqrt(variance) <= _STILL * (1 + float(x.abs().max())):
        raise InputError("points to align coincide: they have no scale")
    u, d, vt = torch.linalg.svd((y - mean_y).T @ (x - mean_x) / len(x))
    sign = torch.ones(3, dtype=torch.float64)
    sign[2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vt))
    rotation = u @ torch.diag(sign) @ vt
    scale = float((d * sign).sum()) / variance
    return Sim3(scale, rotation, mean_y - scale * rotation @ mean_x)


def path_error(estimated: Camera, truth: Camera) -> PathError:
    """Errors of a path after Sim(3) alignment of its centres (Sturm et al., IROS 2012; Zhang and Scaramuzza 2018).

    ATE compares the aligned centres. RPE compares the motions between neighbouring cameras,
    `E = (Q_k^-1 Q_(k+1))^-1 (P_k^-1 P_(k+1))` with camera_to_world matrices, those of the estimate at the aligned
    scale; it needs no alignment of the rotation. On a path that only turns, lengths are not defined and come out NaN.

    Args:
        estimated: F cameras, F >= 3.
        truth: F cameras.

    Raises:
        InputError: other counts.
    """
    if len(estimated) != len(truth) or len(truth) < 3:
        raise InputError(f"{len(estimated)} cameras against {len(truth)}; give as many as the truth has, at least 3")
    p, q = estimated.camera_to_world.double(), truth.camera_to_world.double()
    length = float((q[1:, :3, 3] - q[:-1, :3, 3]).norm(dim=-1).sum())
    if length <= _STILL * (1 + float(q[:, :3, 3].abs().max())):
        scale, ate = math.nan, math.nan
    else:
        try:
            found = align_sim3(p[:, :3, 3], q[:, :3, 3])
        except InputError:  # the estimate does not move at all: the best it can be is the mean of the truth
            spread = (q[:, :3, 3] - q[:, :3, 3].mean(0)).norm(dim=-1)
            scale, ate = 0.0, float((spread**2).mean().sqrt())
        else:
            scale = found.scale
            ate = float(((found(p[:, :3, 3]) - q[:, :3, 3]) ** 2).sum(1).mean().sqrt())
    step_p, step_q = torch.linalg.inv(p[:-1]) @ p[1:], torch.linalg.inv(q[:-1]) @ q[1:]
    moved = scale * step_p[:, :3, 3] - step_q[:, :3, 3]
    turned = step_q[:, :3, :3].mT @ step_p[:, :3, :3]
    return PathError(
        ate,
        ate / length if length else math.nan,
        float((moved**2).sum(1).mean().sqrt()),
        float(torch.rad2deg((_angle(turned) ** 2).mean().sqrt())),
    )


def _angle(rotation: Tensor) -> Tensor:
    """Angle of rotations ``[N, 3, 3]``, exact for small ones, where the arc cosine of the trace is not."""
    skew = (rotation - rotation.mT) / 2
    sine = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], dim=-1).norm(dim=-1)
    cosine = (rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return torch.atan2(sine, cosine)
