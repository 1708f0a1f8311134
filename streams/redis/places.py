"""The forms of REDIS_URL: one server, a name that Sentinels know, or a Cluster. Pure.

`redis://host:6379/0`, `rediss://…` and `unix:///path` name one server. `redis+sentinel://host:26379,host:26379/name?db=0` names
one by the Sentinels that know its address, and `redis+cluster://host:6379,host:6379` names some servers of a Cluster; with
`rediss+` connections to the servers use TLS. User and password before the hosts, and the options after them, are those of the
servers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

_SENTINEL_PORT: Final = 26_379
_PORT: Final = 6_379
_PORT_MAX: Final = 65_535


class Form(StrEnum):
    """The forms of REDIS_URL."""

    ONE = "one"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class Host(NamedTuple):
    """The address of a server or a Sentinel."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """A parsed REDIS_URL.

    Attributes:
        url: the URL as given.
        seeds: the Sentinels, or servers of the Cluster; empty for one server.
        name: the name by which the Sentinels know the server.
    """

    form: Form
    url: str
    seeds: tuple[Host, ...] = ()
    name: str = ""
    _scheme: str = "redis"
    _login: str = ""
    _path: str = ""
    _sentinel_login: str = ""

    def url_of(self, host: Host) -> str:
        """The URL of one server at `host`, with the login and the options of the whole."""
        return f"{self._scheme}://{self._login}{host}{self._path}"

    def sentinel_url(self, host: Host) -> str:
        """The URL of a Sentinel; its login is that of the options `sentinel_username` and `sentinel_password`."""
        return f"{self._scheme}://{self._sentinel_login}{host}"


def parse_place(url: str) -> RedisPlace:
    """Parse REDIS_URL. The URL of one server is not examined further.

    Raises:
        ValueError: a list of hosts, a port, the name or the database is missing or wrong.
    """
    parts = urlsplit(url)
    scheme, plus, kind = parts.scheme.partition("+")
    if not plus:
        return RedisPlace(Form.ONE, url)
    form = Form(kind)
    if scheme not in {"redis", "rediss"} or form is Form.ONE:
        raise ValueError("the scheme is unknown")
    login, at, hosts = parts.netloc.rpartition("@")
    seeds = tuple(_host(text, _SENTINEL_PORT if form is Form.SENTINEL else _PORT) for text in hosts.split(","))
    name, options = parts.path.strip("/"), dict(parse_qsl(parts.query, keep_blank_values=True))
    sentinel_user, sentinel_password = options.pop("sentinel_username", ""), options.pop("sentinel_password", "")
    db = options.pop("db", "0")
    if not db.isdecimal() or (form is Form.SENTINEL) != bool(name) or "/" in name:
        raise ValueError("the path is wrong")
    if form is Form.CLUSTER and db != "0":
        raise ValueError("a Cluster has no other database than 0")
    query = f"?{urlencode(options)}" if options else ""
    quoted = f"{quote(sentinel_user, safe='')}:{quote(sentinel_password, safe='')}@"
    return RedisPlace(form, url, seeds, name, scheme, login + at, f"/{db}{query}", quoted if sentinel_password else "")


def _host(text: str, port: int) -> Host:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.path or "@" in text:
        raise ValueError("a host is missing")
    found = port if parts.port is None else parts.port
    if not 0 < found <= _PORT_MAX:
        raise ValueError("a port is wrong")
    return Host(parts.hostname, found)
