"""Whether the models are there before nodes are asked for, where one look tells for all nodes.

On most clusters each node has a cache of its own, and a model that is not there is fetched. Where all share one and
none may fetch, as in the jobs that ``tutelage render`` writes, a model that is missing here is missing everywhere:
better said now than by the first node with a GPU, and again by that of each retry.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from runner import models
from runner.models.hub import is_offline
from runner.models.reference import pull_name
from runner.spec import Spec
from runner.spec.strict_yaml import KeyPath
from runner.system.errors import FetchError

SHARED = "TUTELAGE_CACHE_SHARED"
"""Set to 1 by whoever knows that all nodes mount the same model cache at the same place."""


def check(spec: Spec, waiting: set[str], environment: Mapping[str, str] = os.environ) -> None:
    """Look for the models of the stages that are ``waiting``. :raises FetchError: when one is missing for all nodes."""
    if environment.get(SHARED) != "1" or not is_offline():
        return
    stage = {"teacher": "label", "task": "label", "student": "train"}
    for at, name, revision in spec.models():
        if stage[str(at[0])] not in waiting:
            continue
        if not models.describe(name, revision, spec.base, _own(spec, at)).present:
            raise FetchError(
                "model.not-in-cache",
                f"{'.'.join(map(str, at))}: {name} is not in the model cache that all nodes share, and none may "
                f"fetch it: put it there first (`tutelage models pull {pull_name(name, revision)}`)",
            )


def _own(spec: Spec, at: KeyPath) -> bool:
    """Whether our nodes load the weights; of a teacher on a server elsewhere the tokenizer is enough."""
    if at[0] != "teacher":
        return True
    number = int(at[2]) + 1 if at[1] == "also" else 0
    return spec.teachers()[number].teacher.endpoint is None
