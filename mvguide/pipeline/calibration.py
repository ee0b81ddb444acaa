"""The calibrated table: the errors of model and warp, measured on the user's own input before the run.

The truth is not there, so the warped video X stands in for it: a video of the same scene, the same motion and the same
sharpness. Each frame of it is warped back into the view and out again, under a depth map that is wrong by as much as is
assumed: the change e is an error of X of the kind that X itself has.

* Model: at two noise levels X + s n and X + e + s n are denoised, with the same noise. D - X is the model's error E_D;
  what of e comes out in the difference of the two is the gain G. In between and beyond, E_D^2 / s^2 and G are linear in
  their logits over log s (for Gaussian data the slope is -2), and the model is never worse than the first frame
  repeated. The level s is the noise over the signal, sigma / alpha: on any noise path x / alpha is a VE path in s, and
  latents have unit variance in all model families.
* Warp: E_I^2 is half of e^2, for e has two more passes where X has had one. With several views the part that wrong
  depth has in it is measured instead, from each view to the others: what is above the error of one pass there grows
  with the square of the distance, up to the distance of the views.

From these, `mvguide.tables.consistent.consistent_weights` computes the table.
"""

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mvguide.backbones.chunks import encode_frames
from mvguide.decoding import check_readable, decoding
from mvguide.diffusion.path import NoisePath, VarianceExploding
from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.errors import ConfigError, FileError
from mvguide.files.atomic import atomic_path
from mvguide.geometry.camera import stack
from mvguide.geometry.distance import frame_distances
from mvguide.geometry.hole_filling import push_pull_fill
from mvguide.geometry.masks import latent_visible
from mvguide.geometry.warp import splat
from mvguide.guidance.targets import MaskOptions
from mvguide.pipeline.encoding import encode_each
from mvguide.pipeline.prepare import Context
from mvguide.tables.consistent import consistent_weights
from mvguide.tables.table import LambdaTable
from mvguide.views.view import View

LEVELS = (0.7, 0.15)
"""Noise-to-signal levels that the model is measured at: four evaluations, a sixth of a run of 25 steps."""
PURE_NOISE = 1e5
"""Noise-to-signal level that stands for infinity, where a path has no signal left."""
CALIBRATION = "calibration.npz"
"""File of a result folder that keeps what was measured."""
_VERSION = 3  # of the way errors are measured: files of another are measured again
_ADVICE = "remove it, if it is a calibration, and render again"
DEPTH_ERROR = 0.05
"""Relative error of depth that is assumed where nothing is known of it: a good network's, or a plane sweep's."""
_WAVES = 4  # half waves of the assumed error of depth across the picture: networks are wrong by regions


@dataclass(frozen=True)
class Measured:
    """What was measured, in the units of the latents.

    Args:
        sigmas: ``[2]`` decreasing noise-to-signal levels.
        model_error: ``[2, F]`` mean square error of the model on its own.
        gain: ``[2, F]`` in (0, 1): how much of an error of x comes out in the estimate.
        most_error: ``[F]`` mean square error of the first frame repeated.
        warp_error: ``[F]`` mean square error of the warp, 0 for pinned frames.
        distances: ``[F]`` camera distance of each frame, see ``Warps``.
    """

    sigmas: Tensor
    model_error: Tensor
    gain: Tensor
    most_error: Tensor
    warp_error: Tensor
    distances: Tensor

    def table(self, schedule: SigmaSchedule, path: NoisePath | None = None) -> LambdaTable:
        """The best weights for a schedule on a noise path (VE by default), interpolated in log(sigma / alpha)."""
        ratios = (path or VarianceExploding()).noise_to_signal(schedule.sigmas).clamp(max=PURE_NOISE)
        levels = ratios[:-1, None]
        share = (levels / self.sigmas[1]).log() / (self.sigmas[0] / self.sigmas[1]).log()
        kept = (self.model_error / self.sigmas[:, None] ** 2).clamp(1e-6, 1 - 1e-6)
        kept, gain = (torch.lerp(ends[1].logit(), ends[0].logit(), share).sigmoid() for ends in (kept, self.gain))
        model = torch.minimum(kept * levels**2, self.most_error)
        weights = consistent_weights(ratios, model, self.warp_error, gain)
        weights[:, self.warp_error == 0] = 1
        errors = self.model_error[:, self.warp_error > 0].sqrt()
        source = f"calibrated: E_I {self.warp_error.sqrt().max():.3g}"
        if errors.numel():
            source += f", E_D {errors.amin():.3g} to {errors.amax():.3g}"
        return LambdaTable(weights, schedule.levels, source)

    def save(self, path: str | Path, key: str) -> None:
        """Write to a ``.npz`` file, with a key that says what it is for."""
        arrays = {name: value.numpy() for name, value in vars(self).items()}
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, key=np.array(key), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> tuple["Measured", str]:
        """What :meth:`save` wrote, and its key. Raises FileError for a file that cannot be read."""
        file = check_readable(path, "calibration")
        with decoding(file, "calibration", _ADVICE), np.load(file, allow_pickle=False) as stored:
            key = str(stored["key"])
            arrays = [torch.from_numpy(stored[name].astype(np.float64)) for name in cls.__dataclass_fields__]
        frames = arrays[-1].shape
        shapes = [(2,), (2, *frames), (2, *frames), frames, frames, frames]
        if [tuple(array.shape) for array in arrays] != shapes or not all(a.isfinite().all() for a in arrays[:-1]):
            raise FileError(f"calibration {path} holds arrays that are no measured errors of one video; {_ADVICE}")
        return cls(*arrays), key


def calibrate(
    context: Context,
    *,
    mask: MaskOptions | None = None,
    depth_error: float = DEPTH_ERROR,
    cache: str | Path | None = None,
) -> LambdaTable:
    """The table of what model and warps are worth on this input: :func:`measure`, then :meth:`Measured.table`.

    Args:
        context: from ``MultiViewPipeline.prepare``.
        mask: of the guidance that the table is for.
        depth_error: see :func:`measure`.
        cache: file that keeps what was measured; used again where nothing changed but schedule, solver and seed.

    Raises:
        ConfigError: a depth error out of range.
        FileError: a cache that cannot be read.
    """
    key = _key(context, _plain(mask), depth_error)
    found = None
    if cache is not None and Path(cache).is_file():
        kept, kept_key = Measured.load(cache)
        found = kept if kept_key == key else None
    if found is None:
        with context.enough_memory("measuring the errors of"):
            found = measure(context, mask=mask, depth_error=depth_error)
        if cache is not None:
            Path(cache).parent.mkdir(parents=True, exist_ok=True)
            found.save(cache, key)
    return found.table(context.schedule, context.backbone.path)


def measure(context: Context, *, mask: MaskOptions | None = None, depth_error: float = DEPTH_ERROR) -> Measured:
    """Measure what the model and the warps of these views are worth; see the module.

    The noise is that of a generator with a fixed seed: the run's own stays what it is without calibration.

    Args:
        context: from ``MultiViewPipeline.prepare``.
        mask: of the guidance that the table is for; only cells that count are measured.
        depth_error: relative error of depth that is assumed where one view alone cannot tell, in (0, 1).

    Raises:
        ConfigError: a depth error out of range.
    """
    if not 0 < depth_error < 1:
        raise ConfigError(f"depth_error is {depth_error:g}; it is a share of the depth, above 0 and below 1")
    backbone, targets, grid = context.backbone, context.targets(mask), context.backbone.grid
    device = targets.latents.device
    between = _between_views(context) if context.moments is None else None
    again, seen = _there_and_back(context, depth_error if between is None else 0.0)
    cells = _counted(grid.all(latent_visible(seen, backbone.vae_scale_factor) > 0).to(device), targets.visible > 0)
    change = (encode_frames(backbone, again, context.chunk).to(device) - targets.latents) * cells
    size = _mean(change**2, cells)
    denoiser = backbone.denoiser(context.conditioning)
    sigmas = torch.tensor(LEVELS, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    errors, gains = [], []
    for ratio in sigmas:
        sigma = backbone.path.at_noise_to_signal(ratio)
        alpha = float(backbone.path.alpha(sigma))
        x = targets.latents + float(ratio) * torch.randn(change.shape, generator=generator).to(device)
        found = denoiser((alpha * x)[None], sigma)[0]
        errors.append(_mean((found - targets.latents) ** 2, cells))
        answer = denoiser((alpha * (x + change))[None], sigma)[0] - found
        gains.append((_mean(answer * change, cells) / size.clamp(min=1e-12)).clamp(0.01, 0.999))
    most = _mean((targets.latents - targets.latents[:1]) ** 2, cells)
    warp_error = size / 2
    if between is not None:
        moved = ~context.pinned
        floor = float(warp_error[moved].mean()) if moved.any() else 0.0
        # Farther than the views stand from each other, nothing was measured.
        distances = context.distances.clamp(max=float(between.distances.max()))
        warp_error = warp_error + between.growth(floor) * distances**2
    warp_error = torch.where(context.pinned, 0.0, warp_error.clamp(min=1e-9))
    return Measured(sigmas, torch.stack(errors), torch.stack(gains), most, warp_error, context.distances.double())


def _counted(whole: Tensor, guided: Tensor) -> Tensor:
    """Cells to measure in, 1 or 0, ``[L, 1, h, w]``: those wholly seen both ways; where a frame has none, all guided.

    Where nothing is guided either, all: such a frame is not steered, but its column must be finite.
    """
    cells = whole & guided
    for others in (guided, torch.ones_like(guided)):
        cells = torch.where(cells.any(dim=(1, 2, 3)).view(-1, 1, 1, 1), cells, others)
    return cells.float()


def _key(context: Context, mask: MaskOptions, depth_error: float) -> str:
    """What the measured errors depend on, as a digest."""
    about = (_VERSION, context.backbone.fingerprint, context.options, mask, depth_error, LEVELS)
    digest = hashlib.sha256(repr(about).encode())
    trajectory, warps = context.trajectory, context.warps
    tensors = [trajectory.intrinsics, trajectory.world_to_camera, warps.image, warps.visible]
    for view in context.views:
        tensors += [view.image, view.require_depth().values, view.camera.world_to_camera]
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().double().numpy().tobytes())
    return digest.hexdigest()


def _plain(mask: MaskOptions | None) -> MaskOptions:
    """The mask options alone, without what a subclass adds."""
    return MaskOptions(**{field.name: getattr(mask or MaskOptions(), field.name) for field in fields(MaskOptions)})


def _bent(view: View, amount: float) -> View:
    """The view with a smooth error on its depth, of that relative rms."""
    depth = view.require_depth()
    coarse = torch.randn(1, 1, _WAVES, _WAVES, generator=torch.Generator().manual_seed(0))
    field = interpolate(coarse, depth.values.shape, mode="bicubic", align_corners=True)[0, 0]
    field = field / field.square().mean().sqrt()
    return replace(view, depth=replace(depth, values=depth.values * (amount * field).exp()))


def _there_and_back(context: Context, depth_error: float) -> tuple[Tensor, Tensor]:
    """Each frame's warp, warped into the view that shows most of it and out again: ``[F, 3, H, W]``, ``[F, 1, H, W]``.

    Holes are filled. On the way out the view's depth is wrong by ``depth_error``.
    """
    trajectory, warps = context.trajectory, context.warps
    owners = warps.shares.argmax(0).tolist()
    size = trajectory.width, trajectory.height
    fitted = {index: _bent(context.views[index].fit(*size), depth_error) for index in set(owners)}
    images, seen = [], []
    for frame, index in enumerate(owners):
        view, camera = fitted[index], stack([trajectory[frame]])
        valid = (warps.visible[frame, 0] > 0) & (warps.depth[frame, 0] > 0)
        back = splat(warps.image[frame], warps.depth[frame, 0], trajectory[frame], stack([view.camera]), valid=valid)
        depth = view.require_depth()
        out = splat(
            push_pull_fill(back.image, back.visible)[0],
            depth.values,
            view.camera,
            camera,
            valid=depth.valid & (back.visible[0, 0] > 0),
        )
        images.append(push_pull_fill(out.image, out.visible)[0])
        seen.append(out.visible[0])
    return torch.stack(images), torch.stack(seen)


@dataclass(frozen=True)
class _Pairs:
    """Warps from view to view: their mean square errors, the cells they were seen in, their distances, ``[P]`` each."""

    errors: Tensor
    cells: Tensor
    distances: Tensor

    def growth(self, floor: float) -> float:
        """Slope k of ``floor + k d^2`` by least squares over all cells, >= 0.

        Without the floor, the error that a warp over no distance has would grow too: by a hundred times where views
        stand ten times closer to each other than to a frame between them.
        """
        above = (self.errors - floor).clamp(min=0)
        square = self.distances**2
        return float((above * self.cells * square).sum() / (self.cells * square**2).sum())


def _between_views(context: Context) -> _Pairs | None:
    """Warps from each view to the others; None for one view, or where none sees another from another place."""
    backbone, device = context.backbone, context.backbone.device
    fitted = [view.fit(context.trajectory.width, context.trajectory.height) for view in context.views]
    if len(fitted) < 2:
        return None
    found: list[Tensor] = []
    for index, view in enumerate(fitted):
        others = [k for k in range(len(fitted)) if k != index]
        targets = stack([fitted[k].camera for k in others])
        depth = view.require_depth()
        distances = frame_distances(view.camera, targets, depth.values, depth.valid)
        warp = splat(view.image, depth.values, view.camera, targets, valid=depth.valid)
        filled = push_pull_fill(warp.image, warp.visible)
        both = torch.cat([filled, torch.stack([fitted[k].image for k in others])])
        reached, truth = encode_each(backbone, both, context.chunk).to(device).chunk(2)
        seen = latent_visible(warp.visible, backbone.vae_scale_factor).to(device)
        errors, cells = _mean((reached - truth) ** 2, seen), seen.sum(dim=(1, 2, 3)).double().cpu()
        found.append(torch.stack([errors, cells, distances])[:, (cells > 0) & (distances > 0)])
    pairs = torch.cat(found, dim=1)
    return _Pairs(*pairs) if pairs.shape[1] else None


def _mean(values: Tensor, cells: Tensor) -> Tensor:
    """Mean over channels and the chosen cells of each frame, ``[F]`` float64 on the CPU; 0 where there are none."""
    total = (values * cells).sum(dim=(1, 2, 3)).double()
    return (total / (values.shape[1] * cells.sum(dim=(1, 2, 3)).double()).clamp(min=1)).cpu()
