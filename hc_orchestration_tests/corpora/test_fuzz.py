"""Whatever bytes a file holds, its reader gives notes or quarantine rows, never an exception."""

import gzip
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hc_orchestration.corpora.sources import Format
from hc_orchestration_tests.corpora.formats import FILES, FORMATS, Reading, bioc_json, write

SEEDS: dict[Format, list[dict[str, bytes]]] = {
    **{form: [files] for form, files in FILES.items()},
    "bioc": [FILES["bioc"], {"good.json": bioc_json()}],
}
fuzzed = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def read(folder: Path, form: Format, files: dict[str, bytes]) -> None:
    for old in folder.iterdir():
        old.unlink()
    reading = Reading(write(folder, files), form)
    assert reading.adds_up
    for note in reading.notes:
        assert all(0 <= s.start < s.end <= len(note.text) for s in note.gold or ())


@pytest.mark.parametrize("form", FORMATS)
@given(content=st.binary(max_size=300))
@fuzzed
def test_any_bytes(tmp_path: Path, form: Format, content: bytes) -> None:
    for files in SEEDS[form]:
        read(tmp_path, form, dict.fromkeys(files, content))


@pytest.mark.parametrize("form", FORMATS)
@given(chance=st.randoms(use_true_random=False), edits=st.integers(1, 6))
@fuzzed
def test_a_good_file_with_bytes_changed_lost_or_doubled(
    tmp_path: Path, form: Format, chance: random.Random, edits: int
) -> None:
    for files in SEEDS[form]:
        read(tmp_path, form, {name: _damaged(body, edits, chance) for name, body in files.items()})


@given(chance=st.randoms(use_true_random=False), edits=st.integers(1, 4))
@fuzzed
def test_a_packed_file_with_bytes_changed(
    tmp_path: Path, chance: random.Random, edits: int
) -> None:
    packed = gzip.compress(FILES["jsonl"]["good.jsonl"] * 50, mtime=0)
    read(tmp_path, "jsonl", {"a.jsonl.gz": _damaged(packed, edits, chance)})


def _damaged(content: bytes, edits: int, chance: random.Random) -> bytes:
    edited = bytearray(content)
    for _ in range(edits):
        place = chance.randrange(len(edited) + 1)
        kind = chance.randrange(4)
        if kind == 0:
            edited[place : place + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            del edited[place : place + chance.randrange(1, 20)]
        elif kind == 2:
            edited[place:place] = edited[place : place + chance.randrange(1, 40)]
        else:
            tokens = (b"null", b"-1", b"1e400", b"[", b"}", b'"', b"\r", b"\t", b"\xed\xa0\x80")
            edited[place:place] = chance.choice(tokens)
    return bytes(edited)
