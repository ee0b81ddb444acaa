"""``mvguide search-hypers`` and ``mvguide sigmas``."""

import sys

from mvguide.commands.speaking import speaker
from mvguide.commands.studies import make_study
from mvguide.config.table_options import SearchConfig, SigmasMakeConfig, SigmasShowConfig
from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas, load_sigmas, save_sigmas
from mvguide.drawing.table_plot import plot_table
from mvguide.errors import ConfigError
from mvguide.files.atomic import atomic_path, check_writable
from mvguide.pipeline.calibration import Measured
from mvguide.tables import search


def search_hypers(config: SearchConfig) -> None:
    """Find a lambda table, write it, and draw it."""
    for path in filter(None, (config.out, config.plot)):
        check_writable(path)
    say = speaker(config.quiet, sys.stdout)
    schedule = load_sigmas(config.sigmas)
    for objective, name in (("calibrated", "calibration"), ("score", "scenes")):
        if getattr(config, name) is not None and config.objective != objective:
            raise ConfigError(f"--{name} is for objective {objective!r}, not {config.objective!r}; drop one of the two")
    num_frames, distances, measured, study = config.num_frames, config.distances, None, None
    if config.objective == "calibrated":
        if config.calibration is None:
            raise ConfigError(
                "objective 'calibrated' needs what was measured; give the calibration.npz of a result folder that was "
                "rendered with --guidance.table calibrated: --calibration"
            )
        if num_frames is not None or distances is not None:
            raise ConfigError("a calibration has frames and distances of its own; drop --num_frames and --distances")
        errors, _ = Measured.load(config.calibration)
        measured, distances = errors.table(schedule), errors.distances.tolist()
    elif config.objective == "score":
        study = make_study(config, say)
    if num_frames is None and distances is None:
        num_frames = 25
    found = search.search_hypers(
        schedule,
        num_frames=num_frames,
        distances=distances,
        rule=config.rule,
        v1=config.v1,
        v2=config.v2,
        v3=config.v3,
        objective=config.objective,
        measured=measured,
        study=study,
    )
    with atomic_path(config.out) as temporary:
        found.table.save(temporary)
    if config.plot:
        with atomic_path(config.plot) as temporary:
            plot_table(found.table, temporary)
    rows, columns = found.table.weights.shape
    say(
        f"v1 = {found.v1:g}, v2 = {found.v2:g}, v3 = {found.v3:g}: "
        f"{found.coverage:.1%} of the cells trust the warp more"
    )
    if measured is not None:
        say(f"weights are {found.value:.3f} off the measured ones (rms)")
    elif study is not None:
        say(f"score {found.value:.2f} dB; the study is in {config.study}, its plots beside it")
    say(f"wrote {config.out} ({rows} sigmas x {columns} frames)" + (f" and {config.plot}" if config.plot else ""))


def sigmas_make(config: SigmasMakeConfig) -> None:
    """Make a schedule and write it."""
    schedule = SigmaSchedule(karras_sigmas(config.steps, config.sigma_min, config.sigma_max, config.rho))
    with atomic_path(config.out) as path:
        save_sigmas(path, schedule)
    print(f"wrote {config.out} ({len(schedule)} steps from {config.sigma_max:g} to {config.sigma_min:g}, then 0)")


def sigmas_show(config: SigmasShowConfig) -> None:
    """Print a schedule: each step's level, and how far the step goes."""
    if not config.sigmas:
        raise ConfigError("no schedule was given; name one (sigmas_25, sigmas_50, sigmas_100) or give a .npy file")
    schedule = load_sigmas(config.sigmas)
    print(f"{schedule.name}: {len(schedule)} steps")
    print(" step        sigma   next/sigma")
    for index, (sigma, following) in enumerate(zip(schedule.sigmas[:-1], schedule.sigmas[1:], strict=True)):
        print(f"{index:5d} {sigma:12.5f} {following / sigma:12.3f}")
