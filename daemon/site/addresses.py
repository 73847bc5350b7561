"""What a site knows the keys by: the cache tag of a key, and the path of a page. Pure."""

from collections.abc import Mapping
from urllib.parse import quote

from daemon.site.indexes import key_page

LONGEST_PATH = 2_000
"""Characters; servers refuse longer ones, so no page can be there."""
_IN_A_PATH = "/!$&'()*+,;=:@~"
"""What stands in the path of a URL as it is (RFC 3986), besides letters, digits and `-._`."""
_PAGE, _CURSOR = key_page(""), ":cursor:_"


def tag_of(key: str) -> str:
    """The cache tag of a key: the key itself, of a database inside a page without what names the part of its list."""
    return key.removesuffix(_CURSOR) if key.startswith("db:") else key


def slug_of(key: str) -> str | None:
    """The slug of a page's key; None for other keys."""
    return key.removeprefix(_PAGE) if key.startswith(_PAGE) else None


def path_of(templates: Mapping[str, str], source: str | None, slug: str) -> str | None:
    """Where a page is on the site, percent-encoded; None when its source has no template.

    In: source -> path with `{slug}` in it. `index` is what the site shows at the root: it adds nothing to the path.
    """
    template = templates.get(source or "")
    if template is None:
        return None
    literal = quote(template, safe=_IN_A_PATH + "%{}")
    path = literal.replace("{slug}", "" if slug == "index" else quote(slug, safe=_IN_A_PATH))
    path = path if slug != "index" else path.rstrip("/") or "/"
    return path if len(path) <= LONGEST_PATH else None
