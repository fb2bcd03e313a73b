"""Delta tables: what each write leaves, one writer at a time and several at once."""

import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from hc_orchestration.errors import StorageError
from hc_orchestration.storage import delta
from hc_orchestration.storage.delta import DeltaStore, TableSpec, in_groups
from hc_orchestration_tests.integration.servers import ObjectStore

SPANS = pl.List(pl.Struct({"start": pl.Int64, "label": pl.String}))
THINGS = TableSpec("deep/things", {"key": pl.String, "value": pl.Int64}, keys=("key",))
SPANNED = TableSpec("spanned", {"key": pl.String, "spans": SPANS}, keys=("key",))
WRITERS = 4


@dataclass(frozen=True)
class Place:
    root: str
    locks: Path
    delete: Callable[[], None]

    def store(self) -> DeltaStore:
        return DeltaStore(self.root, self.locks)


@pytest.fixture
def store(tmp_path: Path) -> DeltaStore:
    return DeltaStore(str(tmp_path / "tables"), tmp_path / "locks")


def things(**values: int | None) -> pl.DataFrame:
    return pl.DataFrame(
        {"key": list(values), "value": list(values.values())}, schema=dict(THINGS.schema)
    )


def stored(store: DeltaStore, version: int | None = None) -> dict[str, int | None]:
    return dict(sorted(store.scan(THINGS, version).collect().iter_rows()))


def test_appended_rows_are_added_and_each_append_is_a_version(store: DeltaStore) -> None:
    first = store.append(THINGS, things(a=1))
    second = store.append(THINGS, things(a=2, b=None))

    assert second == first + 1 == store.version(THINGS)
    assert sorted(store.scan(THINGS).collect()["key"]) == ["a", "a", "b"]
    assert stored(store, first) == {"a": 1}


@pytest.fixture(scope="module")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path_factory.mktemp("s3"), "tables").in_environment() as store:
        yield store


@pytest.fixture(params=["folder", "object store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where tables can lie: opens stores, and deletes all tables."""
    if request.param == "folder":
        root = tmp_path / "tables"
        return Place(str(root), tmp_path / "locks", lambda: shutil.rmtree(root))
    object_store: ObjectStore = request.getfixturevalue("object_store")
    object_store.empty()
    return Place("s3://tables/here", tmp_path / "locks", object_store.empty)


def test_a_store_that_keeps_a_table_open_sees_what_others_commit(place: Place) -> None:
    store, other = place.store(), place.store()
    assert store.read(THINGS).is_empty()

    for number in range(25):  # past a checkpoint
        other.append(THINGS, things(**{f"n{number}": number}))
        assert store.read(THINGS).height == number + 1
        assert store.version(THINGS) == other.version(THINGS)
    store.append(THINGS, things(mine=1))
    other.purge(THINGS.path, "key", ["n3"])

    left = {*(f"n{number}" for number in range(25) if number != 3), "mine"}
    assert set(store.read(THINGS)["key"]) == left
    assert store.insert_missing(THINGS, things(n3=3, n4=4)) == 1


@pytest.mark.parametrize("commits", [1, 3, 7])
def test_a_table_that_was_made_anew_is_not_taken_for_the_one_that_was_open(
    place: Place, commits: int
) -> None:
    store = place.store()
    for number in range(3):
        store.append(THINGS, things(**{f"n{number}": number}))
    assert set(stored(store)) == set(stored(store, 3)) == {"n0", "n1", "n2"}
    place.delete()
    assert store.version(THINGS) is None

    other = place.store()
    for number in range(commits):
        other.append(THINGS, things(**{f"m{number}": number}))

    new = {f"m{number}" for number in range(commits)}
    assert set(store.read(THINGS)["key"]) == new
    assert set(stored(store, commits)) == new


def test_an_old_version_that_was_read_is_gone_after_a_purge(place: Place) -> None:
    store, other = place.store(), place.store()
    version = store.append(THINGS, things(a=1, b=2))
    store.append(THINGS, things(c=3))
    assert stored(store, version) == {"a": 1, "b": 2}

    left = other.purge(THINGS.path, "key", ["a"])

    with pytest.raises(StorageError, match=f"deep/things has no version {version}"):
        store.scan(THINGS, version)
    assert stored(store, left) == {"b": 2, "c": 3}


@pytest.mark.parametrize("kept", [0, delta._KEPT_BYTES], ids=["too large", "kept"])
def test_rows_that_were_read_are_those_that_are_there(
    place: Place, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta, "_KEPT_BYTES", kept)
    store, other = place.store(), place.store()
    for number in range(70):  # twice rewritten as one file
        (store, other)[number % 2].append(THINGS, things(**{f"n{number}": number}))
        some = store.read(THINGS, pl.col("value") % 3 == 0)
        assert sorted(some["value"]) == list(range(0, number + 1, 3))
    assert bool(store._read) == bool(kept)


def test_an_object_store_is_asked_only_for_what_is_new(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    object_store.empty()
    store = DeltaStore("s3://tables/here", tmp_path / "locks")
    for number in range(12):
        store.append(THINGS, things(**{f"n{number}": number}))
    store.read(THINGS)
    stored(store, 5)
    before = len(object_store.requests())

    store.read(THINGS)

    newest = object_store.requests()[before:]
    assert len(newest) == 4  # is the commit that it knows still that (2), and is there a newer (2)
    assert not any("/part" in line for line in newest)

    stored(store, 5)

    pinned = object_store.requests()[before + 4 :]
    assert len([line for line in pinned if "/part" not in line]) == 2


def test_a_table_that_was_made_anew_here_is_written_and_read(place: Place) -> None:
    store = place.store()
    for number in range(3):
        store.append(THINGS, things(**{f"n{number}": number}))
    place.delete()

    assert store.append(THINGS, things(new=1)) == 1
    assert store.read(THINGS)["key"].to_list() == ["new"]


def test_many_small_appends_stay_few_files_and_lose_nothing(store: DeltaStore) -> None:
    versions = [store.append(THINGS, things(**{f"n{n}": n})) for n in range(150)]

    assert (store.files(THINGS) or 0) < 32
    for n in (0, 62, 63, 64, 149):
        assert sorted(stored(store, versions[n]).values()) == list(range(n + 1))


def test_columns_are_stored_by_name_whatever_their_order(store: DeltaStore) -> None:
    store.append(THINGS, pl.DataFrame({"value": [1], "key": ["a"], "more": ["left out"]}))

    assert store.scan(THINGS).collect().to_dicts() == [{"key": "a", "value": 1}]


def test_only_rows_whose_key_is_new_are_inserted(store: DeltaStore) -> None:
    assert store.insert_missing(THINGS, things(a=1, b=2)) == 2

    assert store.insert_missing(THINGS, things(b=20, c=3)) == 1

    assert stored(store) == {"a": 1, "b": 2, "c": 3}


def test_of_rows_with_the_same_key_in_one_frame_the_first_is_inserted(store: DeltaStore) -> None:
    twice = pl.concat([things(a=1), things(a=2), things(b=3)])

    assert store.insert_missing(THINGS, twice) == 2
    assert stored(store) == {"a": 1, "b": 3}


def test_nested_lists_survive_an_insert(store: DeltaStore) -> None:
    rows = [
        {"key": "two", "spans": [{"start": 0, "label": "A"}, {"start": 9, "label": None}]},
        {"key": "empty", "spans": []},
        {"key": "null", "spans": None},
    ]

    store.insert_missing(SPANNED, pl.DataFrame(rows, schema=dict(SPANNED.schema)))
    store.append(SPANNED, pl.DataFrame(rows[:1], schema=dict(SPANNED.schema)))

    assert store.scan(SPANNED).collect().sort("key").to_dicts() == sorted(
        [*rows, rows[0]], key=lambda row: str(row["key"])
    )


def test_overwriting_replaces_all_rows_in_one_version_with_its_notes(
    store: DeltaStore, tmp_path: Path
) -> None:
    before = store.append(THINGS, things(a=1))

    after = store.overwrite(THINGS, lambda: iter([things(b=2), things(c=3)]), {"hc.of": "test"})

    assert after == before + 1
    assert stored(store) == {"b": 2, "c": 3}
    assert stored(store, before) == {"a": 1}
    (commit,) = DeltaTable(str(tmp_path / "tables" / "deep" / "things")).history(1)
    assert commit["hc.of"] == "test"


def test_streamed_rows_are_those_of_the_version_a_few_at_a_time(store: DeltaStore) -> None:
    assert list(store.stream(THINGS, ["key"], None, 16)) == []
    keys = [f"k{number:03}" for number in range(100)]
    first = store.append(THINGS, things(**dict.fromkeys(keys[:70], 1)))
    store.append(THINGS, things(**dict.fromkeys(keys[70:], 1)))

    for version, expected in ((first, keys[:70]), (None, keys)):
        frames = list(store.stream(THINGS, ["key"], version, 16))
        assert {frame.columns[0] for frame in frames} == {"key"}
        assert max(frame.height for frame in frames) <= 16
        assert sorted(key for frame in frames for key in frame["key"]) == expected
    with pytest.raises(StorageError, match=r"version 99 cannot be read"):
        list(store.stream(THINGS, ["key"], 99, 16))


def test_overwriting_with_nothing_empties_the_table(store: DeltaStore) -> None:
    store.append(THINGS, things(a=1))

    store.overwrite(THINGS, lambda: iter([]), {})

    assert stored(store) == {}


@pytest.mark.parametrize("error", [StorageError("changed"), ValueError("words of a note")])
def test_an_error_while_overwriting_is_raised_as_it_is_and_leaves_the_table(
    store: DeltaStore, error: Exception
) -> None:
    before = store.append(THINGS, things(a=1))

    def failing() -> Iterator[pl.DataFrame]:
        yield things(b=2)
        raise error

    with pytest.raises(type(error)) as raised:
        store.overwrite(THINGS, failing, {})
    assert raised.value is error
    assert store.version(THINGS) == before
    assert stored(store) == {"a": 1}


def test_a_signal_while_overwriting_is_no_failed_write(store: DeltaStore) -> None:
    """Delta's own error in its place would let `hc` go on after Ctrl-C."""

    def stopped() -> Iterator[pl.DataFrame]:
        yield things(b=2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.overwrite(THINGS, stopped, {})
    assert stored(store) == {}


def test_a_missing_table_has_no_rows_and_the_right_columns(store: DeltaStore) -> None:
    frame = store.scan(SPANNED).collect()

    assert (frame.height, dict(frame.schema)) == (0, dict(SPANNED.schema))
    assert store.version(SPANNED) is None


def test_a_version_of_a_missing_table_cannot_be_read(store: DeltaStore) -> None:
    with pytest.raises(StorageError, match=r"table deep/things has no version 0: there is no"):
        store.scan(THINGS, 0)


def test_a_version_that_never_was_cannot_be_read(store: DeltaStore) -> None:
    store.append(THINGS, things(a=1))

    with pytest.raises(StorageError, match=r"table deep/things: version 99 cannot be read"):
        store.scan(THINGS, 99)


def test_rows_are_grouped_without_losing_the_last_ones() -> None:
    assert list(in_groups(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(in_groups([], 2)) == []


class Contended:
    """Another writer commits first, a number of times; then the write goes through."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.calls = 0

    def __call__(self, *args: object, **options: object) -> None:
        self.calls += 1
        if self.calls <= self.times:
            message = "another writer was first"
            raise CommitFailedError(message)
        write_deltalake(*args, **options)


@pytest.fixture
def contended(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Contended]:
    def install(times: int) -> Contended:
        writes = Contended(times)
        monkeypatch.setattr(delta, "write_deltalake", writes)
        monkeypatch.setattr(delta, "_FIRST_PAUSE_S", 0.0)
        return writes

    return install


def test_a_write_is_tried_again_when_another_was_first(
    store: DeltaStore, contended: Callable[[int], Contended]
) -> None:
    writes = contended(3)

    store.append(THINGS, things(a=1))

    assert writes.calls == 4
    assert stored(store) == {"a": 1}


def test_an_overwrite_that_is_tried_again_reads_its_rows_anew(
    store: DeltaStore, contended: Callable[[int], Contended]
) -> None:
    contended(2)

    store.overwrite(THINGS, lambda: iter([things(a=1), things(b=2)]), {})

    assert stored(store) == {"a": 1, "b": 2}


def test_a_write_that_never_gets_through_ends_saying_so(
    store: DeltaStore, contended: Callable[[int], Contended]
) -> None:
    writes = contended(1_000)

    with pytest.raises(StorageError, match=r"deep/things: other writers committed first 12 times"):
        store.append(THINGS, things(a=1))
    assert writes.calls == 12
    assert stored(store) == {}


def _write_at_once(root: Path, number: int, barrier: Barrier) -> None:
    """One of several processes: appends rows of its own, then inserts those that all insert."""
    store = DeltaStore(str(root / "tables"), root / "locks")
    own = pl.DataFrame({"key": [f"{number}-{i}" for i in range(5)], "value": [number] * 5})
    same = pl.DataFrame(
        {
            "key": [f"k{i}" for i in range(50)],
            "spans": [[{"start": i, "label": "A"}] for i in range(50)],
        },
        schema=dict(SPANNED.schema),
    )
    barrier.wait(60)
    store.append(THINGS, own)
    barrier.wait(60)
    store.insert_missing(SPANNED, same)


def test_processes_that_create_and_fill_tables_at_once_lose_and_double_nothing(
    store: DeltaStore, tmp_path: Path
) -> None:
    processes = multiprocessing.get_context("spawn")
    barrier = processes.Barrier(WRITERS)
    writers = [
        processes.Process(target=_write_at_once, args=(tmp_path, number, barrier))
        for number in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    assert stored(store) == {f"{n}-{i}": n for n in range(WRITERS) for i in range(5)}
    inserted = store.scan(SPANNED).collect()
    assert sorted(inserted["key"]) == sorted(f"k{i}" for i in range(50))


def older_table(store: DeltaStore) -> None:
    """THINGS as an older version of the package made it: without `value`."""
    older = TableSpec(THINGS.path, {"key": pl.String}, keys=("key",))
    store.append(older, pl.DataFrame({"key": ["a"]}))


def test_a_table_without_a_new_column_is_read_with_nulls(store: DeltaStore) -> None:
    older_table(store)

    assert stored(store) == {"a": None}


@pytest.mark.parametrize("write", ["append", "insert_missing"])
def test_a_table_without_a_new_column_gets_it_with_the_next_rows(
    store: DeltaStore, write: str
) -> None:
    older_table(store)

    getattr(store, write)(THINGS, things(b=2))

    assert stored(store) == {"a": None, "b": 2}
    assert stored(store, 1) == {"a": None}


def test_a_table_without_a_new_column_is_overwritten_with_it(store: DeltaStore) -> None:
    older_table(store)

    store.overwrite(THINGS, lambda: iter([things(b=2)]), {})

    assert stored(store) == {"b": 2}


def test_a_struct_without_a_new_field_gets_it_with_an_append(store: DeltaStore) -> None:
    older = pl.List(pl.Struct({"start": pl.Int64}))
    spec = TableSpec(SPANNED.path, {"key": pl.String, "spans": older}, keys=("key",))
    store.append(spec, pl.DataFrame({"key": ["a"], "spans": [[{"start": 1}]]}))

    rows = pl.DataFrame(
        {"key": ["b"], "spans": [[{"start": 2, "label": "X"}]]}, schema=dict(SPANNED.schema)
    )
    store.append(SPANNED, rows)

    assert dict(store.scan(SPANNED).collect().iter_rows()) == {
        "a": [{"start": 1, "label": None}],
        "b": [{"start": 2, "label": "X"}],
    }


def test_the_log_of_a_table_holds_no_values(store: DeltaStore, tmp_path: Path) -> None:
    store.append(THINGS, things(zebrafish=1))

    logs = sorted((tmp_path / "tables" / "deep" / "things" / "_delta_log").iterdir())
    assert len(logs) == 2
    assert all("zebrafish" not in log.read_text("utf-8") for log in logs)


def test_a_purge_leaves_one_version_without_the_rows(store: DeltaStore) -> None:
    for key in ("a", "b", "c"):
        store.append(THINGS, things(**{key: 1}))

    left = store.purge(THINGS.path, "key", ["b", "z"])

    assert stored(store, left) == {"a": 1, "c": 1}
    assert left == store.version(THINGS)
    for version in range(4):
        with pytest.raises(StorageError, match="purge removed that version"):
            store.scan(THINGS, version)
    store.append(THINGS, things(d=1))
    assert stored(store, left) == {"a": 1, "c": 1}  # later ones are kept again


def test_tables_are_found_at_both_depths(store: DeltaStore) -> None:
    store.append(THINGS, things(a=1))
    store.append(SPANNED, SPANNED.empty())

    assert store.paths() == ["deep/things", "spanned"]
