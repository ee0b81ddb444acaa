"""Optimisation state of one model: Muon for its matrices, Adam for the rest, EMA, and checkpoints without pickles."""

import json
import math
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

ADAM_LR_SHARE = 1.0
_MOMENTUM = 0.95


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Nearby matrices ``[..., m, n]`` with singular values near 1: Muon's Newton-Schulz iteration (Jordan 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Optimizer:
    """Muon for weights of two and more dimensions, Adam for vectors and for the layers at both ends.

    Args:
        model: what is trained; parameters without a gradient are left alone.
        lr: peak learning rate, of both.
        ends: names of weights that go to Adam (first and last layers).
        ema_decays: one for each of the averages that are kept, reached as steps grow:
            ``min(decay, (1 + step) / (10 + step))``. ``ema`` is the first.
        bfloat16: orthogonalise in bfloat16, as Muon's authors do.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        ends: tuple[str, ...],
        ema_decays: tuple[float, ...],
        bfloat16: bool = False,
    ) -> None:
        self.model, self.lr, self.step_count = model, lr, 0
        self.dtype = torch.bfloat16 if bfloat16 else torch.float32
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.muon = {name: p for name, p in named.items() if p.ndim >= 2 and name not in ends}
        self.adam = {name: p for name, p in named.items() if name not in self.muon}
        self.momentum = {name: torch.zeros_like(p) for name, p in self.muon.items()}
        self.mean = {name: torch.zeros_like(p) for name, p in self.adam.items()}
        self.square = {name: torch.zeros_like(p) for name, p in self.adam.items()}
        self.averages = {decay: {name: p.detach().clone() for name, p in named.items()} for decay in ema_decays}

    @property
    def ema(self) -> dict[str, Tensor]:
        """The first of the averages."""
        return next(iter(self.averages.values()))

    @torch.no_grad()
    def step(self, schedule: float, clip: float = 1.0) -> float:
        """Average gradients over processes, clip, update with ``lr * schedule``; returns the gradient's norm."""
        average_gradients(self.model)
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), clip))
        self.step_count += 1
        lr = self.lr * schedule
        self._muon_step(lr)
        self._adam_step(lr)
        self.model.zero_grad(set_to_none=True)
        count = self.step_count
        named = dict(self.model.named_parameters())
        for decay, average in self.averages.items():
            share = 1 - min(decay, (1 + count) / (10 + count))
            torch._foreach_lerp_(list(average.values()), [named[name] for name in average], share)
        return norm

    def _muon_step(self, lr: float) -> None:
        names = [name for name, p in self.muon.items() if p.grad is not None]
        gradients: list[Tensor] = [p.grad for name in names if (p := self.muon[name]).grad is not None]
        momenta = [self.momentum[name] for name in names]
        torch._foreach_mul_(momenta, _MOMENTUM)
        torch._foreach_add_(momenta, gradients)
        directions = torch._foreach_add(gradients, momenta, alpha=_MOMENTUM)
        matrices = {name: direction.flatten(1) for name, direction in zip(names, directions, strict=True)}
        for name, update in orthogonalise_all(matrices, self.dtype).items():
            p = self.muon[name]
            # The factor 0.2 sqrt(longer side) gives updates the size of Adam's (Moonshot's scaling, arXiv 2502.16982).
            p.add_(update.view_as(p), alpha=-lr * 0.2 * math.sqrt(max(update.shape)))

    def _adam_step(self, lr: float) -> None:
        names = [name for name, p in self.adam.items() if p.grad is not None]
        gradients: list[Tensor] = [p.grad for name in names if (p := self.adam[name]).grad is not None]
        means, squares = [self.mean[name] for name in names], [self.square[name] for name in names]
        torch._foreach_lerp_(means, gradients, 0.1)
        torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 0.01)
        spread = torch._foreach_sqrt(torch._foreach_div(squares, 1 - 0.99**self.step_count))
        torch._foreach_add_(spread, 1e-8)
        rate = lr * ADAM_LR_SHARE / (1 - 0.9**self.step_count)
        torch._foreach_addcdiv_([self.adam[name] for name in names], means, spread, value=-rate)

    @torch.no_grad()
    def use_ema(self) -> None:
        """Put the averaged weights into the model."""
        for name, p in self.model.named_parameters():
            if name in self.ema:
                p.copy_(self.ema[name])

    def save(self, path: Path, generator: torch.Generator) -> None:
        """Write everything that a continued run needs. The generator is this process's: one file for each rank."""
        groups: dict[str, dict[str, Any]] = {
            "weight": dict(self.model.state_dict()),
            "momentum": self.momentum,
            "mean": self.mean,
            "square": self.square,
            **{average_name(decay): average for decay, average in self.averages.items()},
        }
        tensors = {f"{group}/{name}": t.contiguous() for group, ts in groups.items() for name, t in ts.items()}
        tensors["rng/generator"], tensors["rng/torch"] = generator.get_state(), torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["rng/cuda"] = torch.cuda.get_rng_state()
        part = path.with_suffix(".tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, part, metadata={"state": json.dumps({"step": self.step_count})})
        part.replace(path)

    def load(self, path: Path, generator: torch.Generator) -> None:
        """Continue from :meth:`save`."""
        from safetensors import safe_open

        with safe_open(path, "pt") as stored:
            self.step_count = int(json.loads(stored.metadata()["state"])["step"])
        tensors = load_file(path)

        def group(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix + "/"): t for n, t in tensors.items() if n.startswith(prefix + "/")}

        self.model.load_state_dict(group("weight"))
        kept = {"momentum": self.momentum, "mean": self.mean, "square": self.square}
        for decay, average in self.averages.items():
            # An average that the checkpoint lacks begins at its weights.
            kept[average_name(decay)] = average
            for key, value in average.items():
                value.copy_(tensors[f"weight/{key}"])
        for name, values in kept.items():
            for key, value in group(name).items():
                values[key].copy_(value)
        generator.set_state(tensors["rng/generator"])
        torch.set_rng_state(tensors["rng/torch"])
        if "rng/cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["rng/cuda"])


def average_name(decay: float) -> str:
    """Name of an average's tensors in a checkpoint."""
    return f"ema{decay:g}"


def average_gradients(model: nn.Module) -> None:
    """Mean of the gradients over all processes; nothing to do in one process."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def orthogonalise_all(matrices: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """:func:`orthogonalise` of each matrix, those of one shape together, the work shared between the processes."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, matrix in matrices.items():
        groups.setdefault(tuple(matrix.shape), []).append(name)
    # Every process fills in its share of one flat tensor of zeros; the sum over processes is then the whole.
    device = next(iter(matrices.values())).device
    flat = torch.zeros(sum(matrix.numel() for matrix in matrices.values()), device=device)
    order = [name for names in groups.values() for name in names]
    parts = dict(zip(order, flat.split([matrices[name].numel() for name in order]), strict=True))
    for mine in (names[rank::world] for names in groups.values()):
        if mine:
            found = orthogonalise(torch.stack([matrices[name] for name in mine]).to(dtype))
            for name, one in zip(mine, found, strict=True):
                parts[name].copy_(one.flatten())
    if world > 1:
        dist.all_reduce(flat)
    return {name: part.view_as(matrices[name]) for name, part in parts.items()}


def trapezoid(step: int, steps: int, warmup: int = 20, decay_share: float = 0.3) -> float:
    """Learning-rate factor: linear warm-up, constant, then linearly to 0 over the last ``decay_share`` of the steps.

    Until the decay begins it does not depend on ``steps``: a run can be given more, or fewer, and be continued.
    """
    left = max(0.0, 1 - step / steps) / decay_share
    return min(1.0, (step + 1) / warmup, left)
