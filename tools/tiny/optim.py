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


def orthogonalise(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Nearby matrix with singular values near 1: the quintic Newton-Schulz iteration of Muon (Jordan et al. 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Optimizer:
    """Muon for weights of two and more dimensions, Adam for vectors and for the layers at both ends.

    Args:
        model: what is trained; parameters without a gradient are left alone.
        lr: peak learning rate, of both.
        ends: names of weights that go to Adam (first and last layers).
        ema_decay: of the averaged weights, reached as steps grow: ``min(decay, (1 + step) / (10 + step))``.
    """

    def __init__(self, model: nn.Module, lr: float, ends: tuple[str, ...], ema_decay: float) -> None:
        self.model, self.lr, self.ema_decay, self.step_count = model, lr, ema_decay, 0
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.muon = {name: p for name, p in named.items() if p.ndim >= 2 and name not in ends}
        self.adam = {name: p for name, p in named.items() if name not in self.muon}
        self.momentum = {name: torch.zeros_like(p) for name, p in self.muon.items()}
        self.mean = {name: torch.zeros_like(p) for name, p in self.adam.items()}
        self.square = {name: torch.zeros_like(p) for name, p in self.adam.items()}
        self.ema = {name: p.detach().clone() for name, p in named.items()}

    @torch.no_grad()
    def step(self, schedule: float, clip: float = 1.0) -> float:
        """Average gradients over processes, clip, update with ``lr * schedule``; returns the gradient's norm."""
        average_gradients(self.model)
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), clip))
        self.step_count += 1
        lr, count = self.lr * schedule, self.step_count
        directions = {}
        for name, p in self.muon.items():
            if p.grad is not None:
                momentum = self.momentum[name].mul_(_MOMENTUM).add_(p.grad)
                directions[name] = (p.grad + _MOMENTUM * momentum).flatten(1)
        for name, update in orthogonalise_all(directions).items():
            p = self.muon[name]
            # The factor 0.2 sqrt(longer side) gives updates the size of Adam's (Moonshot's scaling, arXiv 2502.16982).
            p.add_(update.view_as(p), alpha=-lr * 0.2 * math.sqrt(max(update.shape)))
        for name, p in self.adam.items():
            if p.grad is None:
                continue
            mean = self.mean[name].lerp_(p.grad, 0.1)
            square = self.square[name].lerp_(p.grad**2, 0.01)
            p.sub_(lr * ADAM_LR_SHARE * (mean / (1 - 0.9**count)) / ((square / (1 - 0.99**count)).sqrt() + 1e-8))
        self.model.zero_grad(set_to_none=True)
        decay = min(self.ema_decay, (1 + count) / (10 + count))
        for name, p in self.model.named_parameters():
            if name in self.ema:
                self.ema[name].lerp_(p, 1 - decay)
        return norm

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
            "ema": self.ema,
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
        for name in ("momentum", "mean", "square", "ema"):
            kept = getattr(self, name)
            for key, value in group(name).items():
                kept[key].copy_(value)
        generator.set_state(tensors["rng/generator"])
        torch.set_rng_state(tensors["rng/torch"])
        if "rng/cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["rng/cuda"])


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


def orthogonalise_all(matrices: dict[str, Tensor]) -> dict[str, Tensor]:
    """:func:`orthogonalise` of each matrix, the work shared between the processes."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if world == 1:
        return {name: orthogonalise(matrix) for name, matrix in matrices.items()}
    # Every process fills in its share of one flat tensor of zeros; the sum over processes is then the whole.
    sizes = [matrix.numel() for matrix in matrices.values()]
    device = next(iter(matrices.values())).device
    flat = torch.zeros(sum(sizes), device=device)
    by_size = sorted(range(len(sizes)), key=lambda index: -sizes[index])
    mine = set(by_size[rank::world])
    for index, (matrix, part) in enumerate(zip(matrices.values(), flat.split(sizes), strict=True)):
        if index in mine:
            part.copy_(orthogonalise(matrix).flatten())
    dist.all_reduce(flat)
    return {
        name: part.view_as(matrix) for (name, matrix), part in zip(matrices.items(), flat.split(sizes), strict=True)
    }


def trapezoid(step: int, steps: int, warmup: int = 20, decay_share: float = 0.3) -> float:
    """Learning-rate factor: linear warm-up, constant, then linearly to 0 over the last ``decay_share`` of the steps.

    Until the decay begins it does not depend on ``steps``: a run can be given more, or fewer, and be continued.
    """
    left = max(0.0, 1 - step / steps) / decay_share
    return min(1.0, (step + 1) / warmup, left)
