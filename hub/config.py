"""All settings of a node, read from the environment once, at start (docs/protocol.md#settings-and-commands). Pure.

Only the command line can override them; nothing else reads the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from hub.auth.origins import LOOPBACK, Network
from hub.limits.quotas import Quota
from hub.limits.rates import RateClass, over_defaults
from hub.readers import (
    ARCHIVE_LOCK,
    DURABILITIES,
    HOSTS,
    METADATA_KEY,
    NETWORKS,
    OBJECTS,
    ORIGINS,
    PATHS,
    RATES,
    RETENTION,
    SEALED,
    SHARE,
    NamedObject,
    RateOverride,
    Setting,
    SettingProblem,
    SettingRefused,
    every_kind,
    optional,
    optional_words,
    redis_url,
    seconds,
    setting,
    size_bytes,
    url,
    whole,
    words,
)
from streams.archive.retention import ObjectLock, RetentionPolicy
from streams.channel import Kind
from streams.envelope import Durability
from streams.redis.keys import PARTITIONS_MAX
from streams.sealing.sealed import SealRule

DEV_SECRET: Final = "dev-secret-change-me-32-bytes-min"  # noqa: S105 - public on purpose: `hub dev` only
"""The secret of `hub dev`, and of commands that sign a token for themselves, if HUB_JWT_SECRET is unset."""
OWN_KEY: Final = (
    "a secret of your own (try `openssl rand -base64 48`): with the public dev secret anybody can sign tokens"
)
_MB: Final = 1_048_576
_REDIS_URL: Final = redis_url()
_NO_OVERRIDES: Final[Mapping[str, RateOverride] | None] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a node. `from_env` reads them; tests construct them with only the fields they need.

    `durability` has a level for every kind of channel. `rate_limits` is None if limits are off, else it overrides
    defaults.
    """

    redis_url: str | None = setting(
        "REDIS_URL",
        _REDIS_URL,
        "URL of the Redis server, or of Sentinels (`redis+sentinel://host,host/name`), or of a Cluster (`redis+cluster://host,host`)",
        default=None,
        shown="embedded Redis",
        is_secret=True,
    )
    jobs_redis_url: str | None = setting(
        "HUB_JOBS_REDIS_URL",
        _REDIS_URL,
        "URL of the Redis server for the workers' job queues; required beside a Cluster, in which arq cannot work",
        default=None,
        shown="that of `REDIS_URL`",
        is_secret=True,
    )
    jwt_secret: str | None = setting(
        "HUB_JWT_SECRET",
        optional_words("a secret of at least 32 characters", r"[^\x00]{32,}"),
        "secret that tokens are signed with (HS256)",
        default=None,
        shown="",
        is_secret=True,
    )
    jwt_public_key: str | None = setting(
        "HUB_JWT_PUBLIC_KEY",
        optional_words("a public key in PEM form", r"\s*-----BEGIN [^\x00]*"),
        "public key that tokens are verified with (RS256, ES256, EdDSA)",
        default=None,
        shown="",
    )
    jwks_url: str | None = setting(
        "HUB_JWKS_URL",
        url("https", "http"),
        "URL of the key set (JWKS) that tokens are verified with",
        default=None,
        shown="",
    )
    jwt_audience: str = setting(
        "HUB_JWT_AUDIENCE", words("a word"), "required `aud` of a token", default="hub", shown="hub"
    )
    jwt_issuer: str | None = setting(
        "HUB_JWT_ISSUER", optional_words("a word"), "required `iss` of a token", default=None, shown="not checked"
    )
    jwt_max_age_s: float | None = setting(
        "HUB_JWT_MAX_AGE",
        optional(seconds(1, 315_360_000)),
        "maximum age of a token in seconds since its `iat`, even if its `exp` is later",
        default=None,
        shown="not checked",
    )
    allowed_origins: frozenset[str] = setting(
        "HUB_ALLOWED_ORIGINS",
        ORIGINS,
        "origins of pages, besides the hub's own, that may open sockets and call the API; `*` for all",
        default=frozenset(),
        shown="the hub's own",
    )
    allowed_hosts: frozenset[str] = setting(
        "HUB_ALLOWED_HOSTS",
        HOSTS,
        "host names that requests may use, besides IP addresses, `localhost` and the names in `HUB_HOST`, "
        "`WEBSOCKET_URL` and `HUB_ALLOWED_ORIGINS`; if set, all requests except health and metrics are checked",
        default=frozenset(),
        shown="checked for the console, and for every request to `hub dev` or a hub with the dev secret",
    )
    trusted_proxies: tuple[Network, ...] = setting(
        "HUB_TRUSTED_PROXIES",
        NETWORKS,
        "networks of the proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted",
        default=LOOPBACK,
        shown="127.0.0.0/8,::1/128",
    )
    metrics_token: str | None = setting(
        "HUB_METRICS_TOKEN",
        optional_words("a secret of at least 16 characters", r"[\x21-\x7e]{16,}"),
        "token that `/metrics` requires as `Authorization: Bearer`",
        default=None,
        shown="open",
        is_secret=True,
    )
    quota_connections: int | None = setting(
        "HUB_QUOTA_CONNECTIONS",
        optional(whole(1, 10_000_000)),
        "maximum connections of a tenant, all nodes together (4010)",
        default=None,
        shown="unlimited",
    )
    quota_channels: int | None = setting(
        "HUB_QUOTA_CHANNELS",
        optional(whole(1, 100_000_000)),
        "maximum channels that a tenant follows at once, all nodes together; a channel followed on two nodes counts twice (4015)",
        default=None,
        shown="unlimited",
    )
    quota_publishes_per_s: int | None = setting(
        "HUB_QUOTA_PUBLISH_RATE",
        optional(whole(1, 10_000_000)),
        "maximum events per second that a tenant stores through one node (4004)",
        default=None,
        shown="unlimited",
    )
    quota_bytes_stored: int | None = setting(
        "HUB_QUOTA_BYTES",
        optional(whole(1, 2**60)),
        "maximum bytes stored for a tenant: events and channels (4011), files and open uploads (4017)",
        default=None,
        shown="unlimited",
    )
    partitions: int = setting(
        "HUB_PARTITIONS",
        whole(1, PARTITIONS_MAX),
        "number of partitions that channels are hashed into; fixed at the first start, and changed only by `hub repartition`",
        default=8,
        shown="8",
    )
    host: str = setting(
        "HUB_HOST",
        words("an address or a host name", r"[A-Za-z0-9_.:%-]{1,255}"),
        "address to listen on",
        default="127.0.0.1",
        shown="127.0.0.1",
    )
    port: int = setting("HUB_PORT", whole(0, 65_535), "port to listen on", default=8_000, shown="8000")
    admin_port: int | None = setting(
        "HUB_ADMIN_PORT",
        optional(whole(1, 65_535)),
        "second port, of the same address, for `/metrics`, `/v1/connections`, `/v1/parked`, `/v1/processes`, `/v1/revocations` and "
        "`/v1/rollout`, which are then not served on the first; give each hub on a machine its own",
        default=None,
        shown="the same port",
    )
    certificates: tuple[str, ...] = setting(
        "HUB_CERTIFICATES",
        PATHS,
        "certificates in PEM form, as `path,…`, whose expiry the node reports in its metrics, such as those of the proxy before it",
        default=(),
        shown="none",
    )
    traced_share: float = setting(
        "HUB_TRACING",
        SHARE,
        "share of traces to record with OpenTelemetry, which the extra `otel` installs and `OTEL_*` variables configure; `on` for "
        "all. Traces that clients begin are recorded unless it is off",
        default=0.0,
        shown="off",
    )
    websocket_url: str | None = setting(
        "WEBSOCKET_URL",
        url("ws", "wss"),
        "public address of the hub, used in the URLs that clients receive",
        default=None,
        shown="the request's own host",
    )
    heartbeat_interval_s: float = setting(
        "WEBSOCKET_HEARTBEAT_INTERVAL",
        seconds(0.05, 3_600),
        "heartbeat interval in seconds; a client that is silent for two intervals is disconnected (4016)",
        default=30.0,
        shown="30",
    )
    max_connections: int = setting(
        "WEBSOCKET_MAX_CONNECTIONS",
        whole(1, 10_000_000),
        "maximum sockets per node; further ones are refused (4010)",
        default=10_000,
        shown="10000",
    )
    max_http_connections: int = setting(
        "HUB_HTTP_CONNECTIONS",
        whole(1, 10_000_000),
        "maximum plain HTTP connections per node, including streams and long polls; requests on further ones are refused (4010)",
        default=2_000,
        shown="2000",
    )
    max_http_connections_by_address: int = setting(
        "HUB_HTTP_CONNECTIONS_BY_ADDRESS",
        whole(1, 10_000_000),
        "the same limit per client address; connections of trusted proxies are not counted",
        default=500,
        shown="500",
    )
    message_size_limit_bytes: int = setting(
        "WEBSOCKET_MESSAGE_SIZE_LIMIT",
        size_bytes(1_024, 64 * _MB),
        "maximum size of a client's message (1009)",
        default=_MB,
        shown="1MB",
    )
    compression: str = setting(
        "HUB_COMPRESSION",
        words("on or off", r"on|off"),
        "accept permessage-deflate from clients that offer it, for messages of 1 KiB or more",
        default="on",
        shown="on",
    )
    max_subscriptions: int = setting(
        "HUB_MAX_SUBSCRIPTIONS", whole(1, 10_000), "maximum channels per connection (4015)", default=200, shown="200"
    )
    max_lag_events: int = setting(
        "HUB_MAX_LAG_EVENTS",
        whole(1, 1_000_000_000),
        "number of events by which a slow client may fall behind before it is disconnected (4012)",
        default=100_000,
        shown="100000",
    )
    handshake_timeout_s: float = setting(
        "HUB_HANDSHAKE_TIMEOUT",
        seconds(0.05, 300),
        "seconds within which a client's first message must arrive (4008)",
        default=10.0,
        shown="10",
    )
    drain_s: float = setting(
        "HUB_DRAIN_SECONDS",
        seconds(0, 3_600),
        "maximum seconds for a stopping node to spread its disconnects, and for a stopping worker to finish answers",
        default=5.0,
        shown="5",
    )
    agents: tuple[NamedObject, ...] = setting(
        "HUB_AGENTS", OBJECTS, "agents that this hub serves, as `name=module:object,…`", default=(), shown="none"
    )
    handlers: tuple[NamedObject, ...] = setting(
        "HUB_HANDLERS",
        OBJECTS,
        "handlers of custom events, run by workers, as `name=module:object,…`; a name must never change",
        default=(),
        shown="none",
    )
    projections: tuple[NamedObject, ...] = setting(
        "HUB_PROJECTIONS",
        OBJECTS,
        "custom projections, shown in the states of channels, as `name=module:object,…`",
        default=(),
        shown="none",
    )
    event_schemas: str | None = setting(
        "HUB_EVENT_SCHEMAS",
        optional_words("a folder"),
        "folder of JSON Schemas such as `custom.order_placed.v1.json`; only custom events that have one are then accepted",
        default=None,
        shown="any custom event",
    )
    rollout_provider: str | None = setting(
        "HUB_ROLLOUT_PROVIDER",
        optional_words("an object as module:object", r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*"),
        "OpenFeature provider that decides who may use WebSocket and who has which variant, as `module:object`",
        default=None,
        shown="the setting in `system:rollout`",
    )
    log_level: str = setting(
        "HUB_LOG_LEVEL",
        words("debug, info, warning or error", r"debug|info|warning|error"),
        "lowest severity of the lines that are logged",
        default="info",
        shown="info",
    )
    log_format: str = setting(
        "HUB_LOG_FORMAT",
        words("json or console", r"json|console"),
        "form of the log: a JSON object per line, or text for people",
        default="json",
        shown="json",
    )
    sentry_dsn: str | None = setting(
        "HUB_SENTRY_DSN",
        url("https", "http"),
        "address of the Sentry project that errors are reported to (needs the extra `sentry`)",
        default=None,
        shown="none",
        is_secret=True,
    )
    run_lease_s: float = setting(
        "HUB_RUN_LEASE",
        seconds(0.5, 3_600),
        "seconds without a heartbeat from its worker after which another worker takes over a run",
        default=15.0,
        shown="15",
    )
    stall_limit_s: float = setting(
        "HUB_STALL_LIMIT",
        seconds(0.5, 3_600),
        "seconds for which an agent may block its worker before other workers take over its runs",
        default=60.0,
        shown="60",
    )
    runs_per_user: int = setting(
        "HUB_RUNS_PER_USER",
        whole(0, 1_000_000),
        "maximum unfinished runs of a user, queued and waiting ones included (4004); 0 means unlimited",
        default=20,
        shown="20",
    )
    runs_per_tenant: int = setting(
        "HUB_RUNS_PER_TENANT",
        whole(0, 1_000_000),
        "maximum unfinished runs of a tenant, queued and waiting ones included (4004); 0 means unlimited",
        default=200,
        shown="200",
    )
    rate_limits: Mapping[str, RateOverride] | None = setting(
        "HUB_RATE_LIMITS",
        RATES,
        "`off`, or `class=rate/burst,…` to override defaults",
        default=_NO_OVERRIDES,
        shown="the defaults",
    )
    durability: Mapping[Kind, Durability] = setting(
        "HUB_DURABILITY",
        DURABILITIES,
        "durability of an event when it is acknowledged: one level, or `kind=level,…`",
        default=every_kind(Durability.MEMORY),
        shown="memory",
    )
    s3_bucket: str | None = setting(
        "S3_BUCKET",
        optional_words("a bucket's name", r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
        "S3 bucket for uploads",
        default=None,
        shown="the data folder",
    )
    s3_endpoint_url: str | None = setting(
        "S3_ENDPOINT_URL",
        url("https", "http"),
        "URL of an S3 service other than Amazon's",
        default=None,
        shown="Amazon's",
    )
    s3_region: str | None = setting(
        "S3_REGION",
        optional_words("a region's name", r"[a-z0-9-]{1,64}"),
        "region of the bucket",
        default=None,
        shown="us-east-1",
    )
    s3_path_style: str = setting(
        "S3_PATH_STYLE",
        words("auto, yes or no", r"auto|yes|no"),
        "put the bucket name into the URL path; auto: for every S3 service except Amazon's",
        default="auto",
        shown="auto",
    )
    upload_size_limit_bytes: int = setting(
        "HUB_UPLOAD_SIZE_LIMIT",
        size_bytes(1, 5 * 1_048_576 * _MB),
        "maximum size of a file (4017)",
        default=5 * 1_024 * _MB,
        shown="5120MB",
    )
    upload_tenant_limit_bytes: int = setting(
        "HUB_UPLOAD_TENANT_LIMIT",
        size_bytes(0, 1_048_576 * 1_024 * _MB),
        "maximum total size of a tenant's files and open uploads (4017); 0 means unlimited",
        default=0,
        shown="unlimited",
    )
    upload_types: str = setting(
        "HUB_UPLOAD_TYPES",
        words("content types such as image/*,application/pdf", r"[\w.+*-]+/[\w.+*-]+(\s*,\s*[\w.+*-]+/[\w.+*-]+)*"),
        "accepted content types (4017); HTML is never accepted",
        default="*/*",
        shown="*/*",
    )
    retention: RetentionPolicy | None = setting(  # noqa: RUF009 - a policy is frozen
        "HUB_RETENTION",
        RETENTION,
        "events that stay in Redis, and how long the archive keeps the others, as `scope=bound bound;…`; if set, "
        "a worker keeps the archive and its checkpoints, in the bucket or the data folder",
        default=None,
        shown="all events stay in Redis, without an archive",
    )
    checkpoint_interval_s: float = setting(
        "HUB_CHECKPOINT_INTERVAL",
        seconds(0.2, 86_400),
        "seconds between two checkpoints of the archive: the window in which a forged event would not show",
        default=60.0,
        shown="60",
    )
    timestamp_url: str | None = setting(
        "HUB_TIMESTAMP_URL",
        url("https", "http"),
        "a time-stamping authority (RFC 3161), which stamps each tenant's newest checkpoint, at most once an hour; "
        "needs the extra `audit`",
        default=None,
        shown="no stamps",
    )
    timestamp_ca: str | None = setting(
        "HUB_TIMESTAMP_CA",
        optional_words("a file"),
        "certificates in PEM form that the authority's stamps must lead to, or they are not kept",
        default=None,
        shown="auditors check them",
    )
    archive_lock: ObjectLock | None = setting(  # noqa: RUF009 - a named tuple is frozen
        "HUB_ARCHIVE_LOCK",
        ARCHIVE_LOCK,
        "S3 Object Lock of the archive's segments, manifests, checkpoints and stamps, as `governance:365d` or `compliance:365d`; "
        "the bucket must have it enabled",
        default=None,
        shown="no lock",
    )
    audit_key: str | None = setting(
        "HUB_AUDIT_KEY",
        optional_words("a file"),
        "file with the key that signs checkpoints; made if it is missing",
        default=None,
        shown="`audit.key` in the data folder",
    )
    sealed: SealRule | None = setting(  # noqa: RUF009 - a rule is frozen
        "HUB_SEALED",
        SEALED,
        "channels whose payloads are sealed by a key for each person, as `tenant:kind`, so that `hub erase` can erase "
        "people; needs HUB_SUBJECT_KEYS",
        default=None,
        shown="none",
    )
    subject_keys: str | None = setting(
        "HUB_SUBJECT_KEYS",
        optional_words("a folder"),
        "folder with people's keys, which all nodes and workers share; never in the data folder, the archive or their "
        "backups",
        default=None,
        shown="unset",
    )
    data_dir: str = setting(
        "HUB_DATA",
        words("a folder"),
        "folder for the embedded Redis and for uploads",
        default=".hub",
        shown=".hub",
    )

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Reads all settings from environment variables; an empty one counts as unset.

        Raises:
            SettingRefused: lists every invalid variable, not only the first.
        """
        values: dict[str, object] = {}
        problems: list[SettingProblem] = []
        for name, declared in declarations().items():
            text = env.get(declared.env, "").strip()
            if not text:
                continue
            try:
                values[name] = declared.reader.read(text)
            except ValueError:
                problems.append(SettingProblem(declared.env, declared.reader.allowed))
        problems += _token_problems(env) + _seal_problems(env)
        if problems:
            raise SettingRefused(tuple(problems))
        return cls(**values)  # type: ignore[arg-type]  # each value came from the reader declared with its field

    @classmethod
    def for_any_server(cls, env: Mapping[str, str]) -> Settings:
        """Like `from_env`, for a node whose server may listen on any address.

        Raises:
            SettingRefused: as in `from_env`, and for the public dev secret.
        """
        settings = cls.from_env(env)
        if settings.has_dev_secret:
            raise SettingRefused((SettingProblem("HUB_JWT_SECRET", OWN_KEY),))
        return settings

    @property
    def rates(self) -> Mapping[str, RateClass] | None:
        """Every rate class with its overrides applied; None if limits are off."""
        return over_defaults(self.rate_limits)

    @property
    def quota(self) -> Quota:
        """The quota of each tenant."""
        return Quota(self.quota_connections, self.quota_channels, self.quota_publishes_per_s, self.quota_bytes_stored)

    @property
    def path_prefix(self) -> str:
        """The path before `/ws` in the public address, such as `/realtime`; all routes of the hub are below it."""
        return urlsplit(self.websocket_url or "").path.rstrip("/").rpartition("/")[0]

    @property
    def public_origin(self) -> str:
        """The first part of URLs to this hub, taken from its public address; empty without one."""
        if self.websocket_url is None:
            return ""
        parts = urlsplit(self.websocket_url)
        return f"{parts.scheme.replace('ws', 'http', 1)}://{parts.netloc}{self.path_prefix}"

    @property
    def secrets(self) -> list[str]:
        """Texts that must never appear in a log line."""
        passwords = [urlsplit(found or "").password for found in (self.redis_url, self.jobs_redis_url)]
        return [text for text in (self.jwt_secret, self.metrics_token, *passwords, self.sentry_dsn) if text]

    @property
    def has_dev_secret(self) -> bool:
        """True if anybody can sign tokens for this hub."""
        return self.jwt_secret == DEV_SECRET

    @property
    def has_token_key(self) -> bool:
        """True if a key to verify tokens is configured; without one a node must not start."""
        return bool(self.jwt_secret or self.jwt_public_key or self.jwks_url)


def declarations() -> Mapping[str, Setting]:
    """Maps field name → declaration, in the order of the class."""
    return {field.name: field.metadata[METADATA_KEY] for field in fields(Settings)}


def settings_table() -> str:
    """Returns the settings as a Markdown table, as `docs/operating/settings.md` has it; a test compares the two."""
    rows = (f"| `{row.env}` | {row.shown_default or 'unset'} | {row.description} |" for row in declarations().values())
    return "\n".join(("| variable | default | meaning |", "|---|---|---|", *rows))


def _seal_problems(env: Mapping[str, str]) -> list[SettingProblem]:
    """Requires a store of keys for what is to be sealed."""
    if env.get("HUB_SEALED", "").strip() and not env.get("HUB_SUBJECT_KEYS", "").strip():
        return [SettingProblem("HUB_SUBJECT_KEYS", "a folder for people's keys, because HUB_SEALED is set")]
    return []


def _token_problems(env: Mapping[str, str]) -> list[SettingProblem]:
    """Requires exactly one source of keys, hence one family of algorithms: with two, attackers could choose the weaker one."""
    given = [name for name in ("HUB_JWT_SECRET", "HUB_JWT_PUBLIC_KEY", "HUB_JWKS_URL") if env.get(name, "").strip()]
    return [
        SettingProblem(name, f"unset if {given[0]} is set: tokens are verified in one way only") for name in given[1:]
    ]
