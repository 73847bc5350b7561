"""Types of files: which a browser may be shown as what they are, and how a file is named to it. Pure.

Whatever is not on the list is a download without a type, so that nothing served can run as a page of ours.
"""

import re
from mimetypes import guess_type
from urllib.parse import quote

DOWNLOAD = "application/octet-stream"
SVG = "image/svg+xml"

_SHOWN = frozenset(
    {
        *("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp", "image/tiff"),
        *("image/x-icon", "image/vnd.microsoft.icon", "image/heic", "image/heif", "image/apng"),
        *("video/mp4", "video/webm", "video/ogg", "video/quicktime", "video/x-m4v", "video/mpeg"),
        *("audio/mpeg", "audio/mp4", "audio/aac", "audio/ogg", "audio/wav", "audio/x-wav", "audio/webm"),
        *("audio/flac", "audio/x-m4a", "audio/m4a", "audio/opus", "application/pdf", "text/plain"),
    }
)
_UNTOLD = frozenset({"", DOWNLOAD, "binary/octet-stream"})


def media_type(told: str, name: str) -> str:
    """The type of a file from what its host says, and where that says nothing from its name; else a download's."""
    kind = told.partition(";")[0].strip().lower()
    if kind in _UNTOLD:
        kind = (guess_type(name, strict=False)[0] or "").lower()
    return kind if kind in _SHOWN or kind == SVG else DOWNLOAD


def is_passive(kind: str) -> bool:
    """Whether nothing of this type can run in a browser, so that any host may serve it as what it is."""
    return kind in _SHOWN


def elsewhere(kind: str) -> str:
    """The type to give to a store whose answers carry no policy: an SVG image is a download there."""
    return kind if is_passive(kind) else DOWNLOAD


def disposition(name: str, kind: str) -> str:
    """Content-Disposition: shown in place where that is safe, else a download; under the name it was uploaded with."""
    how = "inline" if is_passive(kind) else "attachment"
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name).strip(". ") or "file"
    return f"{how}; filename=\"{plain}\"; filename*=UTF-8''{quote(name.encode('utf-8', 'replace'), safe='')}"
