"""An answer made from files, kept until one of them changes; nothing slow is imported for it."""

import json
import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

_SETTLED = 2_000_000_000
"""Nanoseconds: what changed more recently might change again without a new time of change."""

_Stamp = list[int] | None


class Remembered:
    """A JSON document in a file, with the size and times of change of all that it was made from.

    The files of this package and the folder of installed packages are always among them.
    """

    def __init__(self, file: Path, *about: str) -> None:
        """Of `file`; `about` are the settings that choose what the document is made from."""
        self._file = file
        self._about = [*about, sys.version]
        self._begun = time.time_ns()

    def read(self) -> Any | None:  # noqa: ANN401 - a JSON document
        """The document, or None if it is not there or anything has changed since."""
        try:
            known = json.loads(self._file.read_bytes())
            unchanged = known["about"] == self._about and all(
                _stamp(path) == stamp for path, stamp in known["made_from"].items()
            )
            return known["document"] if unchanged and _code() == known["code"] else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, document: object, made_from: Iterable[Path]) -> None:
        """Keep the document; not if anything changed while it was made, or just before that.

        Args:
            document: What JSON can hold.
            made_from: Files, folders (whose list of names counts), and what must not appear.
        """
        import sysconfig

        packages = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
        paths = packages | {str(path) for path in made_from}
        stamps = {path: _stamp(path) for path in sorted(paths)}
        newest = max((max(stamp[1:]) for stamp in stamps.values() if stamp), default=0)
        if newest > self._begun - _SETTLED:
            return
        known = {
            "about": self._about,
            "code": _code(),
            "made_from": stamps,
            "document": document,
        }
        new = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        with suppress(OSError):  # it is made again then
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.write_text(json.dumps(known), encoding="utf-8")
            new.replace(self._file)


def _stamp(path: str) -> _Stamp:
    """Size and times of change (nanoseconds), or None if there is nothing."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a thousand of them, and Path takes its time
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _code() -> list[int]:
    """How many files this package has, and when the last one was changed."""
    times = [
        os.stat(f"{folder}/{name}").st_mtime_ns  # noqa: PTH116 - as above
        for folder, _, names in os.walk(Path(__file__).parent.parent)
        for name in names
        if name.endswith(".py")
    ]
    return [len(times), max(times)]
