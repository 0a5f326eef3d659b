"""The one place that talks to the Hugging Face Hub: its local cache first, then the network.

Only safetensors, configuration and tokenizer files are ever asked for. What is published is what the caller hands in.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from runner.models import catalog, folder
from runner.models.catalog import Entry, HubSource, Progress
from runner.models.reference import pull_name
from runner.models.store import amount
from runner.models.wheels import Unreachable
from runner.system.errors import FetchError, ModelError, UserError, first_line

_TIMEOUT = 5.0  # seconds for the first answer: an offline machine must go on to the next source
_ALLOW = ["*.json", "*.model", "*.txt", "*.jinja"]
_WEIGHTS = "*.safetensors"
# Sub-folders hold other formats (onnx, openvino); consolidated files are the same weights again.
_IGNORE = ["*/*", "consolidated*"]


Kind = Literal["model", "dataset"]


def is_offline() -> bool:
    """Whether the user has forbidden the network (``HF_HUB_OFFLINE``, ``TRANSFORMERS_OFFLINE``)."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in names)


def cached(repo: str, revision: str | None, weights: bool = True) -> Path | None:
    """The model's folder in the Hub's local cache, if a whole model is there; without ``weights``, its tokenizer."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json",) if weights else ("config.json", "tokenizer_config.json"):
        known = try_to_load_from_cache(repo, name, revision=revision)
        if isinstance(known, str):
            path = Path(known).parent
            if folder.problem(path) is None or (not weights and folder.has_tokenizer(path)):
                return path
    return None


def cached_config(repo: str, revision: str | None) -> Path | None:
    """The folder in the Hub's local cache with the model's ``config.json``, whatever else of it is there."""
    from huggingface_hub import try_to_load_from_cache

    known = try_to_load_from_cache(repo, "config.json", revision=revision)
    return Path(known).parent if isinstance(known, str) else None


def fetch_files(entry: Entry, source: HubSource, work: Path, progress: Progress) -> dict[str, Path]:
    """The entry's files from the Hub. Raises Unreachable when they are not to be had from there."""
    from huggingface_hub import try_to_load_from_cache

    names = [file.name for file in entry.files]
    near = {name: try_to_load_from_cache(source.repo, name, revision=source.revision) for name in names}
    cached_files = {name: Path(path) for name, path in near.items() if isinstance(path, str)}
    if len(cached_files) == len(names):
        progress(f"reading the Hub's local cache of {source.repo}")
        return cached_files
    if is_offline():
        raise Unreachable("the Hub was not asked, because HF_HUB_OFFLINE is set")
    progress(f"asking the Hub for {source.repo} ({amount(entry.size)})")
    target = work / "hub"
    try:
        _snapshot(source.repo, source.revision, names, [], target)
    except Exception as error:
        full = _full_disk(error)
        if full is not None:
            raise OSError(full.errno, str(full)) from error
        raise Unreachable(f"{source} was not reachable ({first_line(error, 200)})") from error
    missing = [name for name in names if not (target / name).is_file()]
    if missing:
        raise Unreachable(f"{source} does not have {', '.join(missing)}")
    return {name: target / name for name in names}


def fetch_model(repo: str, revision: str | None, progress: Progress, weights: bool = True) -> Path:
    """A folder with the model, from the local cache or the network; without ``weights``, all but them.

    Raises ModelError.
    """
    here = cached(repo, revision, weights)
    if here is not None:
        return here
    if is_offline():
        reason = "is not in the Hub's local cache, and HF_HUB_OFFLINE forbids asking the Hub"
        raise ModelError("model.hub-offline", _advice(repo, revision, reason, weights))
    progress(f"fetching {'' if weights else 'the tokenizer of '}{repo} from the Hub")
    try:
        path = _snapshot(repo, revision, [*_ALLOW, *([_WEIGHTS] if weights else [])], _IGNORE, None)
    except Exception as error:
        if reason := _lasting_reason(error, revision):
            raise ModelError("model.hub-refused", _advice(repo, revision, reason, weights)) from error
        reason = f"is not in the Hub's local cache, and the Hub is not reachable ({first_line(error, 200)})"
        raise FetchError("model.hub-unreachable", _advice(repo, revision, reason, weights)) from error
    wrong = folder.problem(path) if weights else None
    if wrong is not None:
        raise ModelError(
            "model.unsafe-files", f"the model {repo} cannot be used: {path} {wrong}; pickled weights are never fetched"
        )
    return path


def _snapshot(repo: str, revision: str | None, allow: list[str], ignore: list[str], target: Path | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    # One question first, because it fails at once on an offline machine: what follows is retried for long.
    HfApi().repo_info(repo, revision=revision, timeout=_TIMEOUT)
    return Path(
        snapshot_download(
            repo,
            revision=revision,
            allow_patterns=allow,
            ignore_patterns=ignore,
            local_dir=target,
        )
    )


def _full_disk(error: Exception) -> OSError | None:
    """The full disk behind ``error``, if it is one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def _lasting_reason(error: Exception, revision: str | None) -> str:
    """Why the Hub, or the disk, would refuse the model again; empty where nothing of that is known."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if _full_disk(error) is not None:
        return "does not fit on the disk of the Hub's cache: make room, or set HF_HOME to another disk"
    if isinstance(error, GatedRepoError):
        return "is gated: accept its licence on its page, and set HF_TOKEN to a token of yours"
    if isinstance(error, RepositoryNotFoundError):
        return "is not on the Hub, or is private (then set HF_TOKEN)"
    if isinstance(error, RevisionNotFoundError):
        return f"has no revision {revision!r} on the Hub"
    return ""


def _advice(repo: str, revision: str | None, reason: str, weights: bool) -> str:
    if not weights:
        pinned = f" --revision {revision}" if revision else ""
        return (
            f"the tokenizer of {repo} {reason}. Fetch it where there is a network "
            f"(`hf download {repo}{pinned} --include '*.json' '*.model' '*.txt' '*.jinja'`: no weights are needed) and "
            "copy the Hub's cache, or name a local folder that holds it"
        )
    names = catalog.load().models
    base = repo.rsplit("/", 1)[-1]
    near = catalog.did_you_mean(base, names, prefix="catalog:")
    return (
        f"the model {repo} {reason}{near}. Fetch it where there is a network "
        f"(`tutelage models pull {pull_name(repo, revision)}`) and copy the Hub's cache, name a local folder, "
        "or use one of the catalog: " + ", ".join(f"catalog:{name}" for name in sorted(names))
    )


def check_publish(kinds: Sequence[Kind], repo: str, private: bool, marker: str) -> None:
    """Whether :func:`publish` may be called: a known token, and repositories of these kinds that may be written to.

    A repository that is there must be empty or hold ``marker``, and must not be public where ``private`` is wanted.
    The token is huggingface_hub's own: ``HF_TOKEN``, or that of its login.

    :raises UserError: when the Hub would not take it, with what to do.
    """
    with _asking(repo) as api:
        api.whoami()
        for kind in kinds:
            _check_free(api, repo, kind, private, marker)


def publish(parts: Sequence[tuple[Kind, Path]], repo: str, private: bool, message: str) -> list[str]:
    """Upload each folder to the repository of its kind that is called ``repo``; returns their addresses.

    One that is not there is made, ``private`` or not.

    :raises UserError: when the Hub does not take it, with what to do.
    """
    with _asking(repo) as api:
        return [_upload(api, repo, kind, path, private, message) for kind, path in parts]


@contextmanager
def _asking(repo: str) -> Iterator[Any]:
    """The Hub's client with the user's token; what goes wrong becomes a :class:`UserError`, without the token."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if is_offline():
        raise UserError(
            "push.hub-offline",
            f"hf:{repo}: HF_HUB_OFFLINE forbids asking the Hub; unset it, or push to a folder and upload that "
            "elsewhere",
        )
    token = get_token()
    if token is None:
        raise UserError(
            "push.hub-no-token",
            f"hf:{repo}: the Hub wants a token: set HF_TOKEN to one that may write, or log in with `hf auth login`",
        )
    disable_progress_bars()
    try:
        yield HfApi(token=token)
    except UserError:
        raise
    except Exception as error:
        # huggingface_hub lets through what its HTTP client, httpx, raises.
        if not isinstance(error, OSError | ValueError) and not type(error).__module__.startswith("httpx"):
            raise
        reason = _refusal(error).replace(token, "(the token)")
        raise UserError("push.hub-refused", f"hf:{repo}: {reason}") from error


def _check_free(api: Any, repo: str, kind: Kind, private: bool, marker: str) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.repo_info(repo, repo_type=kind, timeout=_TIMEOUT)
    except RepositoryNotFoundError:
        return
    names = {file.rfilename for file in info.siblings or ()} - {".gitattributes"}
    if names and marker not in names:
        raise UserError(
            "push.hub-foreign-files",
            f"hf:{repo}: this {kind} repository holds files that push did not write; choose another name",
        )
    if private and not info.private:
        raise UserError(
            "push.hub-public",
            f"hf:{repo}: this {kind} repository is public; make it private on its page, or say --no-private",
        )


def _upload(api: Any, repo: str, kind: Kind, path: Path, private: bool, message: str) -> str:
    made = api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
    api.upload_folder(repo_id=repo, repo_type=kind, folder_path=path, commit_message=message)
    return str(made)


def _refusal(error: Exception) -> str:
    """Why the Hub did not take a push, and what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return "the Hub does not know this token; make one that may write, and set HF_TOKEN or log in again"
    if status == 403:
        return "this token may not write there; make one that may, or name a repository of your own"
    if status is not None:
        return f"the Hub refused it ({first_line(error, 200)})"
    return f"the upload failed ({first_line(error, 200)}); try again, or push to a folder and upload that elsewhere"
