"""The settings: read once from the environment and a `.env` file, checked as a whole, frozen and handed down.

All problems are found at once. Each is one line: the name, what is wrong, what would be right.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from daemon import config_rules as rules
from daemon.config_assets import AssetsSetting, assets
from daemon.config_publishing import publish_rules
from daemon.config_rules import KvSetting, SourceSetting
from daemon.env import Reader, SecretStr, bare_url, merged, password_in, read_env_file
from daemon.site.rules import Rule

__all__ = [
    "ENV_FILE",
    "NAMES",
    "PLATFORM_NAMES",
    "KvSetting",
    "SecretStr",
    "Settings",
    "SettingsError",
    "SourceSetting",
    "examine_settings",
    "load_settings",
]

ENV_FILE = Path(".env")
"""The file beside the process that is read when the environment does not say."""

NAMES = (
    "NOTION_TOKEN",
    "NOTION_API_KEY",
    "NOTION_PAGES_DB",
    "NOTION_POSTS_DB",
    "NOTION_SOURCES",
    "NOTION_BASE_URL",
    "NOTION_VERSION",
    "NOTION_REQUESTS_PER_MINUTE",
    "KV_REST_API_URL",
    "KV_REST_API_TOKEN",
    "UPSTASH_REDIS_REST_URL",
    "UPSTASH_REDIS_REST_TOKEN",
    "KV_URL",
    "REDIS_URL",
    "EMBEDDED_KV",
    "EMBEDDED_KV_TOKEN",
    "KV_KEY_PREFIX",
    "LEDGER_DATABASE_URL",
    "DATA_DIR",
    "POLL_INTERVAL_SECONDS",
    "SWEEP_INTERVAL_SECONDS",
    "FULL_SYNC_CRON",
    "PUBLISH_FILTER",
    "PUBLISH_AT",
    "EDIT_GRANULARITY_SECONDS",
    "SETTLE_SLACK_SECONDS",
    "FEED_LAG_SECONDS",
    "HEARTBEAT_SECONDS",
    "FORCE_FULL_SYNC",
    "CRON_SECRET",
    "QSTASH_CURRENT_SIGNING_KEY",
    "QSTASH_NEXT_SIGNING_KEY",
    "NOTION_WEBHOOK_VERIFICATION_TOKEN",
    "SYNC_FAILURE_WEBHOOK",
    "REVALIDATE_URL",
    "REVALIDATE_SECRET",
    "REVALIDATE_PATHS",
    "HOST",
    "PORT",
    "PUBLIC_URL",
    "ASSETS",
    "ASSETS_MAX_BYTES",
    "ASSETS_GRACE_DAYS",
    "S3_ENDPOINT_URL",
    "S3_BUCKET",
    "S3_REGION",
    "S3_ACCESS_KEY_ID",
    "S3_SECRET_ACCESS_KEY",
    "S3_PUBLIC_URL",
    "S3_PREFIX",
    "S3_VIRTUAL_HOST_STYLE",
    "BLOB_READ_WRITE_TOKEN",
    "VERCEL_BLOB_API_URL",
    "LOG_LEVEL",
    "LOG_FORMAT",
)
"""Every setting. `DATABASE_URL` is none of them: on many hosts it is the site's own database."""

PLATFORM_NAMES = (
    "RAILWAY_ENVIRONMENT",
    "RAILWAY_PROJECT_ID",
    "RAILWAY_PUBLIC_DOMAIN",
    "RAILWAY_VOLUME_MOUNT_PATH",
)
"""What the hosting platform tells by itself."""


class SettingsError(Exception):
    """The settings are wrong or incomplete. `problems`: one line each, none with a secret in it."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Settings:
    """Everything the daemon was told, valid as a whole. Times in seconds; None where nothing was said."""

    notion_token: SecretStr
    sources: tuple[SourceSetting, ...]
    notion_base_url: str
    notion_version: str
    notion_requests_per_minute: int
    kv: KvSetting
    kv_key_prefix: str
    embedded_kv: bool
    embedded_kv_token: SecretStr | None
    ledger_database_url: SecretStr
    data_dir: Path
    poll_interval_seconds: float
    sweep_interval_seconds: float
    full_sync_cron: str | None
    publish_rules: Mapping[str, Rule]
    edit_granularity_seconds: float
    settle_slack_seconds: float
    feed_lag_seconds: float
    heartbeat_seconds: float
    force_full_sync: bool
    cron_secret: SecretStr | None
    qstash_current_signing_key: SecretStr | None
    qstash_next_signing_key: SecretStr | None
    notion_webhook_verification_token: SecretStr | None
    sync_failure_webhook: SecretStr | None
    revalidate_url: str | None = field(repr=False)
    revalidate_secret: SecretStr | None
    revalidate_paths: Mapping[str, str]
    host: str
    port: int
    public_url: str | None
    assets: AssetsSetting
    log_level: str
    log_format: str
    warnings: tuple[str, ...]

    @property
    def is_notion(self) -> bool:
        """Whether the API is Notion's own, with its coarse stamps and late listings."""
        return rules.is_notion(self.notion_base_url)

    @property
    def all_warnings(self) -> tuple[str, ...]:
        """What works but is probably not meant, and what will break although nothing is wrong."""
        return self.warnings + ((self.assets.warning,) if self.assets.warning else ())

    def describe(self) -> dict[str, object]:
        """Every field, to be shown: of secrets only whether they are set, addresses without passwords."""
        shown: dict[str, object] = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, value in shown.items():
            if isinstance(value, SecretStr):
                shown[name] = "set" if value else None
        return shown | {
            "sources": {source.name: source.ref for source in self.sources},
            "kv": {"kind": self.kv.kind, "url": bare_url(self.kv.url), "origin": self.kv.origin},
            "ledger_database_url": bare_url(self.ledger_database_url.get_secret_value()),
            "data_dir": str(self.data_dir),
            "publish_rules": {name: rule.as_json() for name, rule in self.publish_rules.items()},
            "revalidate_url": bare_url(self.revalidate_url),
            "revalidate_paths": dict(self.revalidate_paths),
            "assets": self.assets.describe(),
            "warnings": list(self.warnings),
        }

    def secret_values(self) -> tuple[str, ...]:
        """Every text that must never be shown, passwords inside addresses included (for the log)."""
        ledger = self.ledger_database_url.get_secret_value()
        held = [getattr(self, each.name) for each in fields(self) if each.name != "ledger_database_url"]
        held += self.assets.secrets
        texts = [value.get_secret_value() for value in (*held, self.kv.token) if isinstance(value, SecretStr)]
        for address in (self.kv.url, ledger, self.revalidate_url or ""):
            password = password_in(address)
            texts += [password, unquote(password)]
        return tuple(dict.fromkeys(text for text in texts if text))


def load_settings(
    environ: Mapping[str, str],
    env_file: Path | None = None,
    *,
    need: Collection[Literal["notion", "kv"]] = ("notion", "kv"),
) -> Settings:
    """Read and check every setting; what the environment leaves out or empty is looked up in `env_file`.

    `need`: what the caller cannot do without; the rest may be missing, but what is there must be right.
    Raises `SettingsError` with every problem.
    """
    settings, problems = examine_settings(environ, env_file, need=need)
    if problems:
        raise SettingsError(problems)
    return settings


def examine_settings(
    environ: Mapping[str, str],
    env_file: Path | None = None,
    *,
    need: Collection[Literal["notion", "kv"]] = ("notion", "kv"),
) -> tuple[Settings, tuple[str, ...]]:
    """As `load_settings`, but never refusing: the settings and every problem, one line each.

    What is wrong has a harmless stand-in, so that the rest can still be looked at. Each line begins with the
    name or names of the settings it is about.
    """
    from_file, problems = read_env_file(env_file)
    reader = Reader(merged((*NAMES, *PLATFORM_NAMES), environ, from_file), problems)
    settings = _settings(reader, need)
    return settings, tuple(reader.problems)


def _settings(reader: Reader, need: Collection[str]) -> Settings:
    base_url = rules.base_url(reader)
    ours = not rules.is_notion(base_url)
    data_dir = rules.data_dir(reader)
    kv = rules.kv(reader, needed="kv" in need)
    sources = rules.sources(reader, needed="notion" in need)
    ledger_url = rules.ledger_url(reader, data_dir)
    rules.check_secrets(reader)
    public_url = rules.public_url(reader)
    if kv.kind == "embedded" or ledger_url.startswith("sqlite"):
        rules.check_volume(reader, data_dir)
    return Settings(
        notion_token=rules.notion_token(reader, needed="notion" in need),
        sources=sources,
        notion_base_url=base_url,
        notion_version=rules.notion_version(reader),
        notion_requests_per_minute=reader.whole("NOTION_REQUESTS_PER_MINUTE", 180, low=1, high=1_000_000),
        kv=kv,
        kv_key_prefix=reader.text("KV_KEY_PREFIX"),
        embedded_kv=kv.kind == "embedded",
        embedded_kv_token=reader.token("EMBEDDED_KV_TOKEN"),
        ledger_database_url=SecretStr(ledger_url),
        data_dir=data_dir,
        poll_interval_seconds=reader.seconds("POLL_INTERVAL_SECONDS", 15, low=0 if ours else 1),
        sweep_interval_seconds=reader.seconds("SWEEP_INTERVAL_SECONDS", 900, low=0 if ours else 1),
        full_sync_cron=rules.cron(reader),
        publish_rules=publish_rules(reader, sources),
        edit_granularity_seconds=rules.notion_time(reader, "EDIT_GRANULARITY_SECONDS", 60, ours=ours),
        settle_slack_seconds=rules.notion_time(reader, "SETTLE_SLACK_SECONDS", 10, ours=ours),
        feed_lag_seconds=rules.notion_time(reader, "FEED_LAG_SECONDS", 300, ours=ours),
        heartbeat_seconds=rules.notion_time(reader, "HEARTBEAT_SECONDS", 300, ours=ours, zero=False),
        force_full_sync=reader.flag("FORCE_FULL_SYNC"),
        cron_secret=reader.secret("CRON_SECRET"),
        qstash_current_signing_key=reader.token("QSTASH_CURRENT_SIGNING_KEY"),
        qstash_next_signing_key=reader.token("QSTASH_NEXT_SIGNING_KEY"),
        notion_webhook_verification_token=reader.token("NOTION_WEBHOOK_VERIFICATION_TOKEN"),
        sync_failure_webhook=rules.secret_url(reader, "SYNC_FAILURE_WEBHOOK"),
        revalidate_url=reader.url("REVALIDATE_URL", plain=False),
        revalidate_secret=reader.secret("REVALIDATE_SECRET"),
        revalidate_paths=rules.revalidate_paths(reader, sources),
        host=rules.host(reader),
        port=reader.whole("PORT", 8080, low=0, high=65_535),
        public_url=public_url,
        assets=assets(reader, public_url),
        log_level=reader.choice("LOG_LEVEL", "info", ("debug", "info", "warning", "error", "critical")),
        log_format=reader.choice("LOG_FORMAT", "auto", ("auto", "json", "console")),
        warnings=tuple(reader.warnings),
    )
