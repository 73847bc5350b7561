"""The token under which the embedded store is read at `/kv`."""

import secrets

from daemon.config import Settings

TOKEN_FILE = "kv-token"


def embedded_kv_token(settings: Settings) -> str:
    """The setting, else one made once and kept in the data folder, readable by its owner only.

    Raises OSError when the folder cannot be written.
    """
    if settings.embedded_kv_token is not None:
        return settings.embedded_kv_token.get_secret_value()
    file = settings.data_dir / TOKEN_FILE
    if not (file.exists() and file.read_text(encoding="ascii").strip()):
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(secrets.token_urlsafe(32), encoding="ascii")
        new.replace(file)  # never half a token, whatever happens meanwhile
    return file.read_text(encoding="ascii").strip()
