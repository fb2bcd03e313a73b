"""Evaluation records: rows of parts folded into what is known of an evaluation."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from hc_orchestration.errors import StorageError
from hc_orchestration.storage.delta import DeltaStore
from hc_orchestration.storage.records import (
    CHAIN,
    DONE,
    EVALUATIONS,
    EvaluationRecord,
    MlflowPart,
    RecordPart,
    Records,
    Status,
    StatusPart,
)
from hc_orchestration_tests.storage.parts import BEGUN, run_part


def status(state: Status, error: str | None = None) -> StatusPart:
    return StatusPart(status=state, error=error, at=BEGUN)


def folded(*rows: RecordPart | str) -> EvaluationRecord:
    """A record of parts, in which a word stands for a step that is done."""
    return EvaluationRecord.from_rows(
        "e1",
        "terms-1",
        [
            (DONE, row) if isinstance(row, str) else (row.part_name(), row.model_dump_json())
            for row in rows
        ],
    )


@pytest.fixture
def store(tmp_path: Path) -> DeltaStore:
    return DeltaStore(str(tmp_path / "tables"), tmp_path / "locks")


def test_a_record_without_a_status_is_running() -> None:
    assert folded(run_part()).state is Status.RUNNING
    assert folded(run_part(), status(Status.FINISHED)).state is Status.FINISHED


def test_of_a_part_written_twice_the_later_one_holds() -> None:
    record = folded(status(Status.RUNNING), status(Status.FAILED, "first"), status(Status.FINISHED))

    assert record.status == status(Status.FINISHED)


def test_steps_remain_until_each_planned_one_is_done() -> None:
    assert folded(run_part()).remaining == CHAIN
    assert folded(run_part(), "model_files", "model_files").remaining == CHAIN[1:]
    assert folded(run_part(), *CHAIN).remaining == ()
    assert folded().remaining == ()


def test_a_step_that_is_done_twice_stands_once() -> None:
    assert folded(run_part(), "model_files", "model_files").done == ("model_files",)


def test_a_new_run_of_the_evaluation_does_its_planned_steps_anew() -> None:
    """A re-execution from failure plans the failed step and what follows; the rest stays done."""
    record = folded(
        run_part(),
        "model_files",
        "extracted_entities",
        status(Status.FAILED, "no memory"),
        run_part(dagster_run_id="run-2", planned=CHAIN[1:]),
        status(Status.RUNNING),
    )

    assert record.done == ("model_files",)
    assert record.remaining == CHAIN[1:]
    assert record.run
    assert record.run.dagster_run_id == "run-2"
    assert record.state is Status.RUNNING


def test_a_part_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        EvaluationRecord.from_rows(
            "e1", "k", [("mlflow", '{"run_id": "r", "url": "u", "rows": 1, "x": 1}')]
        )


def test_parts_and_steps_of_one_append_are_one_commit(store: DeltaStore) -> None:
    records = Records(store)
    records.append("e1", "terms-1", run_part(), status(Status.RUNNING))
    before = store.version(EVALUATIONS)
    assert before is not None

    records.append("e1", "terms-1", status(Status.FINISHED), done=("model_files", "provenance"))

    assert store.version(EVALUATIONS) == before + 1
    record = records.required("e1")
    assert record.done == ("model_files", "provenance")
    assert record.state is Status.FINISHED


def test_a_record_comes_back_equal(store: DeltaStore) -> None:
    records = Records(store)
    shown = MlflowPart(run_id="m1", url="http://127.0.0.1/m1", rows=2)
    records.append("e1", "terms-1", run_part(), status(Status.RUNNING))
    records.append("e1", "terms-1", shown, done=("model_files",))

    assert records.read("e1") == folded(run_part(), status(Status.RUNNING), shown, "model_files")


def test_records_come_by_model_those_begun_last_first(store: DeltaStore) -> None:
    records = Records(store)
    for identity, key in (("e1", "terms-1"), ("e2", "terms-1"), ("e3", "other-1")):
        records.append(identity, key, run_part())
    records.append("e1", "terms-1", status(Status.FAILED))  # closed late: it is no newer for that

    assert [record.evaluation_id for record in records.of_model("terms-1")] == ["e2", "e1"]
    assert [record.evaluation_id for record in records.all()] == ["e3", "e2", "e1"]
    assert records.of_model("nobody-1") == []


def test_parts_are_folded_by_time_whatever_their_order_in_the_table(store: DeltaStore) -> None:
    early, late = status(Status.FAILED, "early"), status(Status.FINISHED)
    rows = [
        ("e1", "terms-1", "status", part.model_dump_json(), BEGUN + timedelta(seconds=second))
        for part, second in ((late, 2), (early, 1))
    ]
    store.append(EVALUATIONS, pl.DataFrame(rows, schema=dict(EVALUATIONS.schema), orient="row"))

    assert Records(store).required("e1").status == late


def test_rows_about_mlflow_do_not_count_as_something_that_mlflow_lacks() -> None:
    shown = MlflowPart(run_id="m1", url="http://127.0.0.1/m1", rows=2)

    assert folded(run_part(), "model_files", shown, shown).rows == 2


def test_an_evaluation_without_a_record_is_none_or_an_error(store: DeltaStore) -> None:
    assert Records(store).read("e9") is None
    with pytest.raises(StorageError, match="evaluation e9 has no record"):
        Records(store).required("e9")


def test_many_small_files_are_made_one_and_no_record_changes(store: DeltaStore) -> None:
    records = Records(store)
    for number in range(31):
        records.append(f"e{number % 3}", "terms-1", run_part(), done=(CHAIN[number % 4],))
    assert store.files(EVALUATIONS) == 31  # too few to be worth it
    before = records.all()

    records.append("e9", "terms-1", run_part())

    assert store.files(EVALUATIONS) == 1
    assert records.all()[1:] == before


def test_a_reader_of_a_table_opens_few_files_of_its_log(store: DeltaStore) -> None:
    records = Records(store)
    for _ in range(12):
        records.append("e1", "terms-1", status(Status.RUNNING))

    log = Path(store.uri(EVALUATIONS)) / "_delta_log"

    assert list(log.glob("*.checkpoint.parquet"))
