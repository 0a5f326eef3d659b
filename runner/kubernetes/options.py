"""What the command line may ask for, checked: it ends up in a manifest, and one value in a command."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from runner.system.errors import UserError

MOUNT = "/mnt/tutelage"
"""Where the shared volume is mounted in every pod."""

DAY_HOURS = 24
LAST_PORT = 65535

# No blank, quote, dollar or semicolon: the entry point is a line that a shell reads.
_PLAIN = re.compile(r"[A-Za-z0-9._/:@%+=-]+")
_REMOTE = re.compile(r"(?!file:|local:|memory:)[a-z][a-z0-9+.-]*://[^/]+.*")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_PASSWORD = re.compile(r"[a-z0-9+.-]+://[^/@]*:[^/@]*@")
_ADDRESS = re.compile(r"[A-Za-z0-9.-]+:[0-9]{1,5}")


@dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """The options of ``tutelage render``, which explains each of them, and what they are where they are left out.

    ``secrets`` are names, never values. ``hours`` bounds each attempt, of which there are ``retries`` and one.
    :raises UserError: when one of them would be refused later, by Kubernetes or in the middle of a run.
    """

    cloud: Literal["gke", "eks", "aks", "plain"] = "plain"
    image: str | None = None
    head_image: str | None = None
    namespace: str = "tutelage"
    runs_dir: str = f"{MOUNT}/runs"
    data_dir: str = f"{MOUNT}/data"
    claim: str = "tutelage"
    secrets: Sequence[str] = ()
    queue: str | None = None
    hours: int = DAY_HOURS
    retries: int = 2
    gcs_redis: str | None = None
    online: bool = False

    def __post_init__(self) -> None:
        _check("--namespace", self.namespace, _LABEL, "up to 63 small letters, digits and '-'")
        for option, name in (("--claim", self.claim), *(("--secret", name) for name in self.secrets)):
            _check(option, name, _DOMAIN, "the name of a Kubernetes object: small letters, digits, '-' and '.'")
        if self.queue is not None:
            _check("--queue", self.queue, _LABEL, "the name of a LocalQueue: small letters, digits and '-'")
        for option, image in (("--image", self.image), ("--head-image", self.head_image)):
            if image is not None:
                _check(option, image, _IMAGE, "an image such as registry.internal/tutelage:gpu")
        if self.gcs_redis is not None:
            _check("--gcs-redis", self.gcs_redis, _ADDRESS, "HOST:PORT")
            if not 0 < int(self.gcs_redis.rpartition(":")[2]) <= LAST_PORT:
                raise UserError(
                    "kubernetes.port-invalid", f"--gcs-redis {self.gcs_redis!r}: expected a port from 1 to {LAST_PORT}"
                )
        _check_place("--runs-dir", self.runs_dir, "each retry begins in a new cluster and goes on from what is there")
        _check_place("--data-dir", self.data_dir, "every pod reads the data from there")

    def image_for(self, gpus: bool) -> str:
        """The image asked for, or the one that the project's own Dockerfile builds."""
        return self.image or f"tutelage:{'gpu' if gpus else 'cpu'}"

    def head_image_for(self, gpus: bool) -> str:
        """Of head and submitter. Beside GPUs the project has a small one for them, which those of others may not."""
        small = gpus and self.image is None
        return self.head_image or ("tutelage-head:cpu" if small else self.image_for(gpus))


def on_the_volume(path: str) -> bool:
    """Whether a local path lies on the shared volume."""
    return posixpath.normpath(path).startswith(f"{MOUNT}/")


def has_password(place: str) -> bool:
    """Whether a URL has a user's name and password in it."""
    return bool(_PASSWORD.match(place))


def _check(option: str, value: str, form: re.Pattern[str], wanted: str) -> None:
    if not form.fullmatch(value):
        raise UserError("kubernetes.option-invalid", f"{option} {value!r}: expected {wanted}")


def _check_place(option: str, place: str, why: str) -> None:
    if has_password(place):
        raise UserError(
            "kubernetes.option-has-password",
            f"{option}: no user or password may stand in a manifest; put them into a Secret (--secret NAME)",
        )
    if not (_REMOTE.fullmatch(place) or on_the_volume(f"{place}/...")):
        raise UserError(
            "kubernetes.storage-not-shared",
            f"{option} {place!r}: must lie on shared storage, as {why}: a URL such as s3://bucket/folder, "
            f"or a folder on the volume that all pods mount, such as {MOUNT}/{option[2:].removesuffix('-dir')}",
        )
    if not _PLAIN.fullmatch(place):
        raise UserError(
            "kubernetes.path-characters",
            f"{option} {place!r}: expected nothing but letters, digits and . _ / : @ % + = -",
        )
