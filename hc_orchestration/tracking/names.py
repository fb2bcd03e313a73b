"""Names and values as MLflow takes them."""

import hashlib
import re

_REFUSED = re.compile(r"[^A-Za-z0-9_\-. /]")
LONGEST_NAME = 250
LONGEST_PARAM = 6_000
LONGEST_TAG = 8_000


def metric_name(name: str) -> str:
    """`name` in the characters and the length that MLflow takes; different names stay different.

    A refused character becomes its code point between colons; the colon itself is written so too,
    which makes the rule reversible. Longer names end in a digest of the whole.
    """
    slug = _REFUSED.sub(lambda match: f":{ord(match[0]):x}:", name)
    if len(slug) <= LONGEST_NAME:
        return slug
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{slug[: LONGEST_NAME - 17]}~{digest}".replace("~", ":")


def shortened(value: str, longest: int) -> str:
    """`value` cut to what MLflow keeps, with a visible mark instead of a silent cut."""
    return value if len(value) <= longest else f"{value[: longest - 14]} … (shortened)"
