"""Which notes and texts one pass has seen, kept in private database files and not in memory."""

import hashlib
import sqlite3
from collections.abc import Iterable

from hc_orchestration.corpora.notes import Note

_PRAGMAS = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -2048;"
_KEEP_FIRST = """
INSERT INTO texts VALUES (?, ?)
ON CONFLICT (digest) DO UPDATE SET id = excluded.id WHERE excluded.id < id
"""


class SeenNotes:
    """Digests of ids, notes and texts, in a temporary file that SQLite deletes when it is closed.

    Memory stays the same however many notes there are: SQLite keeps 2 MB of pages.
    """

    def __init__(self) -> None:
        """Open the file."""
        self._file = _temporary(
            "CREATE TABLE notes (id BLOB PRIMARY KEY, digest BLOB NOT NULL) WITHOUT ROWID",
            "CREATE TABLE texts (digest BLOB PRIMARY KEY) WITHOUT ROWID",
        )

    def digest_of(self, note_id: str) -> bytes | None:
        """The digest of the note that was added under an id."""
        rows = self._file.execute("SELECT digest FROM notes WHERE id = ?", (_key(note_id),))
        found: tuple[bytes] | None = rows.fetchone()
        return found[0] if found else None

    def add_note(self, note_id: str, digest: bytes) -> None:
        """Keep the digest of a note under its id."""
        self._file.execute("INSERT INTO notes VALUES (?, ?)", (_key(note_id), digest))

    def add_text(self, digest: bytes) -> bool:
        """Keep the digest of a text; whether it is new."""
        return self._file.execute("INSERT OR IGNORE INTO texts VALUES (?)", (digest,)).rowcount == 1

    def corpus_digest(self) -> str:
        """`corpus_digest` of the notes, sorted by the database."""
        rows = self._file.execute("SELECT digest FROM notes ORDER BY digest")
        return _chained(row[0] for row in rows)


class FirstIds:
    """Of each text the id that sorts first, whatever the order of the notes."""

    def __init__(self) -> None:
        """Open the file."""
        self._file = _temporary(
            "CREATE TABLE texts (digest BLOB PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID"
        )

    def add(self, note: Note) -> None:
        """Look at one note."""
        self._file.execute(_KEEP_FIRST, (_key(note.text), note.note_id))

    def keeps(self, note: Note) -> bool:
        """Whether it is under this note's id that its text is kept."""
        rows = self._file.execute("SELECT id FROM texts WHERE digest = ?", (_key(note.text),))
        found: tuple[str] | None = rows.fetchone()
        return found is not None and found[0] == note.note_id


def corpus_digest(note_digests: Iterable[bytes]) -> str:
    """The identity of a corpus: sha256 (hex) over the sorted 32-byte digests of its notes."""
    return _chained(sorted(note_digests))


def _temporary(*tables: str) -> sqlite3.Connection:
    """A database in a file without a name, which goes when the connection does."""
    # Delta may pull the second pass from a thread of its own, one call at a time
    file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    file.executescript(_PRAGMAS)
    for table in tables:
        file.execute(table)
    file.execute("BEGIN")
    return file


def _chained(digests: Iterable[bytes]) -> str:
    state = hashlib.sha256()
    for digest in digests:
        state.update(digest)
    return state.hexdigest()


def _key(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8")).digest()
