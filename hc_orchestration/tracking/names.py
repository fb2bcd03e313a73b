"""Names and values as MLflow takes them."""

import hashlib
import re

_REFUSED = re.compile(r"[^A-Za-z0-9_\-. ]|^\.")
_DIGEST_CHARACTERS = 16
LONGEST_NAME = 250
LONGEST_PARAM = 6_000
LONGEST_TAG = 8_000


def metric_name(name: str) -> str:
    """`name` in the characters and the length that MLflow takes; different names stay different.

    A refused character becomes its code point between colons; the colon itself is written so too,
    which makes the rule reversible. So are the slash and a leading dot, which MLflow takes only
    where they make no unusual path. A longer name is cut, never within such a code, and ends in a
    colon, an x (no code begins so) and a digest of the whole.
    """
    slug = _REFUSED.sub(lambda match: f":{ord(match[0]):x}:", name)
    if len(slug) <= LONGEST_NAME:
        return slug
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    kept = slug[: LONGEST_NAME - _DIGEST_CHARACTERS - 2]
    if kept.count(":") % 2:
        kept = kept[: kept.rindex(":")]
    return f"{kept}:x{digest}"


def shortened(value: str, longest: int) -> str:
    """`value` cut to what MLflow keeps, with a visible mark instead of a silent cut."""
    return value if len(value) <= longest else f"{value[: longest - 14]} … (shortened)"
