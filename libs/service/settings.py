"""Every setting of every service, read from the environment once, in `__main__`."""

import os
import re
import socket
from collections.abc import Mapping
from ipaddress import IPv6Address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator

SESSION_S_MAX = 100 * 366 * 86_400  # an end beyond the year 9999 is no time: every sign-in failed
EXIT_USAGE = 2  # how a process ends that cannot run in its environment

_HOST = re.compile(r"(\[[^\[\]]+\]|[^:\[\]]*)(:(?P<port>[0-9]{0,5}))?")


class ConfigurationError(Exception):
    """The environment does not describe a runnable service; the text is one clear line."""


class Settings(BaseModel):
    """The environment, checked. Field names are the variables in lower case."""

    model_config = ConfigDict(frozen=True)

    # Stores
    redis_url: str = Field(
        "",
        description="Redis or Valkey 7.0+ that evicts nothing (`maxmemory-policy noeviction`), "
        "or any node of a cluster; wins over REDIS_HOST and REDIS_PORT",
    )
    redis_host: str = Field(
        "127.0.0.1", description="host of Redis when REDIS_URL is not set; where neither is, `make run` starts one"
    )
    redis_port: int = Field(6379, ge=1, le=65535, description="port of Redis at REDIS_HOST")
    database_url: str = Field("", description="PostgreSQL 15+")
    data_dir: Path = Field(Path("data"), description="where `make run` keeps stores, secrets and logs")

    swaplog_stores: Literal["", "url", "path", "wheel", "docker"] = Field(
        "", description="forces how `make run` and the tests find Redis and Postgres"
    )
    gateways: int = Field(1, ge=1, le=16, description="gateway processes `make run` starts; they share one port")
    routers: int = Field(1, ge=1, le=16, description="router processes `make run` starts")
    executors: int = Field(1, ge=1, le=16, description="executor processes `make run` starts")

    # Secrets
    jwt_secret: SecretStr = Field(
        SecretStr(""), description="signs access tokens; at least 32 bytes; `make run` makes one"
    )
    jwt_secrets_old: SecretStr = Field(
        SecretStr(""),
        description="secrets that signed before, by commas: their tokens hold until they expire",
    )
    wallet_secret: SecretStr = Field(
        SecretStr(""), description="the executor's key: 64 bytes in base58; `make run` makes one"
    )

    # Addresses
    host: str = Field("127.0.0.1", description="address the HTTP ports listen on")
    port: int = Field(8080, ge=0, le=65535, description="the gateway: the one origin clients need")
    notifier_port: int = Field(8081, ge=0, le=65535, description="the notifier's own port")
    localnet_port: int = Field(8899, ge=0, le=65535, description="the local chain and its venues")
    admin_host: str = Field(
        "127.0.0.1", description="address the admin ports listen on; they tell whoever asks what happens inside"
    )
    admin_port: int = Field(0, ge=0, le=65535, description="health and metrics of one service; 0: any free port")
    notifier_url: str = Field("http://127.0.0.1:8081", description="where the gateway hands WebSockets on to")
    chain_rpc_url: str = Field("http://127.0.0.1:8899", description="Solana JSON-RPC")
    venues: str = Field(
        "raydium=http://127.0.0.1:8899/venues/raydium,meteora=http://127.0.0.1:8899/venues/meteora",
        description="name=url of every venue, separated by commas; orca=http://127.0.0.1:8899/venues/orca is one, too",
    )

    # The log
    partitions: int = Field(4, ge=1, le=64, description="fixed when the log is created")
    consumer: str = Field("", description="name of this worker in its group; default host-pid")

    log_keep_s: int = Field(900, ge=60, description="how long archived events stay in Redis, while there is room")
    redis_memory_mb: int = Field(
        1_024,
        ge=16,
        description="Redis memory beyond which new orders are refused; 90 % of its own `maxmemory` if that is less. "
        "An order leaves 0.25 kB there for a day, with a key of its client's 0.6: a GiB is 4 or 1.7 million orders "
        "a day",
    )
    overload_wait_s: float = Field(15, gt=0, description="new orders are refused while work waits for longer")

    # Clients
    access_token_s: int = Field(900, ge=60, le=86_400, description="lifetime of an access token")
    session_s: int = Field(2_592_000, ge=60, le=SESSION_S_MAX, description="a session not renewed for so long is over")
    sockets_per_user: int = Field(50, ge=1, le=10_000, description="connections of one user that stay open")
    proxies: int = Field(0, ge=0, le=10, description="proxies in front of the gateway that add to X-Forwarded-For")
    cors_origins: str = Field("", description="origins whose pages may read answers, by commas; * for all")
    writes_per_min: int = Field(12_000, ge=20, description="orders and cancels of one user or API key")
    open_orders_per_user: int = Field(
        10_000, ge=1, description="orders of one user that have not ended, most of them limit orders that wait"
    )
    reads_per_min: int = Field(12_000, ge=20, description="other requests of one user or API key")

    # Orders
    slippage_bps: int = Field(50, ge=0, le=10_000, description="slippage of an order that names none")
    order_lifetime_s: int = Field(600, ge=1, le=86_400, description="an order not submitted by then expires")
    attempts_max: int = Field(
        5, ge=1, le=50, description="attempts before an order fails; a limit order's, each time its price is met"
    )
    retry_base_ms: int = Field(500, ge=1, description="first retry delay; doubles, full jitter")
    retry_cap_ms: int = Field(30_000, ge=1, description="longest retry delay")
    split_from_bps: int = Field(
        10, ge=0, le=10_000, description="an order that moves the best price so far is split over venues; 10000: never"
    )
    quote_deadline_ms: int = Field(1_500, ge=1, description="a venue slower than this does not take part")
    poll_ms: int = Field(50, ge=1, description="longest pause between two looks at a sent transaction")

    # The process
    drain_s: float = Field(10, ge=0, description="time to finish what is in hand after SIGTERM")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")
    log_format: Literal["auto", "json", "pretty"] = Field("auto", description="auto: pretty on a terminal")

    # The local chain
    localnet_slot_ms: int = Field(400, ge=0, description="length of a slot; 0: a slot as soon as there is work")
    localnet_seed: int = Field(1, description="seed of prices and of injected trouble")
    localnet_latency_ms: int = Field(0, ge=0, description="added to every answer")
    localnet_drop_rate: float = Field(0, ge=0, le=1, description="share of transactions lost without a trace")
    localnet_revert_rate: float = Field(0, ge=0, le=1, description="share of transactions that fail on chain")
    localnet_outages: str = Field("", description="venues that answer 503, separated by commas")

    @field_validator("redis_url", "database_url")
    @classmethod
    def _known_scheme(cls, value: str, info: ValidationInfo) -> str:
        schemes = ("redis", "rediss", "unix") if info.field_name == "redis_url" else ("postgresql", "postgres")
        if value and urlsplit(value).scheme not in schemes:
            raise ValueError(f"the URL must start with {' or '.join(s + '://' for s in schemes)}")
        who, _, hosts = urlsplit(value).netloc.rpartition("@")
        several = info.field_name == "database_url"
        # The driver of the database takes what is after the first @ for its host.
        if not all(map(_is_host, hosts.split(",") if several else [hosts])) or (several and "@" in who):
            # What was taken for a port may be a piece of the password: it must not be in the text.
            raise ValueError("its host and port cannot be read; in a password / ? # @ are written %2F %3F %23 %40")
        return value

    @field_validator("redis_host")
    @classmethod
    def _host_alone(cls, value: str) -> str:
        try:
            return str(IPv6Address(value)) if ":" in value else value
        except ValueError:
            raise ValueError("it must be a host alone; the port is REDIS_PORT") from None

    @field_validator("data_dir")
    @classmethod
    def _home_found(cls, value: Path) -> Path:
        try:
            return value.expanduser()
        except RuntimeError:
            raise ValueError(f"nobody knows the home folder {value.parts[0]} stands for") from None

    @field_validator("venues")
    @classmethod
    def _named_addresses(cls, value: str) -> str:
        items = [item for item in value.split(",") if item]
        for item in items:
            name, _, url = item.partition("=")
            if not name.strip() or not is_http_address(url.strip()):
                raise ValueError(f"{item!r} is not of the form name=http://address")
        if not items:
            raise ValueError("it names no venue")
        return value

    @field_validator("chain_rpc_url", "notifier_url")
    @classmethod
    def _http_address(cls, value: str) -> str:
        if not is_http_address(value):
            raise ValueError("it is not of the form http://address")
        return value

    def jwt_secrets(self) -> tuple[str, ...]:
        """The one that signs, then those that did."""
        old = self.jwt_secrets_old.get_secret_value().split(",")
        return (self.jwt_secret.get_secret_value(), *filter(None, map(str.strip, old)))

    def redis(self) -> str:
        """The URL to connect to."""
        host = f"[{self.redis_host}]" if ":" in self.redis_host else self.redis_host
        return self.redis_url or f"redis://{host}:{self.redis_port}/0"

    def process_name(self) -> str:
        """CONSUMER, or a name that no other process has."""
        return self.consumer or f"{socket.gethostname()}-{os.getpid()}"

    def origin(self, port: int) -> str:
        """The address of what listens on HOST and this port."""
        host = reachable(self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def venue_urls(self) -> dict[str, str]:
        """Venue name to base URL, in the order given."""
        pairs = (item.partition("=") for item in self.venues.split(",") if item)
        return {name.strip(): url.strip().rstrip("/") for name, _, url in pairs}


def reachable(host: str) -> str:
    """Where this machine connects to what listens on `host`."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked up, not listened on
    return everywhere.get(host, host)


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    return found is not None and int(found["port"] or 0) <= 65_535


def is_http_address(url: str) -> bool:
    """Whether one can connect there."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and _is_host(parts.netloc.rpartition("@")[2])


def load_settings(*required: str, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the environment; what `environ` holds wins over the process's own. An empty value is none.

    Raises:
        ConfigurationError: a value is wrong, or one of `required` (field names) is missing.
    """
    try:
        known = {**os.environ, **(environ or {})}
        given = {name: value for name in Settings.model_fields if (value := known.get(name.upper()))}
        settings = Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper()
        raise ConfigurationError(f"{name} is not usable: {first['msg'].removeprefix('Value error, ')}") from None
    for name in required:
        value = getattr(settings, name)
        if not (value.get_secret_value() if isinstance(value, SecretStr) else value):
            raise ConfigurationError(f"{name.upper()} is not set: {Settings.model_fields[name].description}")
    return settings
