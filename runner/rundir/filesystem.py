"""File systems by URL, all that fsspec knows, with errors that say what to do about them.

fsspec itself is loaded by the first call.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from runner.system.errors import TutelageError, UserError, first_line
from runner.system.sanitize import without_secrets

OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss"}


def file_system(url: str, **options: Any) -> tuple[Any, str]:
    """The file system that a URL or path is on, and the path there; ``options`` are those of the file system.

    :raises UserError: when there is no such kind, its package is missing, or it cannot be reached.
    """
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    local = url.removeprefix("file://")
    if "://" not in local:  # a name is what it says: neither ~ nor :: stands for anything else
        return LocalFileSystem(**options), os.path.abspath(local)
    try:
        fs, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        message = f"{without_secrets(url)}: {first_line(error)} (with pip, where this runs and on all nodes)"
        raise UserError("run.storage-unsupported", message) from error
    except ValueError as error:
        raise UserError(
            "run.storage-address",
            f"{without_secrets(url)}: {first_line(error)}; give a path, or a URL such as s3://...",
        ) from error
    except Exception as error:  # each library has kinds of its own
        raise _unusable(url, error) from error
    return (fs if is_local(fs) else _Remote(fs, url)), path


def is_local(fs: Any) -> bool:
    """Whether a file system of :func:`file_system` is this machine's."""
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(fs, LocalFileSystem)


def _unusable(url: str, error: Exception) -> UserError:
    return UserError(
        "run.storage-unusable",
        f"{without_secrets(url)}: the storage cannot be used: {first_line(error)}; check its address, that the bucket "
        "is there, and that credentials with the right to read and list, and for results to write and delete, are set "
        "where this runs",
    )


class _Remote:
    """A remote file system whose library's own errors (no credentials, no such endpoint, no right) are the user's."""

    def __init__(self, fs: Any, url: str) -> None:
        self._fs, self._url = fs, url

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._fs, name)
        return partial(self._explaining, value) if callable(value) else value

    def _explaining(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return method(*arguments, **options)
        except PermissionError as error:
            raise _unusable(self._url, error) from error
        except (OSError, TutelageError):
            raise  # no such file, say: whoever asked knows what that means
        except Exception as error:  # each library has kinds of its own
            raise _unusable(self._url, error) from error

    def makedirs(self, path: str, exist_ok: bool) -> None:
        """An object store has no folders: asked for one, it would make the bucket that somebody misspelt."""
        names = self._fs.protocol
        if not OBJECT_STORES.intersection([names] if isinstance(names, str) else names):
            self._explaining(self._fs.makedirs, path, exist_ok=exist_ok)
