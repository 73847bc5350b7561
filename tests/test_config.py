"""The settings: where they come from, what is refused, how it is said, and what is never said."""

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from daemon.config import NAMES, SecretStr, Settings, SettingsError, SourceSetting, load_settings

ID = "0123456789abcdef0123456789abcdef"
REF = "01234567-89ab-cdef-0123-456789abcdef"
OTHER_ID = "fedcba98-7654-3210-fedc-ba9876543210"
BASE = {
    "NOTION_TOKEN": "ntn_0123456789abcdefghij",
    "NOTION_PAGES_DB": ID,
    "KV_REST_API_URL": "https://kv.example.com",
    "KV_REST_API_TOKEN": "kv-token-0123456789",
}
ELSEWHERE = {"NOTION_BASE_URL": "http://localhost:9000"}


def load(**changes: str) -> Settings:
    """The settings of a complete environment with `changes`; an empty value removes one."""
    return load_settings(BASE | changes)


def problems(**changes: str) -> tuple[str, ...]:
    """What is wrong with that environment."""
    with pytest.raises(SettingsError) as caught:
        load(**changes)
    return caught.value.problems


def test_defaults_are_the_documented_ones() -> None:
    """With the least environment everything else has its documented default."""
    settings = load()
    assert settings.notion_token.get_secret_value() == BASE["NOTION_TOKEN"]
    assert settings.sources == (SourceSetting("pages", REF),)
    assert (settings.notion_base_url, settings.notion_version) == ("https://api.notion.com", "2026-03-11")
    assert settings.notion_requests_per_minute == 180
    assert (settings.kv.kind, settings.kv.url) == ("upstash", "https://kv.example.com")
    assert (settings.poll_interval_seconds, settings.sweep_interval_seconds) == (15, 900)
    assert (settings.edit_granularity_seconds, settings.settle_slack_seconds) == (60, 10)
    assert (settings.feed_lag_seconds, settings.heartbeat_seconds) == (300, 300)
    assert (settings.host, settings.port, settings.public_url) == ("0.0.0.0", 8080, None)
    assert (settings.data_dir, settings.kv_key_prefix) == (Path("data"), "")
    assert settings.ledger_database_url.get_secret_value() == "sqlite:///data/ledger.db"
    assert dict(settings.revalidate_paths) == {"pages": "/{slug}", "posts": "/blog/{slug}"}
    assert (settings.log_level, settings.log_format) == ("info", "auto")
    assert not settings.force_full_sync and not settings.embedded_kv
    assert settings.full_sync_cron is None and settings.cron_secret is None
    assert settings.is_notion and settings.warnings == ()


BUCKET = {
    "S3_ENDPOINT_URL": "https://s3.example.com",
    "S3_BUCKET": "site",
    "S3_ACCESS_KEY_ID": "key",
    "S3_SECRET_ACCESS_KEY": "s3-secret",
    "S3_PUBLIC_URL": "https://files.example.com",
}

# For every name: an environment around it, and a value that must make a difference.
EFFECTS: dict[str, tuple[dict[str, str], str]] = {
    "NOTION_TOKEN": ({}, "ntn_another"),
    "NOTION_API_KEY": ({"NOTION_TOKEN": ""}, "ntn_another"),
    "NOTION_PAGES_DB": ({}, OTHER_ID),
    "NOTION_POSTS_DB": ({}, OTHER_ID),
    "NOTION_SOURCES": ({}, f"hubs={OTHER_ID}"),
    "NOTION_BASE_URL": ({}, "https://example.com"),
    "NOTION_VERSION": ({}, "2025-09-03"),
    "NOTION_REQUESTS_PER_MINUTE": ({}, "600"),
    "KV_REST_API_URL": ({}, "https://other.example.com"),
    "KV_REST_API_TOKEN": ({}, "another"),
    "UPSTASH_REDIS_REST_URL": (
        {"KV_REST_API_URL": "", "KV_REST_API_TOKEN": "", "UPSTASH_REDIS_REST_TOKEN": "t"},
        "https://a.io",
    ),
    "UPSTASH_REDIS_REST_TOKEN": (
        {"KV_REST_API_URL": "", "KV_REST_API_TOKEN": "", "UPSTASH_REDIS_REST_URL": "https://a.io"},
        "t",
    ),
    "KV_URL": ({"KV_REST_API_URL": "", "KV_REST_API_TOKEN": ""}, "redis://a"),
    "REDIS_URL": ({"KV_REST_API_URL": "", "KV_REST_API_TOKEN": ""}, "redis://a"),
    "EMBEDDED_KV": ({"KV_REST_API_URL": "", "KV_REST_API_TOKEN": ""}, "1"),
    "EMBEDDED_KV_TOKEN": ({}, "a-token-of-good-length"),
    "KV_KEY_PREFIX": ({}, "site:"),
    "LEDGER_DATABASE_URL": ({}, "sqlite:////srv/l.db"),
    "DATA_DIR": ({}, "elsewhere"),
    "POLL_INTERVAL_SECONDS": ({}, "30"),
    "SWEEP_INTERVAL_SECONDS": ({}, "1800"),
    "FULL_SYNC_CRON": ({}, "0 3 * * 0"),
    "PUBLISH_FILTER": ({}, "pages:Status=Published"),
    "PUBLISH_AT": ({}, "pages:Goes live"),
    "EDIT_GRANULARITY_SECONDS": ({}, "120"),
    "SETTLE_SLACK_SECONDS": ({}, "20"),
    "FEED_LAG_SECONDS": ({}, "600"),
    "HEARTBEAT_SECONDS": ({}, "600"),
    "FORCE_FULL_SYNC": ({}, "1"),
    "CRON_SECRET": ({}, "0123456789abcdef"),
    "QSTASH_CURRENT_SIGNING_KEY": ({}, "sig_a"),
    "QSTASH_NEXT_SIGNING_KEY": ({}, "sig_b"),
    "NOTION_WEBHOOK_VERIFICATION_TOKEN": ({}, "secret_abc"),
    "SYNC_FAILURE_WEBHOOK": ({}, "https://hooks.example.com/T0/B1"),
    "REVALIDATE_URL": ({}, "https://site.example.com/api/revalidate"),
    "REVALIDATE_SECRET": ({"REVALIDATE_URL": "https://site.example.com"}, "tell-nobody"),
    "REVALIDATE_PATHS": ({}, "pages=/p/{slug}"),
    "HOST": ({}, "127.0.0.1"),
    "PORT": ({}, "0"),
    "PUBLIC_URL": ({}, "https://sync.example.com"),
    "ASSETS": ({"PUBLIC_URL": "https://sync.example.com"}, "proxy"),
    "ASSETS_MAX_BYTES": ({}, "1000"),
    "ASSETS_GRACE_DAYS": ({}, "30"),
    "S3_ENDPOINT_URL": (BUCKET, "https://other.example.com"),
    "S3_BUCKET": (BUCKET, "another"),
    "S3_REGION": (BUCKET, "eu-west-1"),
    "S3_ACCESS_KEY_ID": (BUCKET, "another"),
    "S3_SECRET_ACCESS_KEY": (BUCKET, "another"),
    "S3_PUBLIC_URL": (BUCKET, "https://other.example.com"),
    "S3_PREFIX": (BUCKET, "site"),
    "S3_VIRTUAL_HOST_STYLE": (BUCKET, "1"),
    "BLOB_READ_WRITE_TOKEN": ({}, "vercel_blob_rw_x_y"),
    "VERCEL_BLOB_API_URL": ({}, "https://blob.example.com"),
    "LOG_LEVEL": ({}, "DEBUG"),
    "LOG_FORMAT": ({}, "json"),
}


def test_every_name_has_an_effect_listed() -> None:
    """The list of names is the list of settings that do something."""
    assert set(EFFECTS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_read(name: str) -> None:
    """Setting a name changes what is loaded, or completes what was missing."""
    around, value = EFFECTS[name]
    with_it = load_settings(BASE | around | {name: value})
    try:
        without_it = load_settings({key: text for key, text in (BASE | around).items() if key != name})
    except SettingsError:
        return
    assert with_it != without_it


def test_database_url_is_never_read() -> None:
    """The site's own database is not the ledger, and other unknown names are ignored too."""
    assert load(DATABASE_URL="postgresql://site/db", SOMETHING_ELSE="x") == load()


def test_settings_are_frozen() -> None:
    """Nobody changes a setting after the start."""
    settings: Any = load()
    with pytest.raises(FrozenInstanceError):
        settings.port = 1
    with pytest.raises(TypeError):
        settings.revalidate_paths["pages"] = "/x"


# --- the file ---


def test_env_file_gives_what_the_environment_leaves_out(tmp_path: Path) -> None:
    """The environment comes first; what it leaves out or empty is taken from the file."""
    file = tmp_path / ".env"
    file.write_text(
        "\ufeff# a comment\nPORT=9000\nexport HOST=\"127.0.0.1\"\nCRON_SECRET='a$b{c}'\nKV_KEY_PREFIX=\n"
    )
    settings = load_settings(BASE | {"PORT": "9001", "HOST": "  "}, file)
    assert (settings.port, settings.host, settings.kv_key_prefix) == (9001, "127.0.0.1", "")
    assert settings.cron_secret == SecretStr("a$b{c}")


def test_missing_env_file_is_no_problem(tmp_path: Path) -> None:
    """Most hosts have no file at all."""
    assert load_settings(BASE, tmp_path / ".env") == load()


def test_broken_env_file_is_told_by_line(tmp_path: Path) -> None:
    """A line that cannot be read is named by its number and not repeated."""
    file = tmp_path / ".env"
    file.write_text("PORT=9000\nNOTION_TOKEN='ntn_never_closed\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(BASE, file)
    assert any(".env: line 2" in problem for problem in caught.value.problems)
    assert "never_closed" not in str(caught.value)


def test_env_file_in_another_encoding_is_told(tmp_path: Path) -> None:
    """A file that is not UTF-8 is one problem, not a crash."""
    file = tmp_path / ".env"
    file.write_bytes("KV_KEY_PREFIX=é\n".encode("utf-16"))
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_settings(BASE, file)


# --- problems ---


def test_empty_environment_lists_what_is_required_at_once() -> None:
    """Nothing set: the token, the sources and the KV are all named, one line each."""
    with pytest.raises(SettingsError) as caught:
        load_settings({})
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "KV_REST_API_URL, KV_REST_API_TOKEN",
        "NOTION_PAGES_DB",
        "NOTION_TOKEN",
    ]
    assert str(caught.value).count("\n") == 2


def test_every_problem_is_listed_at_once() -> None:
    """Several wrong values give several lines, each beginning with its name."""
    found = problems(PORT="x", POLL_INTERVAL_SECONDS="-1", FORCE_FULL_SYNC="maybe", LOG_LEVEL="loud")
    assert sorted(problem.split(":")[0] for problem in found) == [
        "FORCE_FULL_SYNC",
        "LOG_LEVEL",
        "POLL_INTERVAL_SECONDS",
        "PORT",
    ]
    assert all("\n" not in problem for problem in found)


SECRET_LOOKING = "ntn_1234567890SECRETvalue"


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in ("KV_KEY_PREFIX", "HOST", "DATA_DIR")]
)
def test_no_value_is_repeated(name: str) -> None:
    """A secret that landed in any setting is neither in the problems nor in what is shown of the settings."""
    for value in (SECRET_LOOKING, f"https://x:{SECRET_LOOKING}@h:99999/", f"redis://{SECRET_LOOKING} x"):
        try:
            settings = load(**{name: value})
        except SettingsError as error:
            shown = f"{error} {error!r}"
        else:
            shown = f"{settings!r} {settings} {settings.describe()} {settings.warnings}"
        assert "SECRETvalue" not in shown


def test_commands_need_only_their_part() -> None:
    """What a command does not use may be missing, but not wrong."""
    settings = load_settings({}, need=())
    assert (settings.kv.kind, settings.sources, bool(settings.notion_token)) == ("none", (), False)
    kv_only = {name: value for name, value in BASE.items() if name.startswith("KV_")}
    assert load_settings(kv_only, need=["kv"]).kv.kind == "upstash"
    with pytest.raises(SettingsError, match="NOTION_PAGES_DB"):
        load_settings({"NOTION_PAGES_DB": "x"}, need=())


# --- Notion ---


def test_token_has_two_names() -> None:
    """NOTION_TOKEN comes first, NOTION_API_KEY will do."""
    assert load(NOTION_TOKEN="", NOTION_API_KEY="ntn_b").notion_token == SecretStr("ntn_b")
    assert load(NOTION_API_KEY="ntn_b").notion_token == SecretStr(BASE["NOTION_TOKEN"])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("https://api.notion.com", "looks like an address"),
        ("ntn_abc def", "blanks"),
        ("ntn_a\u00e9", "header"),
    ],
)
def test_token_that_is_none_is_refused(value: str, words: str) -> None:
    """An address, two words or characters that no header carries are no token."""
    (problem,) = problems(NOTION_TOKEN=value)
    assert problem.startswith("NOTION_TOKEN:") and words in problem and value not in problem


@pytest.mark.parametrize(
    "reference",
    [
        ID,
        REF.upper(),
        f"https://www.notion.so/team/Pages-{ID}?v=ffffffffffffffffffffffffffffffff",
        f"https://www.notion.so/{ID}",
    ],
)
def test_source_is_an_id_or_an_address(reference: str) -> None:
    """Ids with and without dashes and addresses all give the id of the path."""
    assert load(NOTION_PAGES_DB=reference).sources == (SourceSetting("pages", REF),)


def test_sources_keep_their_order() -> None:
    """Pages, posts, then the further ones as they are listed."""
    more = f" hubs={OTHER_ID} , my-Docs2 = https://www.notion.so/x-{ID[::-1]}?v={ID},"
    names = [source.name for source in load(NOTION_POSTS_DB=f"{OTHER_ID[:-1]}1", NOTION_SOURCES=more).sources]
    assert names == ["pages", "posts", "hubs", "my-Docs2"]


def test_further_sources_are_enough() -> None:
    """One source of any kind will do."""
    settings = load(NOTION_PAGES_DB="", NOTION_SOURCES=f"docs={ID}")
    assert settings.sources == (SourceSetting("docs", REF),)


@pytest.mark.parametrize(
    "name",
    ["page", "pages", "post", "posts", "db", "sync", "all", "children", "trigger", "worker", "jobs"],
)
def test_reserved_source_names_are_refused(name: str) -> None:
    """Names that keys or endpoints already have cannot be a source's."""
    (problem,) = problems(NOTION_SOURCES=f"{name}={OTHER_ID}")
    assert problem.startswith("NOTION_SOURCES: entry 1") and name in problem


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (OTHER_ID, "usable name"),
        (OTHER_ID.replace("-", ""), "usable name"),
        (f"my docs={OTHER_ID}", "usable name"),
        (f"my_docs={OTHER_ID}", "usable name"),
        (f"={OTHER_ID}", "usable name"),
        (f"https://www.notion.so/x?v={OTHER_ID}", "usable name"),
        ("docs=", "no Notion id"),
        ("docs=https://www.notion.so/?v=0123456789abcdef0123456789abcdef", "no Notion id"),
        (f"docs={OTHER_ID},docs={ID}", "earlier"),
    ],
)
def test_further_sources_are_checked(value: str, words: str) -> None:
    """A missing or unusable name, a missing id and a repeated name are each told."""
    (problem,) = problems(NOTION_SOURCES=value)
    assert problem.startswith("NOTION_SOURCES:") and words in problem


def test_same_source_twice_is_a_warning() -> None:
    """One database under two names works, but is probably not meant."""
    (warning,) = load(NOTION_POSTS_DB=ID).warnings
    assert warning.startswith("NOTION_POSTS_DB: ") and "pages, posts" in warning


def test_swapped_values_are_recognised() -> None:
    """A secret where an id belongs gets a hint, without being printed."""
    (problem,) = problems(NOTION_PAGES_DB="ntn_123456789012345")
    assert "NOTION_TOKEN" in problem and "ntn_" not in problem


@pytest.mark.parametrize(
    ("given", "used", "is_notion"),
    [
        ("https://api.notion.com/", "https://api.notion.com", True),
        ("https://api.notion.com/v1/", "https://api.notion.com", True),
        ("https://API.Notion.com.", "https://API.Notion.com.", True),
        ("http://localhost:9000", "http://localhost:9000", False),
        ("https://notion.com.example.org", "https://notion.com.example.org", False),
        ("https://proxy.example.org/notion", "https://proxy.example.org/notion", False),
    ],
)
def test_base_url(given: str, used: str, is_notion: bool) -> None:
    """The address is taken without `/v1`, and only Notion's own hosts count as Notion."""
    settings = load(NOTION_BASE_URL=given)
    assert (settings.notion_base_url, settings.is_notion) == (used, is_notion)


@pytest.mark.parametrize(
    "value",
    [
        "http://api.notion.com",
        "api.notion.com",
        "ftp://h",
        "https://",
        "https://h:0",
        "https://h:99999",
        "https://a b",
        "https://u:p@h",
        "https://h/?q=1",
    ],
)
def test_base_url_that_is_none_is_refused(value: str) -> None:
    """Plain http to Notion, other schemes, missing hosts and wrong ports are problems."""
    (problem,) = problems(NOTION_BASE_URL=value)
    assert problem.startswith("NOTION_BASE_URL:")


@pytest.mark.parametrize(
    "value", ["2025-09-02", "2022-06-28", "20260311", "2026-3-11", "2026-13-01", "latest"]
)
def test_old_notion_versions_are_refused(value: str) -> None:
    """Versions before data sources, and what is no date, are refused."""
    assert "2025-09-03" in problems(NOTION_VERSION=value)[0]


@pytest.mark.parametrize("value", ["2025-09-03", "2026-03-11", "2027-01-01"])
def test_notion_versions_with_data_sources_work(value: str) -> None:
    """Any later version is taken."""
    assert load(NOTION_VERSION=value).notion_version == value


# --- numbers ---


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "1_000", "1e3", "²", "٣", "+5", "many", "9999999999"])
def test_budget_is_a_positive_whole_number(value: str) -> None:
    """What Python would read as a number by courtesy is refused as well."""
    assert problems(NOTION_REQUESTS_PER_MINUTE=value)[0].startswith("NOTION_REQUESTS_PER_MINUTE:")


@pytest.mark.parametrize(("value", "valid"), [("0", True), ("65535", True), ("65536", False), ("-1", False)])
def test_port_range(value: str, valid: bool) -> None:
    """0 lets the system choose; beyond 65535 there is nothing."""
    if valid:
        assert load(PORT=value).port == int(value)
    else:
        assert problems(PORT=value)[0].startswith("PORT:")


LEAST = {
    "EDIT_GRANULARITY_SECONDS": 60,
    "SETTLE_SLACK_SECONDS": 10,
    "FEED_LAG_SECONDS": 300,
    "HEARTBEAT_SECONDS": 300,
}


@pytest.mark.parametrize("name", LEAST)
def test_notion_bounds_its_own_times(name: str) -> None:
    """Against Notion a smaller value is refused with the reason; the default and larger values work."""
    (problem,) = problems(**{name: str(LEAST[name] - 0.5)})
    assert problem.startswith(f"{name}: is {LEAST[name] - 0.5:g}") and "NOTION_BASE_URL" in problem
    for value in (LEAST[name], LEAST[name] + 0.5):
        assert getattr(load(**{name: str(value)}), name.lower()) == value


@pytest.mark.parametrize("name", LEAST)
def test_elsewhere_times_may_be_small(name: str) -> None:
    """Against anything else fractions of a second are fine."""
    assert getattr(load(**ELSEWHERE, **{name: "0.25"}), name.lower()) == 0.25


def test_zero_seconds_where_it_means_something() -> None:
    """A stamp can be exact and a listing prompt; a heartbeat and an interval cannot be zero."""
    for name in ("EDIT_GRANULARITY_SECONDS", "SETTLE_SLACK_SECONDS", "FEED_LAG_SECONDS"):
        assert getattr(load(**ELSEWHERE, **{name: "0"}), name.lower()) == 0
    for name in ("HEARTBEAT_SECONDS", "POLL_INTERVAL_SECONDS", "SWEEP_INTERVAL_SECONDS"):
        assert problems(**ELSEWHERE, **{name: "0"})[0].startswith(f"{name}:")


@pytest.mark.parametrize("name", ["POLL_INTERVAL_SECONDS", "SWEEP_INTERVAL_SECONDS"])
def test_intervals_have_a_sensible_minimum(name: str) -> None:
    """At least a second against Notion, anything above zero elsewhere; a year at most."""
    assert problems(**{name: "0.5"})[0].startswith(f"{name}:")
    assert getattr(load(**ELSEWHERE, **{name: "0.05"}), name.lower()) == 0.05
    for value in ("inf", "nan", "1e9", "99999999"):
        assert problems(**{name: value})[0].startswith(f"{name}:")


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        *((word, True) for word in ("1", "TRUE", "Yes", "on")),
        *((word, False) for word in ("0", "false", "NO", "off", "")),
    ],
)
def test_yes_and_no(word: str, meaning: bool) -> None:
    """Four ways to say each, in any case; empty is no."""
    assert load(FORCE_FULL_SYNC=word).force_full_sync is meaning


# --- the KV ---

NO_KV = {"KV_REST_API_URL": "", "KV_REST_API_TOKEN": ""}
FIRST = {"KV_REST_API_URL": "https://first.io", "KV_REST_API_TOKEN": "a"}
SECOND = {"UPSTASH_REDIS_REST_URL": "https://second.io", "UPSTASH_REDIS_REST_TOKEN": "b"}
REDIS = {"KV_URL": "rediss://third:6379", "REDIS_URL": "redis://fourth:6379"}


@pytest.mark.parametrize(
    ("changes", "kind", "url"),
    [
        (FIRST | SECOND | REDIS, "upstash", "https://first.io"),
        (NO_KV | SECOND | REDIS, "upstash", "https://second.io"),
        (FIRST | {"UPSTASH_REDIS_REST_URL": "https://half.io"}, "upstash", "https://first.io"),
        (NO_KV | REDIS, "redis", "rediss://third:6379"),
        (NO_KV | {"REDIS_URL": REDIS["REDIS_URL"]}, "redis", "redis://fourth:6379"),
        (NO_KV | {"EMBEDDED_KV": "1"}, "embedded", ""),
    ],
)
def test_first_complete_kv_wins_silently(changes: dict[str, str], kind: str, url: str) -> None:
    """Platforms set several names at once: the first complete one in the documented order is used."""
    settings = load(**changes)
    assert (settings.kv.kind, settings.kv.url, settings.warnings) == (kind, url, ())
    assert settings.embedded_kv is (kind == "embedded")


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"KV_REST_API_TOKEN": ""}, "KV_REST_API_TOKEN"),
        ({"KV_REST_API_URL": ""}, "KV_REST_API_URL"),
        ({"KV_REST_API_TOKEN": ""} | SECOND, "KV_REST_API_TOKEN"),
        (NO_KV | {"UPSTASH_REDIS_REST_URL": "https://a.io"} | REDIS, "UPSTASH_REDIS_REST_TOKEN"),
    ],
)
def test_half_a_pair_is_an_error(changes: dict[str, str], missing: str) -> None:
    """An incomplete pair with no complete one before it is told, by the name that is missing."""
    (problem,) = problems(**changes)
    assert problem.startswith(f"{missing}: is not set although")


def test_no_kv_at_all_is_an_error() -> None:
    """Without any KV the way out is named, the embedded one included."""
    (problem,) = problems(**NO_KV)
    assert "EMBEDDED_KV=1" in problem and "KV_URL" in problem


def test_embedded_kv_wins_with_a_warning() -> None:
    """Asked for explicitly, the embedded store is used even where the site's own names are set."""
    settings = load(EMBEDDED_KV="yes", KV_REST_API_TOKEN="")
    assert settings.kv.kind == "embedded"
    assert settings.warnings == ("EMBEDDED_KV: is on, so KV_REST_API_URL are not used",)


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"KV_REST_API_URL": "redis://h:6379"}, "KV_REST_API_URL", "KV_URL"),
        ({"KV_REST_API_URL": "kv.example.com"}, "KV_REST_API_URL", "http"),
        ({"KV_REST_API_TOKEN": "https://h"}, "KV_REST_API_TOKEN", "swapped"),
        (NO_KV | {"KV_URL": "https://h"}, "KV_URL", "KV_REST_API_URL"),
        (NO_KV | {"REDIS_URL": "h:6379"}, "REDIS_URL", "redis://"),
        (NO_KV | {"REDIS_URL": "redis://:pass/word@h"}, "REDIS_URL", "%XX"),
    ],
)
def test_kv_addresses_are_checked(changes: dict[str, str], name: str, words: str) -> None:
    """An address of the wrong kind is told together with the setting it belongs to."""
    (problem,) = problems(**changes)
    assert problem.startswith(f"{name}:") and words in problem


def test_kv_url_loses_its_last_slash() -> None:
    """A slash at the end of the REST address would break the client."""
    assert load(KV_REST_API_URL="https://kv.example.com/").kv.url == "https://kv.example.com"


# --- files, platform ---


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgres://u:p@h/db", "postgresql+psycopg://u:p@h/db"),
        ("postgresql://u:p@h:5432/db?sslmode=require", "postgresql+psycopg://u:p@h:5432/db?sslmode=require"),
        ("postgresql+psycopg://h/db", "postgresql+psycopg://h/db"),
        ("sqlite:////srv/ledger.db", "sqlite:////srv/ledger.db"),
    ],
)
def test_ledger_address(given: str, used: str) -> None:
    """PostgreSQL's usual spellings become the driver's; a file is taken as it is."""
    assert load(LEDGER_DATABASE_URL=given).ledger_database_url.get_secret_value() == used


@pytest.mark.parametrize(
    "value",
    [
        "mysql://h/db",
        "ledger.db",
        "postgres://h",
        "postgres://h/",
        "postgres://u:p/w@h/db",
        "postgresql://[::1/db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:ledger.db",
    ],
)
def test_ledger_address_that_is_none_is_refused(value: str) -> None:
    """Other databases, missing names and a ledger that would be forgotten are refused."""
    assert problems(LEDGER_DATABASE_URL=value)[0].startswith("LEDGER_DATABASE_URL:")


def test_data_dir_follows_the_volume(tmp_path: Path) -> None:
    """The setting comes first, then Railway's volume."""
    volume = {"RAILWAY_PROJECT_ID": "x", "RAILWAY_VOLUME_MOUNT_PATH": str(tmp_path)}
    settings = load(**volume)
    assert (settings.data_dir, settings.warnings) == (tmp_path, ())
    assert settings.ledger_database_url.get_secret_value() == f"sqlite:///{tmp_path}/ledger.db"
    assert load(**volume, DATA_DIR=str(tmp_path / "sub")).warnings == ()
    assert "outside the volume" in load(**volume, DATA_DIR="elsewhere").warnings[0]


@pytest.mark.parametrize("name", ["RAILWAY_ENVIRONMENT", "RAILWAY_PROJECT_ID"])
def test_railway_without_a_volume_is_a_warning(name: str) -> None:
    """Every deploy would start from nothing, unless nothing is kept in files."""
    (warning,) = load(**{name: "production"}).warnings
    assert warning.startswith("DATA_DIR:") and "first sync" in warning
    assert load(**{name: "production"}, LEDGER_DATABASE_URL="postgres://h/db").warnings == ()


def test_data_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """A file cannot hold the ledger."""
    file = tmp_path / "data"
    file.write_text("x")
    assert problems(DATA_DIR=str(file))[0].startswith("DATA_DIR:")


def test_public_url_follows_the_platform() -> None:
    """Railway's domain is used unless something else is said."""
    assert load(RAILWAY_PUBLIC_DOMAIN="x.up.railway.app").public_url == "https://x.up.railway.app"
    assert load(RAILWAY_PUBLIC_DOMAIN="x", PUBLIC_URL="https://y.com/").public_url == "https://y.com"
    assert problems(PUBLIC_URL="y.com")[0].startswith("PUBLIC_URL:")


# --- secrets and the site ---


def test_short_secrets_are_a_warning() -> None:
    """Fifteen characters may be guessed; sixteen are accepted in silence."""
    assert load(CRON_SECRET="x" * 16).warnings == ()
    (warning,) = load(CRON_SECRET="short-secret").warnings
    assert warning.startswith("CRON_SECRET:") and "short-secret" not in warning


def test_one_signing_key_is_a_warning() -> None:
    """With one key only, calls signed with the other are refused: said at start."""
    assert load(QSTASH_CURRENT_SIGNING_KEY="sig_a").warnings[0].startswith("QSTASH_NEXT_SIGNING_KEY:")
    assert load(QSTASH_CURRENT_SIGNING_KEY="sig_a", QSTASH_NEXT_SIGNING_KEY="sig_b").warnings == ()


def test_failure_webhook_is_kept_to_the_letter_and_secret() -> None:
    """Chat systems put the secret into the address itself."""
    settings = load(SYNC_FAILURE_WEBHOOK="https://hooks.example.com/T0/B1/?x=1/")
    assert settings.sync_failure_webhook == SecretStr("https://hooks.example.com/T0/B1/?x=1/")
    assert "hooks.example.com" not in f"{settings!r}{settings.describe()}"
    assert problems(SYNC_FAILURE_WEBHOOK="hooks.example.com")[0].startswith("SYNC_FAILURE_WEBHOOK:")


def test_revalidate_paths() -> None:
    """Each source may have a path of its own; what is set replaces the default."""
    more = {"NOTION_SOURCES": f"hubs={OTHER_ID}"}
    settings = load(**more, REVALIDATE_PATHS="hubs=/h/{slug}/x, pages=/")
    assert dict(settings.revalidate_paths) == {"hubs": "/h/{slug}/x", "pages": "/"}
    for value in ("docs=/{slug}", "pages=blog/{slug}", "pages=/{id}", "pages", "pages=/a,pages=/b"):
        assert problems(**more, REVALIDATE_PATHS=value)[0].startswith("REVALIDATE_PATHS:")


@pytest.mark.parametrize("value", ["* * * *", "@daily", "61 * * * *", "0 0 31 2 *"])
def test_cron_is_checked_at_start(value: str) -> None:
    """An expression that cannot be followed is told at start, not at the hour it was meant for."""
    assert problems(FULL_SYNC_CRON=value)[0].startswith("FULL_SYNC_CRON: cannot be followed")


def test_nothing_secret_is_shown() -> None:
    """Neither the text forms nor the description of the settings hold a secret; the log's list holds all."""
    secrets = {
        "NOTION_TOKEN": "ntn_secret_one",
        "CRON_SECRET": "cron-secret-two-long",
        "QSTASH_CURRENT_SIGNING_KEY": "sig_three",
        "QSTASH_NEXT_SIGNING_KEY": "sig_four",
        "NOTION_WEBHOOK_VERIFICATION_TOKEN": "secret_five",
        "REVALIDATE_SECRET": "tell-six",
        "EMBEDDED_KV_TOKEN": "token-seven-is-long",
        "KV_REST_API_TOKEN": "kv-eight",
    }
    more = {
        "LEDGER_DATABASE_URL": "postgresql://u:led%21nine@h/db",
        "REVALIDATE_URL": "https://u:site-ten@site.example.com/r?secret=eleven",
    }
    settings = load(**secrets, **more)
    shown = f"{settings} {settings!r} {settings.kv!r} {settings.describe()}"
    hidden = (*secrets.values(), "led%21nine", "led!nine", "site-ten")
    assert not [secret for secret in (*hidden, "eleven") if secret in shown]
    assert set(hidden) <= set(settings.secret_values())
    redis = load(**NO_KV, KV_URL="redis://u:twelve@h:6379/0")
    assert "twelve" not in f"{redis!r}{redis.describe()}" and "twelve" in redis.secret_values()


def test_secret_text_hides_itself() -> None:
    """A secret shows asterisks wherever it is printed and compares by value."""
    secret = SecretStr("open sesame")
    assert f"{secret} {secret!r} {[secret]}".count("sesame") == 0
    assert secret == SecretStr("open sesame") != SecretStr("other")
    assert bool(secret) and not SecretStr("") and len({secret, SecretStr("open sesame")}) == 1


# --- files ---


@pytest.mark.parametrize(
    ("changes", "mode", "store"),
    [
        ({}, "off", "local"),
        ({"PUBLIC_URL": "https://sync.example.com"}, "mirror", "local"),
        ({"RAILWAY_PUBLIC_DOMAIN": "sync.example.com"}, "mirror", "local"),
        (BUCKET, "mirror", "s3"),
        ({"BLOB_READ_WRITE_TOKEN": "vercel_blob_rw_x_y"}, "mirror", "blob"),
        ({"PUBLIC_URL": "https://sync.example.com", "ASSETS": "Proxy"}, "proxy", "local"),
        ({**BUCKET, "ASSETS": "off"}, "off", "s3"),
        ({**BUCKET, "BLOB_READ_WRITE_TOKEN": "vercel_blob_rw_x_y"}, "mirror", "s3"),
    ],
)
def test_files_are_copied_wherever_the_copies_can_be_reached(
    changes: dict[str, str], mode: str, store: str
) -> None:
    """The default of ASSETS follows from what else is set; off says what will break."""
    settings = load(**changes)
    assert (settings.assets.mode, settings.assets.store) == (mode, store)
    assert any("die after an hour" in line for line in settings.all_warnings) == (mode == "off")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"ASSETS": "mirror"}, "ASSETS"),
        ({"ASSETS": "proxy"}, "ASSETS"),
        ({"ASSETS": "copy"}, "ASSETS"),
        ({**BUCKET, "ASSETS": "proxy"}, "ASSETS"),
        ({**BUCKET, "S3_PUBLIC_URL": ""}, "S3_PUBLIC_URL"),
        ({**BUCKET, "S3_SECRET_ACCESS_KEY": ""}, "S3_SECRET_ACCESS_KEY"),
        ({"S3_ENDPOINT_URL": "https://s3.example.com"}, "S3_BUCKET"),
        ({"ASSETS_MAX_BYTES": "0"}, "ASSETS_MAX_BYTES"),
        ({**BUCKET, "S3_ENDPOINT_URL": "s3.example.com"}, "S3_ENDPOINT_URL"),
    ],
)
def test_copies_that_nobody_could_reach(changes: dict[str, str], name: str) -> None:
    """One line says which setting is missing; no secret is in it."""
    found = problems(**changes)
    assert any(line.startswith(f"{name}:") for line in found)
    assert "s3-secret" not in "\n".join(found)


def test_secrets_of_stores_are_not_shown() -> None:
    """They are known to the log as secrets, and neither `repr` nor `describe` has them."""
    settings = load(**BUCKET, BLOB_READ_WRITE_TOKEN="vercel_blob_rw_x_y")
    shown = repr(settings) + repr(settings.describe())
    for secret in ("s3-secret", "vercel_blob_rw_x_y"):
        assert secret in settings.secret_values() and secret not in shown


@pytest.mark.parametrize("value", ["http://localhost", "300.1.1.1", "a b", "127.0.0.1:80", "-x"])
def test_host_that_is_no_address(value: str) -> None:
    """Said before anything starts: a daemon that cannot listen would have written to the store by then."""
    (problem,) = problems(HOST=value)
    assert problem.startswith("HOST: is not an address; write ")


@pytest.mark.parametrize("value", ["::", "::1", "127.0.0.1", "localhost", "box-1.internal"])
def test_host_that_is_one(value: str) -> None:
    """Addresses of both families, and names."""
    assert load(HOST=value).host == value


@pytest.mark.parametrize("mark", ['"', "'"])
def test_quotation_marks_around_a_value_are_not_part_of_it(mark: str) -> None:
    """`docker run --env-file` hands them on. Fails when they stay: the token would only be refused by Notion."""
    settings = load(NOTION_TOKEN=f"{mark}ntn_quoted{mark}", KV_REST_API_TOKEN=f"not-closed{mark}")
    assert settings.notion_token.get_secret_value() == "ntn_quoted"
    assert settings.kv.token is not None and settings.kv.token.get_secret_value() == f"not-closed{mark}"
