"""Upkeep of the tables: small files become few, and files that no record needs are deleted."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from hc_orchestration.storage.comparisons import COMPARISONS, GATES, PAIRS
from hc_orchestration.storage.corpus import CHANGES, CORPORA, NOTES, QUARANTINE, CorpusVersion
from hc_orchestration.storage.delta import DeltaStore, TableSpec
from hc_orchestration.storage.entities import SMALL_FILES, entities_table
from hc_orchestration.storage.materializations import MATERIALIZATIONS
from hc_orchestration.storage.metrics import metrics_table, note_counts_table
from hc_orchestration.storage.model_files import model_files_table
from hc_orchestration.storage.promotions import PROMOTIONS
from hc_orchestration.storage.records import EVALUATIONS, EvaluationRecord
from hc_orchestration.storage.workspace import Workspace

_SHARED = (
    NOTES,
    QUARANTINE,
    CORPORA,
    CHANGES,
    EVALUATIONS,
    MATERIALIZATIONS,
    COMPARISONS,
    PAIRS,
    GATES,
    PROMOTIONS,
)
_OF_MODEL = (entities_table, metrics_table, note_counts_table, model_files_table)


@dataclass(frozen=True, slots=True)
class Tidied:
    """What upkeep did to a table.

    Attributes:
        table: Its path below the storage root.
        files: Of its newest version, before.
        compacted: How many of these became fewer.
        deleted: Files that no version in use refers to.
        kept_versions: Versions that records name; their files stay.
    """

    table: str
    files: int
    compacted: int
    deleted: int
    kept_versions: int


def tidy(workspace: Workspace, days: int) -> list[Tidied]:
    """Compact every table of many small files, and delete the files that nothing needs.

    A file stays while the newest version, a version that a record names (of an evaluation, a corpus
    or a comparison), or any version of the last `days` days refers to it. So every evaluation can
    be read, verified and scored again, and whoever reads an old version meanwhile is not cut off.

    Args:
        workspace: The deployment.
        days: How long what no record names is kept.
    """
    return tidy_tables(workspace.delta, workspace.records.all(), workspace.corpus.versions(), days)


def tidy_tables(
    store: DeltaStore,
    records: Iterable[EvaluationRecord],
    corpora: Iterable[CorpusVersion],
    days: int,
) -> list[Tidied]:
    """Tidy the tables of a store; see `tidy`."""
    pinned, keys = _pinned(records, corpora)
    tables = [*_SHARED, *(table(key) for key in sorted(keys) for table in _OF_MODEL)]
    done = (_tidy(store, table, pinned[table.path], days) for table in tables)
    return [tidied for tidied in done if tidied is not None]


def _tidy(store: DeltaStore, table: TableSpec, versions: set[int], days: int) -> Tidied | None:
    files = store.files(table)
    if files is None:
        return None
    compacted = store.compact(table) if files >= SMALL_FILES else 0
    deleted = store.vacuum(table, sorted(versions), days)
    return Tidied(table.path, files, compacted, deleted, len(versions))


def _pinned(
    records: Iterable[EvaluationRecord], corpora: Iterable[CorpusVersion]
) -> tuple[defaultdict[str, set[int]], set[str]]:
    """The versions that are named, by the table's path, and the keys of the models."""
    pinned: defaultdict[str, set[int]] = defaultdict(set)
    keys = set()
    for record in records:
        keys.add(record.model_key)
        if record.inputs is not None:
            pinned[NOTES.path].add(record.inputs.corpus_version)
        if record.extraction is not None:
            entities = entities_table(record.model_key)
            pinned[entities.path].add(record.extraction.entities_version)
        if record.metrics is not None:
            pinned[metrics_table(record.model_key).path].add(record.metrics.metrics_version)
    for corpus in corpora:  # of which there are records too
        pinned[NOTES.path].add(corpus.version)
        pinned[QUARANTINE.path].add(corpus.quarantine_version)
    return pinned, keys
