"""The token under which the embedded store is read at `/kv`."""

import secrets

from daemon.config import Settings

TOKEN_FILE = "kv-token"


def known_token(settings: Settings) -> str | None:
    """The setting, else the one in the data folder; None while none has been made. Raises OSError."""
    if settings.embedded_kv_token is not None:
        return settings.embedded_kv_token.get_secret_value()
    file = settings.data_dir / TOKEN_FILE
    return (file.read_text(encoding="ascii").strip() or None) if file.exists() else None


def embedded_kv_token(settings: Settings) -> str:
    """The setting, else one made once and kept in the data folder, readable by its owner only.

    Raises OSError, with what to do, when the folder cannot be written.
    """
    known = known_token(settings)
    if known is not None:
        return known
    file = settings.data_dir / TOKEN_FILE
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(secrets.token_urlsafe(32), encoding="ascii")
        new.replace(file)  # never half a token, whatever happens meanwhile
        return file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise OSError(
            f"The token of the embedded store cannot be kept in {file} ({error.strerror or error}). "
            "Set DATA_DIR to a folder that this user may write to, or EMBEDDED_KV_TOKEN to a token."
        ) from error
