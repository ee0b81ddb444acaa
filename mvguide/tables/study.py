"""Search by looking: parameters of the exact rule are tried, and Optuna picks the next from the scores so far."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mvguide.errors import ConfigError, FileError

if TYPE_CHECKING:
    import optuna

_NAME = "mvguide"

V1_RANGE, V3_RANGE = (1e-7, 1e-2), (1e-6, 2.0)
"""v1 / v2 and v3 / v2 that are tried: from the warp alone to what the published grids hold."""
STARTS = ({"v1": 1e-7, "v3": 1e-6}, {"v1": 1e-6, "v3": 1e-2})
"""Tried first: hold on to the warp to the end; and the published search's own answer for one image."""


@dataclass(frozen=True)
class Study:
    """Trials of (v1, 1, v3), one after the other.

    Args:
        score: what v1, v2, v3 are worth: the more the better.
        trials: how many in all, those of the journal among them; at least 1.
        journal: text file that keeps every trial; the study goes on where it ended. None = kept nowhere.
        about: what the trials depend on; a journal of something else is refused.
        seed: of the choice of trials.
        plots: folder for history.png (scores in their order) and contour.png (over the two ratios).
        say: called with a sentence for every trial.
    """

    score: Callable[[float, float, float], float]
    trials: int = 40
    journal: str | Path | None = None
    about: str = ""
    seed: int = 0
    plots: str | Path | None = None
    say: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        """Check the number of trials."""
        if self.trials < 1:
            raise ConfigError(f"trials is {self.trials}; at least 1 is needed")

    def run(self) -> tuple[tuple[float, float, float], float]:
        """The best (v1, 1, v3) and its score.

        Raises:
            ConfigError: Optuna is not installed.
            FileError: a journal that cannot be read, or one of another study.
        """
        check_optuna()
        import optuna

        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            study = self._open()
            self._optimise(study)
        finally:
            optuna.logging.set_verbosity(verbosity)  # it is the whole process's
        if self.plots is not None:
            _plot(study, Path(self.plots))
        return (study.best_params["v1"], 1.0, study.best_params["v3"]), float(study.best_value)

    def _optimise(self, study: "optuna.Study") -> None:
        """Run the trials that are still to be made."""

        def objective(trial: "optuna.Trial") -> float:
            v1 = trial.suggest_float("v1", *V1_RANGE, log=True)
            return self.score(v1, 1.0, trial.suggest_float("v3", *V3_RANGE, log=True))

        def report(study: "optuna.Study", trial: "optuna.trial.FrozenTrial") -> None:
            if self.say is not None:
                count = len(_complete(study))
                self.say(f"trial {count} of {self.trials}: {trial.value:.4g}, best so far {study.best_value:.4g}")

        study.optimize(objective, n_trials=max(0, self.trials - len(_complete(study))), callbacks=[report])

    def _open(self) -> "optuna.Study":
        """The study of the journal, or a new one."""
        import optuna

        storage = None if self.journal is None else _open_journal(Path(self.journal))
        known = [] if storage is None else storage.get_all_studies()
        if known and [(study.study_name, study.user_attrs.get("about")) for study in known] != [(_NAME, self.about)]:
            raise FileError(f"study {self.journal} is of other settings or scenes; give another file for these")
        study = optuna.create_study(study_name=_NAME, storage=storage, direction="maximize", load_if_exists=True)
        done = len(study.trials)
        # Another seed each time it goes on: with the first it would draw the trials that are there once more.
        study.sampler = optuna.samplers.TPESampler(seed=self.seed + done, n_startup_trials=8)
        if not study.user_attrs:
            study.set_user_attr("about", self.about)
        if done == 0:
            for start in STARTS:
                study.enqueue_trial(start)
        return study


def _open_journal(path: Path) -> "optuna.storages.JournalStorage":
    """The storage of a journal, a line of JSON for each event; FileError for anything else."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Optuna would pass over a line without an end, and write on behind it.
        if path.exists() and path.stat().st_size and not path.read_text(encoding="utf-8").endswith("\n"):
            raise ValueError("its last line has no end")
        storage = JournalStorage(JournalFileBackend(str(path)))
        storage.get_all_studies()
    except Exception as error:  # anything may be in a file, and Optuna raises anything, assertions too
        raise FileError(f"study {path} cannot be read ({error}); give another file, or remove it") from error
    return storage


def check_optuna() -> None:
    """Raise ConfigError, which says how to install it, where Optuna is not there."""
    if find_spec("optuna") is None:
        raise ConfigError("objective 'score' needs optuna; install it with: pip install 'mvguide[search]'")


def _complete(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    return [trial for trial in study.trials if trial.state.name == "COMPLETE"]


def _plot(study: "optuna.Study", folder: Path) -> None:
    """Draw the study with Optuna's own plots."""
    import warnings

    from matplotlib import pyplot
    from optuna.exceptions import ExperimentalWarning
    from optuna.visualization.matplotlib import plot_contour, plot_optimization_history

    folder.mkdir(parents=True, exist_ok=True)
    backend = pyplot.get_backend()
    pyplot.switch_backend("agg")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            for name, draw in (("history", plot_optimization_history), ("contour", plot_contour)):
                draw(study)  # makes a figure of its own, and leaves it the current one
                pyplot.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
                pyplot.close()
    finally:
        pyplot.switch_backend(backend)  # it is the whole process's
