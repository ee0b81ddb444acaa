"""Figures of speed, each against a plain program written here, in one run on one machine.

    make bench        # or: python -m tools.bench search|warp|loop|preview|post|batch|workers --out out/bench.json

Ratios are medians over pairs of runs made in turn, so that a machine whose speed drifts does not favour either side.
"""

import argparse
import json
from pathlib import Path

from tools.speed.batch import bench_batch, bench_workers
from tools.speed.loop import bench_loop
from tools.speed.post import bench_post
from tools.speed.preview import bench_preview
from tools.speed.search import bench_search
from tools.speed.warp import bench_warp

BENCHES = {
    "search": bench_search,
    "warp": bench_warp,
    "loop": bench_loop,
    "preview": bench_preview,
    "post": bench_post,
    "batch": bench_batch,
    "workers": bench_workers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="which figures; all by default")
    parser.add_argument("--out", type=Path, default=Path("out/bench.json"))
    arguments = parser.parse_args()
    results = []
    for name in arguments.names or BENCHES:
        result = BENCHES[name]()
        results.append(result)
        print(f"{result['name']}\n  against {result['baseline']}")
        print(f"  ours {result['ours_s']:.4g} s, baseline {result['baseline_s']:.4g} s, ratio {result['ratio']:.4g}")
        for key, value in result.items():
            if key.startswith("peak"):
                print(f"  {key.replace('_', ' ')}: {value:.0f}")
            elif key.endswith("_checkpointing"):
                print(f"  {key.replace('_', ' ')}: {value:.2f}")
        print(f"  asked: {result['asked']}: {'reached' if result['reached'] else 'NOT reached'}", flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
