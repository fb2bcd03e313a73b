"""A spaCy component that tags tokens with the class of the lexicon entry they belong to.

The tag is a feature: a net that embeds TAG beside the word forms knows that a word it never saw in
training is the name of a drug or of a neoplasm. The component itself writes no entities.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import srsly
from numpy.typing import NDArray
from spacy.language import Language
from spacy.strings import hash_string  # type: ignore[attr-defined] # its stub lacks it
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import ensure_path

_FILE = "lexicon.bin"
_CLASSES_FILE = "classes.json"
_HASH = np.dtype("<u8")
_ENTRY_BYTES = _HASH.itemsize + 1


def lexicon_key(name: str) -> str:
    """The letters and digits of a name in lower case: what makes "Beta-blocker" "beta blocker"."""
    return "".join(filter(str.isalnum, name.lower()))


class LexiconTagger:
    """Tags the tokens of the longest lexicon entries, from left to right without overlap.

    An entry is matched by its key (see `lexicon_key`), so hyphens and spaces do not matter. Names
    are not kept, only a 64-bit hash and a class each: 9 bytes an entry.
    """

    def __init__(self, nlp: Language, name: str, longest: int) -> None:
        """Make a tagger without entries.

        Args:
            nlp: The pipeline that the component belongs to.
            name: Its name there.
            longest: The greatest number of tokens with letters or digits that an entry may span.
        """
        self.name = name
        self._strings = nlp.vocab.strings
        self._longest = longest
        self._classes: list[str] = []
        self._tags: dict[int, tuple[int, int]] = {}
        self._hashes = np.zeros(0, dtype=_HASH)
        self._codes = np.zeros(0, dtype=np.uint8)

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._hashes)

    def fill(self, classes: Mapping[str, str]) -> None:
        """Take the class of each key as the new entries.

        Raises:
            ValueError: There are more than 256 classes, which one byte cannot tell apart.
        """
        names = sorted(set(classes.values()))
        code = {name: number for number, name in enumerate(names)}
        entries = sorted((hash_string(key), code[value]) for key, value in classes.items())
        self._set(
            names,
            np.array([entry for entry, _ in entries], dtype=_HASH),
            np.array([number for _, number in entries], dtype=np.uint8),
        )

    def _set(self, names: list[str], hashes: NDArray[np.uint64], codes: NDArray[np.uint8]) -> None:
        self._classes, self._hashes, self._codes = names, hashes, codes
        tags = [(self._strings.add(f"B-{name}"), self._strings.add(f"I-{name}")) for name in names]
        self._tags = dict(zip(hashes.tolist(), map(tags.__getitem__, codes.tolist()), strict=True))

    def __call__(self, doc: Doc) -> Doc:
        """Tag the tokens of one document."""
        keys = [lexicon_key(token.text) for token in doc]
        words = [position for position, key in enumerate(keys) if key]
        at = 0
        while at < len(words):
            length, tags = self._longest_match(keys, words[at : at + self._longest])
            for offset, position in enumerate(words[at : at + length]):
                doc[position].tag = tags[offset > 0]
            at += max(length, 1)
        return doc

    def _longest_match(self, keys: list[str], words: list[int]) -> tuple[int, tuple[int, int]]:
        length, tags, key = 0, (0, 0), ""
        for number, position in enumerate(words, start=1):
            key += keys[position]
            found = self._tags.get(hash_string(key))
            if found is not None:
                length, tags = number, found
        return length, tags

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],  # noqa: ARG002 - spaCy passes it
        *,
        nlp: Language | None = None,  # noqa: ARG002 - spaCy passes it
        lexicon: Mapping[str, str] | None = None,
    ) -> None:
        """Take the entries that the config's `initialize` section gives; see `fill`."""
        self.fill(lexicon or {})

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:  # noqa: ARG002
        """Write the entries into the folder `path`."""
        folder = ensure_path(path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FILE).write_bytes(self._table())
        srsly.write_json(folder / _CLASSES_FILE, self._classes)

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> "LexiconTagger":  # noqa: ARG002
        """Read what `to_disk` wrote."""
        folder = ensure_path(path)
        self._read((folder / _FILE).read_bytes(), srsly.read_json(folder / _CLASSES_FILE))
        return self

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:  # noqa: ARG002 - spaCy passes it
        """The entries as bytes."""
        data: bytes = srsly.msgpack_dumps({"table": self._table(), "classes": self._classes})
        return data

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> "LexiconTagger":  # noqa: ARG002
        """Read what `to_bytes` gave."""
        content = srsly.msgpack_loads(data)
        self._read(content["table"], content["classes"])
        return self

    def _table(self) -> bytes:
        return self._hashes.tobytes() + self._codes.tobytes()

    def _read(self, table: bytes, classes: list[str]) -> None:
        size, rest = divmod(len(table), _ENTRY_BYTES)
        if rest:
            message = f"the lexicon of {self.name} is cut off: {len(table)} bytes"
            raise ValueError(message)
        hashes = np.frombuffer(table, dtype=_HASH, count=size)
        codes = np.frombuffer(table, dtype=np.uint8, offset=size * _HASH.itemsize)
        self._set(classes, hashes, codes)


@Language.factory(
    "hc_lexicon_tagger", assigns=["token.tag"], default_config={"longest": 8}, retokenizes=False
)
def make_lexicon_tagger(nlp: Language, name: str, longest: int) -> LexiconTagger:
    """A tagger without entries; they come with `initialize` or from disk."""
    return LexiconTagger(nlp, name, longest)
