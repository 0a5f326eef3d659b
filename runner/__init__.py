"""tutelage: a language model that you host teaches a small model that you own.

The public Python API is :func:`open_run` and what it returns, documented in docs/notebooks.md. Everything else in this
package is private: it changes without notice, and the command line is its interface.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "open_run"]


def open_run(folder: str | os.PathLike[str]) -> Any:
    """Open a run folder, read-only: a path, or a URL of any file system that fsspec knows (``s3://bucket/runs/NAME``).

    Returns a ``Run`` with ``votes``, ``predictions`` and ``failures`` as pandas DataFrames, ``report`` as a dict, and
    ``student()``, whose ``predict(texts)`` returns a DataFrame. It is the last run that has finished in the folder, or
    where none has, the stages that have finished so far.

    :raises runner.system.errors.UserError: when no run is there, a newer version has written it, or the storage cannot
        be used.
    """
    # By name and late: `import runner` loads nothing heavy, and the modules behind it import this one's version.
    return importlib.import_module("runner.publish.opened_run").open_run(folder)
