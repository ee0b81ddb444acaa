"""The calibrated table: the errors of model and warp, measured on the user's own input before the run.

The truth is not there, so the warped video X stands in for it: a video of the same scene, the same motion and the same
sharpness.

* Model: at a few noise levels x = X + e + sigma n is denoised once, with e the change of X under another depth map that
  the views allow as well. What of e is left in D - X is the gain G, what is left besides is E_D.
* Warp: E_I^2 has two parts that add up: half of the error of a warp there and back (what resampling costs), and e (what
  wrong depth costs). With several views the second is measured, from each view to the others, and grows with the
  square of the distance.

From these, `mvguide.guidance.calibrate.consistent_weights` computes the table.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.errors import ConfigError, FileError
from mvguide.files.atomic import atomic_path
from mvguide.geometry.camera import stack
from mvguide.geometry.distance import frame_distances
from mvguide.geometry.masks import push_pull_fill
from mvguide.geometry.warp import splat
from mvguide.guidance.calibrate import consistent_weights
from mvguide.guidance.table import LambdaTable
from mvguide.reading import decoding
from mvguide.targets import Prepared, cell_weights
from mvguide.view import View
from mvguide.warps import warp_views

LEVELS = (0.15, 0.7, 3.0, 15.0)
"""Noise levels that the model is measured at: four evaluations, a sixth of a run of 25 steps."""
CALIBRATION = "calibration.npz"
"""File of a result folder that keeps what was measured."""
DEPTH_ERROR = 0.05
"""Relative error of depth that is assumed where nothing is known of it: a good network's, or a plane sweep's."""
_BLOCK = 4  # cells along a side of the blocks that change sign together
_WAVES = 4  # half waves of the assumed error of depth across the picture: networks are wrong by regions


@dataclass(frozen=True)
class Measured:
    """What was measured, in the units of the latents.

    Args:
        sigmas: ``[L]`` decreasing.
        model_error: ``[L, F]`` mean square error of the model on its own.
        gain: ``[L, F]`` in [0, 1]: how much of an error of x comes out in the estimate.
        warp_error: ``[F]`` mean square error of the warp, 0 for pinned frames.
    """

    sigmas: Tensor
    model_error: Tensor
    gain: Tensor
    warp_error: Tensor

    def table(self, schedule: SigmaSchedule) -> LambdaTable:
        """The best weights for a schedule; the measured values are interpolated in log sigma."""
        levels = schedule.levels[:, None]
        model = _between(self.sigmas, self.model_error.clamp(min=1e-12).log(), schedule.levels).exp()
        # Below the cleanest level the model's error is a share of the noise; above the noisiest x is not believed.
        model = model * (levels / self.sigmas[-1]).clamp(max=1) ** 2
        gain = _between(self.sigmas, self.gain, schedule.levels) * (self.sigmas[0] / levels).clamp(max=1) ** 2
        weights = consistent_weights(schedule.sigmas, model, self.warp_error, gain)
        weights[:, self.warp_error == 0] = 1
        source = f"calibrated: E_I {self.warp_error.sqrt().max():.3g}, E_D {self.model_error.sqrt().amin():.3g} to "
        return LambdaTable(weights, schedule.levels, f"{source}{self.model_error.sqrt().amax():.3g}")

    def save(self, path: str | Path, key: str) -> None:
        """Write to a ``.npz`` file, with a key that says what it is for."""
        arrays = {name: value.numpy() for name, value in vars(self).items()}
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, key=np.array(key), **arrays)

    @classmethod
    def load(cls, path: str | Path, key: str) -> "Measured | None":
        """What :meth:`save` wrote under this key; None where there is no file, or one of another key.

        Raises FileError for a file that cannot be read.
        """
        if not Path(path).is_file():
            return None
        with decoding(Path(path), "calibration", "remove it"), np.load(path, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            arrays = [torch.from_numpy(stored[name].astype(np.float64)) for name in cls.__dataclass_fields__]
        sigmas, model, gain, warp = arrays
        if model.shape != (len(sigmas), len(warp)) or gain.shape != model.shape:
            raise FileError(f"calibration {path} holds arrays that do not fit together; remove it")
        return cls(*arrays)


def calibrate(
    known: Prepared,
    *,
    depth_error: float = DEPTH_ERROR,
    cache: str | Path | None = None,
    say: Callable[[str], None] | None = None,
) -> LambdaTable:
    """The table of what model and warps are worth on this input: :func:`measure`, then :meth:`Measured.table`.

    Args:
        known: what is known before the first step.
        depth_error: see :func:`measure`.
        cache: file that keeps what was measured; used again where nothing changed but schedule, solver and seed.
        say: told the two errors in a sentence.

    Raises:
        ConfigError: nothing is guided, or a depth error out of range.
        FileError: a cache that cannot be read.
    """
    key = _key(known, depth_error)
    found = None if cache is None else Measured.load(cache, key)
    if found is None:
        found = measure(known, depth_error=depth_error)
        if cache is not None:
            Path(cache).parent.mkdir(parents=True, exist_ok=True)
            found.save(cache, key)
    table = found.table(known.schedule)
    if say is not None:
        say(table.source)
    return table


def measure(known: Prepared, *, depth_error: float = DEPTH_ERROR) -> Measured:
    """Measure what the model and the warps of these views are worth; see the module.

    The noise is that of a generator with a fixed seed: the run's own stays what it is without calibration.

    Args:
        known: what is known before the first step.
        depth_error: relative error of depth that is assumed where one view alone cannot tell, in [0, 1).

    Raises:
        ConfigError: nothing is guided, or a depth error out of range.
    """
    if known.targets is None:
        raise ConfigError("a calibrated table was asked for, but guidance is 'none'; drop one of the two")
    if not 0 < depth_error < 1:
        raise ConfigError(f"depth_error is {depth_error:g}; it is a share of the depth, above 0 and below 1")
    backbone, targets, warps = known.backbone, known.targets, known.warps
    device = targets.latents.device
    bent = [_bent(view, depth_error) for view in known.views]
    other = warp_views(bent, known.trajectory, moments=known.moments, device=device)
    changed = backbone.encode(push_pull_fill(other.image, other.visible), known.chunk).to(device) - targets.latents
    cells = ((cell_weights(other, backbone.factor).to(device) > 0) & (targets.visible > 0)).float()
    generator = torch.Generator().manual_seed(0)
    change = changed * cells * _signs(targets.visible.shape, generator).to(device)
    size = _mean(change**2, cells)
    denoiser = backbone.denoiser(known.condition)
    sigmas = torch.tensor(sorted(LEVELS, reverse=True), dtype=torch.float64)
    errors, gains = [], []
    for sigma in sigmas:
        noise = torch.randn(targets.latents.shape, generator=generator).to(device)
        found = denoiser((targets.latents + change + float(sigma) * noise)[None], sigma)[0] - targets.latents
        gain = (_mean(found * change, cells) / size.clamp(min=1e-12)).clamp(0, 1)
        gains.append(gain)
        errors.append(_mean((found - gain.view(-1, 1, 1, 1).to(found) * change) ** 2, cells))
    by_distance = _between_views(known) if known.moments is None else None
    depth_part = size if by_distance is None else by_distance * warps.distances.clamp(max=1e3) ** 2
    warp_error = depth_part + _there_and_back(known) / 2
    warp_error = torch.where(warps.pinned, 0.0, warp_error.clamp(min=1e-9))
    return Measured(sigmas, torch.stack(errors), torch.stack(gains), warp_error)


def _key(known: Prepared, depth_error: float) -> str:
    """What the measured errors depend on, as a digest."""
    digest = hashlib.sha256(f"{known.backbone.name} {depth_error} {LEVELS}".encode())
    tensors = [known.trajectory.intrinsics, known.trajectory.world_to_camera, known.warps.image, known.warps.visible]
    for view in known.views:
        tensors += [view.image, view.require_depth().values, view.camera.world_to_camera]
    tensors += list(known.condition.tensors.values())
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().double().numpy().tobytes())
    return digest.hexdigest()


def _bent(view: View, amount: float) -> View:
    """The view with a smooth error on its depth, of that relative rms."""
    depth = view.require_depth()
    coarse = torch.randn(1, 1, _WAVES, _WAVES, generator=torch.Generator().manual_seed(0))
    field = interpolate(coarse, depth.values.shape, mode="bicubic", align_corners=True)[0, 0]
    field = field / field.square().mean().sqrt()
    return replace(view, depth=replace(depth, values=depth.values * (amount * field).exp()))


def _signs(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Random signs ``[F, 1, h, w]`` in blocks of cells.

    What the model smooths away of X resembles the change itself, for both are made of edges; with random signs the two
    are uncorrelated.
    """
    frames, _, height, width = shape
    coarse = torch.randint(2, (frames, 1, -(-height // _BLOCK), -(-width // _BLOCK)), generator=generator) * 2.0 - 1
    return coarse.repeat_interleave(_BLOCK, -2).repeat_interleave(_BLOCK, -1)[..., :height, :width]


def _there_and_back(known: Prepared) -> Tensor:
    """Mean square error ``[F]`` of each frame's warp, warped back into the view that shows most of it."""
    backbone, views, trajectory, warps = known.backbone, known.views, known.trajectory, known.warps
    device = backbone.device
    size = trajectory.width, trajectory.height
    fitted = {index: views[index].fit(*size) for index in set(warps.shares.argmax(0).tolist())}
    owners = warps.shares.argmax(0).tolist()
    own = {index: backbone.encode(view.image[None], known.chunk).to(device)[0] for index, view in fitted.items()}
    images, seen = [], []
    for frame, index in enumerate(owners):
        valid = (warps.visible[frame, 0] > 0) & (warps.depth[frame, 0] > 0)
        back = splat(
            warps.image[frame], warps.depth[frame, 0], trajectory[frame], stack([fitted[index].camera]), valid=valid
        )
        images.append(push_pull_fill(back.image, back.visible)[0])
        seen.append(back.visible[0])
    encoded = backbone.encode(torch.stack(images), known.chunk).to(device)
    truth = torch.stack([own[index] for index in owners])
    return _mean((encoded - truth) ** 2, _whole(torch.stack(seen), backbone.factor).to(device))


def _between_views(known: Prepared) -> Tensor | None:
    """Mean square error of warps from view to view, per squared distance; None for one view, or views too far apart."""
    backbone, device = known.backbone, known.backbone.device
    fitted = [view.fit(known.trajectory.width, known.trajectory.height) for view in known.views]
    total, weight = 0.0, 0.0
    for index, view in enumerate(fitted):
        others = [k for k in range(len(fitted)) if k != index]
        if not others:
            return None
        targets = stack([fitted[k].camera for k in others])
        depth = view.require_depth()
        distances = frame_distances(view.camera, targets, depth.values, depth.valid)
        warp = splat(view.image, depth.values, view.camera, targets, valid=depth.valid)
        filled = push_pull_fill(warp.image, warp.visible)
        both = torch.cat([filled, torch.stack([fitted[k].image for k in others])])
        encoded = backbone.encode(both, known.chunk).to(device)
        found, truth = encoded.chunk(2)
        seen = _whole(warp.visible, backbone.factor).to(device)
        errors, cells = _mean((found - truth) ** 2, seen), seen.sum(dim=(1, 2, 3)).double().cpu()
        usable = (cells > 0) & (distances > 0)
        total += float((errors * cells * distances**2)[usable].sum())
        weight += float((cells * distances**4)[usable].sum())
    return torch.tensor(total / weight, dtype=torch.float64) if weight > 0 else None


def _whole(visible: Tensor, factor: int) -> Tensor:
    """Cells ``[F, 1, h, w]`` of which every pixel is seen."""
    cells = visible.unflatten(-2, (-1, factor)).unflatten(-1, (-1, factor))
    return (cells.amin(dim=(-3, -1)) > 0).float()


def _mean(values: Tensor, cells: Tensor) -> Tensor:
    """Mean over channels and the chosen cells of each frame, ``[F]`` float64 on the CPU; 0 where there are none."""
    total = (values * cells).sum(dim=(1, 2, 3)).double()
    return (total / (values.shape[1] * cells.sum(dim=(1, 2, 3)).double()).clamp(min=1)).cpu()


def _between(sigmas: Tensor, values: Tensor, wanted: Tensor) -> Tensor:
    """Values ``[L, F]`` at other levels ``[N]``: linear in log sigma, constant beyond the ends."""
    order = sigmas.argsort()
    place, at = sigmas[order].log(), wanted.log().clamp(sigmas.log().min(), sigmas.log().max())
    right = torch.searchsorted(place, at).clamp(1, len(place) - 1)
    share = ((at - place[right - 1]) / (place[right] - place[right - 1]))[:, None]
    return torch.lerp(values[order][right - 1], values[order][right], share)
