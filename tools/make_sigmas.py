"""Make the schedules that come with mvguide: the published ones of NVS-Solver (Karras, sigma 0.002 to 700, rho 7).

python tools/make_sigmas.py            # writes sigmas/sigmas_25.npy, sigmas_50.npy, sigmas_100.npy
"""

import argparse
from pathlib import Path

from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas, save_sigmas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "sigmas")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for num_steps in (25, 50, 100):
        path = arguments.out / f"sigmas_{num_steps}.npy"
        save_sigmas(path, SigmaSchedule(karras_sigmas(num_steps)))
        print(path)


if __name__ == "__main__":
    main()
