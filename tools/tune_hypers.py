"""Study which (v1, v2, v3) suit a model: search_hypers' objective "score" on the bench's calibration scenes.

    python -m tools.tune_hypers --conditions exact smooth_15 blurred --scenes 1 --trials 12 --out out/tune

Scenes are of the part of the held-out seeds that the bench never reports. Every trial is in ``OUT/study.log``: run it
again, with more ``--trials``, to go on. ``OUT/table.npz`` is the table of the best for the model's own number of
frames, evenly spaced; ``OUT/history.png`` and ``OUT/contour.png`` show the study. The score is the mean PSNR of whole
frames in dB.
"""

import argparse
import statistics
from pathlib import Path

import torch

from mvguide.errors import MvguideError
from mvguide.pipeline.pipeline import MultiViewPipeline
from mvguide.tables.search import search_hypers
from mvguide.tables.study import Study
from tools.quality.conditions import CALIBRATION, CONDITIONS
from tools.quality.methods import guided
from tools.quality.scenes import Scene


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--conditions", nargs="+", choices=list(CONDITIONS), default=["exact", "smooth_15", "blurred"])
    parser.add_argument("--scenes", type=int, default=4, help="of each condition")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/tune"))
    options = parser.parse_args()
    try:
        tune(options)
    except MvguideError as error:
        parser.error(str(error))


@torch.no_grad()
def tune(options: argparse.Namespace) -> None:
    """Run the study, and say how much better its best is than what the model's notes have."""
    pipe = MultiViewPipeline.from_pretrained(options.model, device=options.device)
    shape = pipe.backbone.native_size.default_size(1, 1)[0], pipe.backbone.native_size.frames
    scenes = [
        Scene(seed, *shape, condition)
        for condition in options.conditions
        for seed in CONDITIONS[condition].pick_seeds(CALIBRATION, options.scenes, *shape)
    ]

    def score(v1: float, v2: float, v3: float) -> float:
        render = guided(pipe, options.steps, options.seed, {"hypers": (v1, v2, v3), "mask": "soft"})
        return statistics.mean(scene.score(render(scene))["psnr whole"] for scene in scenes)

    about = f"{options.model}, {options.steps} steps, seed {options.seed}, {options.conditions} x {options.scenes}"
    journal = options.out / "study.log"
    study = Study(
        score, options.trials, journal, about, options.seed, options.out, say=lambda text: print(text, flush=True)
    )
    schedule = pipe.backbone.schedule(options.steps)
    found = search_hypers(schedule, num_frames=shape[1], objective="score", study=study)
    found.table.save(options.out / "table.npz")
    print(f"best: v1 = {found.v1:.3g}, v2 = 1, v3 = {found.v3:.3g}: {found.value:.3f} dB")
    if pipe.backbone.notes.hypers is not None:
        print(f"the model's own {pipe.backbone.notes.hypers}: {score(*pipe.backbone.notes.hypers):.3f} dB")


if __name__ == "__main__":
    main()
