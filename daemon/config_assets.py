"""The settings of files: whether they are copied, and where the copies go."""

from dataclasses import dataclass, field

from daemon.env import Reader, SecretStr
from daemon.site.files import Mode

DEFAULT_MAX_BYTES = 100 * 1024 * 1024
DEFAULT_GRACE_DAYS = 7
BLOB_API_URL = "https://vercel.com/api/blob"
WILL_BREAK = "the files that Notion hosts keep Notion's own links, which die after an hour"
_S3 = ("S3_BUCKET", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")
_S3_MORE = ("S3_ENDPOINT_URL", "S3_PUBLIC_URL", "S3_PREFIX")


@dataclass(frozen=True)
class AssetsSetting:
    """What becomes of the files that Notion hosts. `store`: `local`, `s3` or `blob`."""

    mode: Mode
    store: str = "local"
    max_bytes: int = DEFAULT_MAX_BYTES
    grace_days: int = DEFAULT_GRACE_DAYS
    s3_endpoint_url: str | None = None
    s3_bucket: str = field(default="", repr=False)
    s3_region: str = field(default="us-east-1", repr=False)
    s3_access_key_id: str = field(default="", repr=False)
    s3_secret_access_key: SecretStr | None = None
    s3_public_url: str | None = None
    s3_prefix: str = field(default="", repr=False)
    s3_path_style: bool = True
    blob_token: SecretStr | None = None
    blob_api_url: str = BLOB_API_URL

    @property
    def warning(self) -> str | None:
        """What will break with these settings."""
        if self.mode != "off":
            return None
        return f"ASSETS: is off: {WILL_BREAK}; set PUBLIC_URL, or a bucket, to have them copied"

    def describe(self) -> dict[str, object]:
        """What may be shown."""
        return {
            "mode": self.mode,
            "store": self.store,
            "max_bytes": self.max_bytes,
            "grace_days": self.grace_days,
        }

    @property
    def secrets(self) -> tuple[SecretStr, ...]:
        """What must never be shown."""
        return tuple(each for each in (self.s3_secret_access_key, self.blob_token) if each is not None)


def assets(reader: Reader, public_url: str | None) -> AssetsSetting:
    """The settings of files; by default they are copied wherever the copies could be reached."""
    store = _store(reader)
    default = "mirror" if public_url or store != "local" else "off"
    mode: Mode = reader.choice("ASSETS", default, ("mirror", "proxy", "off"))  # type: ignore[assignment]
    setting = AssetsSetting(
        mode=mode,
        store=store,
        max_bytes=reader.whole("ASSETS_MAX_BYTES", DEFAULT_MAX_BYTES, low=1, high=5 * 1024**3),
        grace_days=reader.whole("ASSETS_GRACE_DAYS", DEFAULT_GRACE_DAYS, low=0, high=365),
        s3_endpoint_url=reader.url("S3_ENDPOINT_URL"),
        s3_bucket=reader.text("S3_BUCKET"),
        s3_region=reader.text("S3_REGION", "auto" if reader.text("S3_ENDPOINT_URL") else "us-east-1"),
        s3_access_key_id=reader.text("S3_ACCESS_KEY_ID"),
        s3_secret_access_key=reader.token("S3_SECRET_ACCESS_KEY"),
        s3_public_url=reader.url("S3_PUBLIC_URL"),
        s3_prefix=_prefix(reader.text("S3_PREFIX")),
        s3_path_style=not reader.flag("S3_VIRTUAL_HOST_STYLE"),
        blob_token=reader.token("BLOB_READ_WRITE_TOKEN"),
        blob_api_url=reader.url("VERCEL_BLOB_API_URL") or BLOB_API_URL,
    )
    _check_reach(reader, setting, public_url)
    return setting


def _store(reader: Reader) -> str:
    given = [name for name in (*_S3, *_S3_MORE) if name in reader.values]
    missing = [name for name in _S3 if name not in reader.values]
    if given and missing:
        right = f"set {', '.join(missing)} too, or remove {', '.join(given)} if no bucket is meant"
        reader.problem(missing[0], f"is not set although {given[0]} is", right)
    if given:
        if "BLOB_READ_WRITE_TOKEN" in reader.values:
            reader.warn("BLOB_READ_WRITE_TOKEN", "is not used: copies of files go to the bucket in S3_BUCKET")
        return "s3"
    return "blob" if "BLOB_READ_WRITE_TOKEN" in reader.values else "local"


def _check_reach(reader: Reader, setting: AssetsSetting, public_url: str | None) -> None:
    """Readers must be able to reach what bundles will name."""
    if public_url is not None or setting.mode == "off":
        return
    right = "set PUBLIC_URL to the address at which readers reach this daemon"
    if setting.mode == "proxy":
        reader.problem("ASSETS", "is proxy, and nobody could reach the daemon", right)
    elif setting.store == "local":
        reader.problem(
            "ASSETS", "is mirror, and nobody could reach the copies", f"{right}, or set up a bucket"
        )
    elif setting.store == "s3" and setting.s3_public_url is None:
        right = f"set it to where readers reach the bucket, or {right}"
        reader.problem("S3_PUBLIC_URL", "is not set, nor is PUBLIC_URL", right)


def _prefix(text: str) -> str:
    bare = text.strip("/")
    return f"{bare}/" if bare else ""
