"""Stored scores, file lists and comparisons: what is kept once, and what comes back."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hc_orchestration.models.catalogue import ModelEntry
from hc_orchestration.models.store import InstalledModel, ModelFile
from hc_orchestration.scoring.evaluation import complete_scores
from hc_orchestration.storage.comparisons import ComparisonTable
from hc_orchestration.storage.delta import DeltaStore
from hc_orchestration.storage.metrics import MetricTables
from hc_orchestration.storage.model_files import ModelFileTables, model_files_table

KEY = "model-1"
SCORES = complete_scores(
    pl.DataFrame(
        {
            "mode": ["strict", "strict", "exact"],
            "average": "micro",
            "label": "",
            "slice": "all",
            "statistic": ["f1", "precision", "f1"],
            "value": [0.5, None, 1.0],
            "gold": [3, 3, 3],
            "predicted": [1, 0, 3],
            "credit": [1.0, 0.0, 3.0],
        }
    )
)
COUNTS = pl.DataFrame(
    {
        "note_id": ["n1", "n2"],
        "mode": "exact",
        "label": "",
        "gold": [2, 1],
        "predicted": [2, 1],
        "same": [2, 1],
        "overlapping": [0, 0],
    }
)


@pytest.fixture
def store(tmp_path: Path) -> DeltaStore:
    return DeltaStore(str(tmp_path / "tables"), tmp_path / "locks")


def test_scores_of_an_evaluation_come_back_with_undefined_ones(store: DeltaStore) -> None:
    tables = MetricTables(store)

    tables.insert(KEY, "e1", SCORES, COUNTS)

    scores = tables.scores(KEY, "e1")
    assert list(scores.select("mode", "statistic", "value").iter_rows()) == [
        ("exact", "f1", 1.0),
        ("strict", "f1", 0.5),
        ("strict", "precision", None),
    ]
    counts = tables.note_counts(KEY, "e1")
    assert counts.drop("evaluation_digest").to_dicts() == COUNTS.to_dicts()


def test_the_same_evaluation_is_stored_once(store: DeltaStore) -> None:
    tables = MetricTables(store)

    versions = [tables.insert(KEY, "e1", SCORES, COUNTS) for _ in range(2)]

    assert tables.scores(KEY, "e1").height == 3
    assert tables.note_counts(KEY, "e1").height == 2
    assert versions[0] <= versions[1]


def test_evaluations_and_models_do_not_mix(store: DeltaStore) -> None:
    tables = MetricTables(store)
    tables.insert(KEY, "e1", SCORES, COUNTS)
    tables.insert(KEY, "e2", SCORES.head(1), COUNTS.head(1))

    assert tables.scores(KEY, "e2").height == 1
    assert tables.note_counts(KEY, "e2").height == 1
    assert tables.scores("other-1", "e1").is_empty()


def test_the_version_returned_holds_the_scores(store: DeltaStore) -> None:
    tables = MetricTables(store)

    first = tables.insert(KEY, "e1", SCORES, COUNTS)
    second = tables.insert(KEY, "e2", SCORES, COUNTS)

    assert second == first + 1


def _installed(fingerprint: str, *files: ModelFile) -> InstalledModel:
    entry = ModelEntry.model_validate(
        {"name": "model", "version": "1", "loader": "spacy", "source": {"path": "/model"}}
    )
    return InstalledModel(entry, Path("/model"), files, fingerprint)


def test_the_files_of_a_fingerprint_are_stored_once(store: DeltaStore) -> None:
    tables = ModelFileTables(store)
    meta, weights = ModelFile("meta.json", 10, "aa"), ModelFile("ner/model", 2_000, "bb")

    assert tables.insert(_installed("f1", meta, weights)) == 2
    assert tables.insert(_installed("f1", meta, weights)) == 0
    assert tables.insert(_installed("f2", meta)) == 1

    rows = store.scan(model_files_table(KEY)).collect()
    assert sorted(rows.iter_rows()) == [
        ("f1", "meta.json", 10, "aa"),
        ("f1", "ner/model", 2_000, "bb"),
        ("f2", "meta.json", 10, "aa"),
    ]


def _compared(key: str, rank: int | None, day: int) -> dict[str, Any]:
    return {
        "comparison_id": f"c{day}",
        "rank": rank,
        "model_key": key,
        "strict_f1": None if rank is None else 1.0 / rank,
        "compared_at": datetime(2026, 1, day, tzinfo=UTC),
    }


def test_the_latest_comparison_is_the_newest_with_the_ranked_first(store: DeltaStore) -> None:
    table = ComparisonTable(store)
    assert table.latest().is_empty()

    table.append([_compared("absent-1", None, 2), _compared("b-1", 2, 2), _compared("a-1", 1, 2)])
    table.append([_compared("b-1", 1, 1)])

    latest = table.latest()
    assert list(latest.select("comparison_id", "model_key", "rank").iter_rows()) == [
        ("c2", "a-1", 1),
        ("c2", "b-1", 2),
        ("c2", "absent-1", None),
    ]
