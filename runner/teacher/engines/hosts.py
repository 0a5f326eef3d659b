"""Which hosts a spec may send texts to: what a name or an address is, whatever its spelling. Knows no HTTP.

A spec may come from somebody else. So what answers on link-local addresses, such as a cloud's metadata service with the
machine's own keys, is never asked.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from runner.system.errors import UserError

TOKEN_VARIABLE = "TUTELAGE_ENDPOINT_TOKEN"
"""The environment variable that holds the server's bearer token. The caller reads it; it stands nowhere else."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LOCAL_SUFFIXES = (".local", ".internal", ".svc", ".cluster.local", ".localdomain", ".lan", ".home.arpa")
"""Endings of names that only some machines can look up: the one that starts the run may not be among them."""
_METADATA_NAMES = (
    "metadata",
    "metadata.goog",
    "metadata.google.internal",
    "instance-data",
    "instance-data.ec2.internal",
)


def _networks(*networks: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(map(ipaddress.ip_network, networks))


_PRIVATE = _networks(
    "0.0.0.0/32",  # what servers print when they listen everywhere; to a client it is this machine
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
)
_NEVER = _networks(
    "169.254.0.0/16",  # link-local; 169.254.169.254 is the metadata service of most clouds
    "fe80::/10",
    "fd00:ec2::/32",  # AWS
    "fd20:ce::254/128",  # Google Cloud
    "100.100.100.200/32",  # Alibaba Cloud
    "168.63.129.16/32",  # Azure
    "192.0.0.192/32",  # Oracle Cloud
)
# Whose last four bytes are an IPv4 address that a router translates to.
_TRANSLATED = _networks("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96")


def literal(host: str) -> Address | None:
    """The address that ``host`` spells, in any of the ways that connecting takes; None for a name."""
    host = host.rstrip(".")
    with suppress(ValueError):
        return ipaddress.ip_address(host)
    with suppress(OSError, UnicodeError):  # the old spellings: 134744072, 0x8080808 and 010.8.8.8 are addresses as well
        return ipaddress.IPv4Address(socket.inet_aton(host))
    return None


def is_local_name(host: str) -> bool:
    """Whether the name is of the kind that machines elsewhere may not know."""
    return "." not in host.rstrip(".") or host.rstrip(".").endswith(LOCAL_SUFFIXES)


def never(host: str) -> bool:
    """Whether ``host`` is by its spelling alone one that is never asked."""
    address = literal(host)
    return host.rstrip(".") in _METADATA_NAMES if address is None else _is_never(address)


def check_host(url: str, allow_external: bool) -> None:
    """Whether texts may be sent to ``url``. Names are what they resolve to, here and again for each connection.

    A name that only other machines know (without a dot, or with an ending such as ``.svc``) is judged there alone.

    :raises UserError: when the address cannot be used at all, is never asked, or its host
        is not the user's own and ``allow_external`` is false.
    """
    host = address_of(url).hostname or ""
    try:
        judged(host, allow_external)
    except (OSError, UnicodeError) as error:
        if not is_local_name(host):
            raise UserError(
                "teacher.host-unknown", f"teacher.endpoint: the name {host} cannot be found; correct it"
            ) from error


def address_of(url: str) -> SplitResult:
    """The parts of an address such as ``http://host:8000/v1``. :raises UserError: when it has another form."""
    # No message repeats the address: it may hold a password.
    if "@" in url:
        raise UserError(
            "teacher.endpoint-has-password",
            f"teacher.endpoint holds a user name or a password; a token belongs into {TOKEN_VARIABLE}",
        )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.port != 0 and parts.hostname
    except ValueError:
        usable = None
    if not usable or not re.fullmatch(r"[a-z0-9._:%-]+", usable) or parts.query or parts.fragment:
        raise UserError(
            "teacher.endpoint-invalid", "teacher.endpoint is not an address of the form http://host:port/v1 (or https)"
        )
    return parts


def judged(host: str, allow_external: bool) -> list[str]:
    """The addresses of ``host``, to connect to: all of them may be sent texts.

    :raises OSError, UnicodeError: when the name cannot be looked up.
    :raises UserError: when one of them is never asked, or not private though ``allow_external`` is false.
    """
    spelled = literal(host)
    if spelled is None and not never(host):
        found = [ipaddress.ip_address(str(entry[4][0])) for entry in socket.getaddrinfo(host, None)]
    else:
        found = [spelled] if spelled else []
    if not found or any(map(_is_never, found)):
        raise UserError(
            "teacher.host-forbidden",
            f"teacher.endpoint: {host} is a link-local address or a cloud's metadata service, which no teacher answers "
            "at: name the server by another address",
        )
    if not allow_external and not all(map(_is_private, found)):
        raise UserError(
            "teacher.host-external",
            f"teacher.endpoint: {host} is outside your private network. Set teacher.allow_external: true to allow "
            "sending texts to it.",
        )
    return list(dict.fromkeys(map(str, found)))


def _is_never(address: Address) -> bool:
    return any(one in network for one in _meant(address) for network in _NEVER)


def _is_private(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in _PRIVATE)


def _meant(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 address that is hidden in it."""
    yield address
    if isinstance(address, ipaddress.IPv4Address):
        return
    inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.ipv4_mapped or any(address in one for one in _TRANSLATED) or int(address) >> 32 == 0:
        yield inner
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo
