"""A search over settings, by Ray Tune. Trials that are over are kept as JSON of ours; Ray Tune's files are not read."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from runner.cluster.errors import UnwrappedErrors
from runner.rundir.folder import Folder

NAME, TRIALS = "search", "trials.json"
"""Ray Tune's folder in the storage, and our file there."""
Trial = Callable[[dict[str, Any], dict[str, Any], Callable[[dict[str, Any]], None]], None]


def search(
    ray: Any,
    trial: Trial,
    config: dict[str, Any],
    settings: list[dict[str, Any]],
    bundle: dict[str, float],
    storage: Folder,
    on_trials: Callable[[int], None],
) -> list[dict[str, Any]]:
    """As :meth:`runner.cluster.cluster.Cluster.search`; each trial takes ``bundle`` of a node."""
    kept = Trials(storage, settings)
    if waiting := [number for number in range(len(settings)) if number not in kept.results]:
        storage.child(NAME).clear()  # Ray Tune's own, of a search that was stopped
        on_trials(len(kept.results))
        tuner = _tuner(trial, config, settings, bundle, storage, waiting, kept, on_trials)
        with UnwrappedErrors(ray):
            results = tuner.fit()
            for error in results.errors:
                raise error
            for result in results:
                kept.keep(result.config["number"], result.metrics["said"])
    first = settings[0]
    return sorted(
        kept.results.values(), key=lambda result: (result["settings"] != first, sorted(result["settings"].items()))
    )


def _tuner(
    trial: Trial,
    config: dict[str, Any],
    settings: list[dict[str, Any]],
    bundle: dict[str, float],
    storage: Folder,
    waiting: list[int],
    kept: Trials,
    on_trials: Callable[[int], None],
) -> Any:
    """Ray Tune's, for the trials of the numbers in ``waiting``."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    function = tune.with_parameters(_trial, trial=trial, config=config, settings=settings)
    return tune.Tuner(
        tune.with_resources(function, tune.PlacementGroupFactory([bundle])),
        param_space={"number": tune.grid_search(waiting)},
        tune_config=tune.TuneConfig(
            metric="agreement",
            mode="max",
            scheduler=ASHAScheduler(max_t=1000, grace_period=2, reduction_factor=3),
        ),
        run_config=tune.RunConfig(
            name=NAME,
            storage_path=storage.url,
            verbose=0,
            callbacks=[_keeping(tune, kept, on_trials)],
        ),
    )


def draw_settings(space: dict[str, Any], first: dict[str, Any], trials: int, seed: int) -> list[dict[str, Any]]:
    """``first``, and what a seed draws from ``space``: a list to choose from, or (least, most) by ratio.

    The same each time, so that a search that goes on tries what it would have tried.
    """
    chance = random.Random(seed)

    def drawn(values: Any) -> Any:
        if isinstance(values, list):
            return chance.choice(values)
        return math.exp(chance.uniform(*map(math.log, values)))

    return [first, *({name: drawn(values) for name, values in space.items()} for _ in range(trials - 1))]


class Trials:
    """The trials of a search that are over, kept as JSON; what was kept of another search does not count."""

    def __init__(self, storage: Folder, settings: list[dict[str, Any]]) -> None:
        self._storage, self._settings = storage, settings
        kept = storage.read_json(TRIALS) if storage.exists(TRIALS) else []
        self.results: dict[int, dict[str, Any]] = {
            settings.index(trial["settings"]): trial for trial in kept if _is_of(settings, trial)
        }

    def keep(self, number: int, said: dict[str, Any]) -> None:
        """What the trial of that number reported last."""
        self.results[number] = {"settings": self._settings[number]} | said
        self._storage.write_json(TRIALS, list(self.results.values()))


def _is_of(settings: list[dict[str, Any]], kept: Any) -> bool:
    """Whether what is kept is a trial of these settings, and has its figure."""
    return isinstance(kept, dict) and kept.get("settings") in settings and isinstance(kept.get("agreement"), float)


def _trial(given: dict[str, Any], trial: Trial, config: dict[str, Any], settings: list[dict[str, Any]]) -> None:
    """What Ray Tune runs for each of a search's settings."""
    from ray import tune

    def report(said: dict[str, Any]) -> None:
        tune.report({"agreement": said["agreement"], "said": said})

    trial(config, settings[given["number"]], report)


def _keeping(tune: Any, kept: Trials, on_trials: Callable[[int], None]) -> Any:
    """A callback of Ray Tune that keeps each trial that is over, and tells how many are."""

    class Keeping(tune.Callback):  # type: ignore[misc]  # Ray has no types
        def __reduce__(self) -> Any:
            """Ray Tune pickles it for a restore that never comes; it may hold locks."""
            return object, ()

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            if said := trial.last_result.get("said"):
                kept.keep(trial.config["number"], said)
            on_trials(len(kept.results))

    return Keeping()
