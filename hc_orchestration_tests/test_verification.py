"""`hc provenance verify`: what was changed is found, what was only moved about is not."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hc_orchestration.healthcare.signing import (
    SigningKey,
    canonical_bytes,
    generate_key,
    provenance_of,
    public_path,
    signed,
)
from hc_orchestration.healthcare.verification import Outcome, Signature, Verification
from hc_orchestration.storage import verification
from hc_orchestration.storage.files import StoredFile
from hc_orchestration.storage.purges import Purge
from hc_orchestration.storage.records import ProvenancePart
from hc_orchestration.storage.verification import SigningKeys, verify_file, verify_records
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.conftest import CATALOGUE, NOTES, STUDY, TERMS, write_notes
from hc_orchestration_tests.recorded import evaluated, workspace_in

QUICK = hypothesis_settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@dataclass(frozen=True)
class Nights:
    """A deployment after three nights, each with another corpus, and its key."""

    folder: Path
    records: tuple[ProvenancePart, ...]

    @property
    def workspace(self) -> Workspace:
        return workspace_in(self.folder / "home", self.folder / "data", self.folder / "key.pem")

    @property
    def tables(self) -> Path:
        return self.folder / "home" / "tables"

    def verify(self, **changes: Any) -> Verification:
        return verify_records(self.workspace, **changes)

    def file(self, stored: StoredFile) -> Path:
        return Path(self.workspace.files.location(stored))


@pytest.fixture(scope="module")
def three_nights(tmp_path_factory: pytest.TempPathFactory) -> Nights:
    folder = tmp_path_factory.mktemp("nights")
    data = folder / "data"
    data.mkdir()
    (data / "study.yaml").write_text(STUDY, encoding="utf-8")
    (data / "models.yaml").write_text(CATALOGUE, encoding="utf-8")
    (data / "terms.tsv").write_text("DISEASE\tasthma\nCHEMICAL\tmetformin\n", encoding="utf-8")
    key = generate_key(folder / "key.pem")
    assert key.key_id
    made = []
    for night in (1, 2, 3):
        write_notes(data, NOTES[: night + 3])
        workspace = workspace_in(folder / "home", data, folder / "key.pem")
        made.append(evaluated(workspace, TERMS, f"run-{night}"))
    return Nights(folder, tuple(made))


@pytest.fixture
def nights(three_nights: Nights, tmp_path: Path) -> Nights:
    """A copy that a test may spoil."""
    shutil.copytree(three_nights.folder, tmp_path / "copy")
    return Nights(tmp_path / "copy", three_nights.records)


def said(found: Verification) -> list[str]:
    return [f"{one.outcome}: {one.subject}: {one.says}" for one in found.findings]


def data_files(nights: Nights, table: str) -> list[Path]:
    return sorted((nights.tables / table).glob("*.parquet"))


def flipped(path: Path, at: int, bit: int) -> bytes:
    """Flip a bit of a file; returns what was there before."""
    before = path.read_bytes()
    after = bytearray(before)
    after[at % len(after)] ^= 1 << bit
    path.write_bytes(bytes(after))
    return before


def test_untouched_records_are_clean_signed_and_one_chain(three_nights: Nights) -> None:
    found = three_nights.verify()

    assert said(found) == []
    assert found.clean
    assert [one.signature for one in found.records] == [Signature.VALID] * 3
    (chain,) = found.chains
    assert (chain.records, chain.head) == (3, three_nights.records[-1].file.sha256)
    assert [part.previous for part in three_nights.records] == [
        None,
        *(part.file.sha256 for part in three_nights.records[:2]),
    ]


@QUICK
@given(place=st.data())
def test_a_changed_byte_of_any_stored_file_is_found(three_nights: Nights, place: Any) -> None:
    """Bundles, Provenance resources, artifacts and the public key."""
    file = place.draw(st.sampled_from(sorted((three_nights.tables / "files").glob("*/*"))))
    at = place.draw(st.integers(0, file.stat().st_size - 1))
    before = flipped(file, at, place.draw(st.integers(0, 7)))
    try:
        found = three_nights.verify()
    finally:
        file.write_bytes(before)

    assert not found.clean
    assert Outcome.MISMATCH in {one.outcome for one in found.findings}


def test_every_kind_of_stored_file_is_looked_at(nights: Nights) -> None:
    files = sorted((nights.tables / "files").glob("*/*"))
    assert {file.suffix for file in files} == {".json", ".jwk", ".parquet"}
    for file in files:
        before = flipped(file, file.stat().st_size // 2, 0)
        assert not nights.verify().clean, file
        file.write_bytes(before)
    assert nights.verify().clean


@QUICK
@given(place=st.data())
def test_a_changed_value_in_any_row_is_found(three_nights: Nights, place: Any) -> None:
    """The file is written anew, so that nothing but the value tells of it."""
    table = place.draw(st.sampled_from([f"entities/{TERMS}", f"metrics/{TERMS}", "notes"]))
    file = place.draw(st.sampled_from(data_files(three_nights, table)))
    before = file.read_bytes()
    rows = pl.read_parquet(file)
    counted_only = {"gold_unmapped"}  # what was left out of a note is no part of its digest
    filled = [c for c in rows.columns if rows[c].null_count() == 0 and c not in counted_only]
    column = place.draw(st.sampled_from(filled))
    row = place.draw(st.integers(0, rows.height - 1))
    changed = [
        _another(value) if at == row else value for at, value in enumerate(rows[column].to_list())
    ]
    rows.with_columns(pl.Series(column, changed, dtype=rows[column].dtype)).write_parquet(file)
    try:
        found = three_nights.verify()
    finally:
        file.write_bytes(before)

    assert Outcome.MISMATCH in {one.outcome for one in found.findings}


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return value[1:] if value else [dict.fromkeys(_fields(value))]
    return value + "x" if isinstance(value, str) else value + 1


def _fields(_: list[Any]) -> tuple[str, ...]:
    return ("start", "end", "label", "score", "concept")


@QUICK
@given(place=st.data())
def test_a_changed_byte_of_a_table_is_found_or_changes_no_row(
    three_nights: Nights, place: Any
) -> None:
    """Parquet holds bytes that no reader looks at; whatever a reader would see is compared."""
    table = place.draw(st.sampled_from([f"entities/{TERMS}", f"metrics/{TERMS}", "notes"]))
    file = place.draw(st.sampled_from(data_files(three_nights, table)))
    rows = pl.read_parquet(file)
    at = place.draw(st.integers(0, file.stat().st_size - 1))
    before = flipped(file, at, place.draw(st.integers(0, 7)))
    try:
        found = three_nights.verify()
        if found.clean:
            assert pl.read_parquet(file).equals(rows)
    finally:
        file.write_bytes(before)


def test_rows_in_another_order_are_no_alarm(nights: Nights) -> None:
    for table in (f"entities/{TERMS}", f"metrics/{TERMS}", "notes"):
        for file in data_files(nights, table):
            pl.read_parquet(file).reverse().write_parquet(file)

    assert said(nights.verify()) == []


def test_files_compacted_or_vacuumed_within_retention_are_no_alarm(nights: Nights) -> None:
    for table in (f"entities/{TERMS}", f"metrics/{TERMS}", "evaluations", "notes"):
        delta = DeltaTable(str(nights.tables / table))
        delta.optimize.compact()
        delta.vacuum(dry_run=False)
        delta.create_checkpoint()
    assert said(nights.verify()) == []


def test_a_version_vacuumed_beyond_retention_is_unreachable_and_a_told_purge_is_not(
    nights: Nights,
) -> None:
    notes = DeltaTable(str(nights.tables / "notes"))
    notes.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)

    found = nights.verify()
    lost = [one for one in found.findings if one.outcome is Outcome.UNREACHABLE]
    assert not found.clean
    assert lost == found.findings
    # Two old versions of the notes, and the entities that can only be told with them.
    assert [one.subject.split(" ")[0] for one in lost] == ["notes", f"entities/{TERMS}"] * 2

    told = Purge(
        "notes", notes.version(), "retention of the study", datetime(2026, 3, 1, tzinfo=UTC)
    )
    nights.workspace.purges.append([told])
    found = nights.verify()
    assert {one.outcome for one in found.findings} == {Outcome.PURGED}
    assert {one.says for one in found.findings} == {"deleted on 2026-03-01: retention of the study"}
    assert found.clean


def test_a_table_that_is_not_there_is_unreachable(nights: Nights) -> None:
    shutil.rmtree(nights.tables / "entities")

    found = nights.verify()

    assert {one.outcome for one in found.findings} == {Outcome.UNREACHABLE}
    assert len(found.findings) == 3


@pytest.mark.parametrize("night", [0, 1, 2], ids=["first", "middle", "last"])
def test_a_record_removed_from_the_chain_is_found(nights: Nights, night: int) -> None:
    gone = nights.records[night]
    nights.file(gone.file).unlink()
    DeltaTable(str(nights.tables / "evaluations")).delete(f"evaluation_id = '{gone.of_evaluation}'")

    found = nights.verify()

    assert len(found.records) == 2
    assert any(gone.file.sha256[:12] in line and "not here" in line for line in said(found))


def test_the_last_record_removed_with_its_kept_head_is_found_by_who_kept_its_digest(
    nights: Nights,
) -> None:
    gone = nights.records[2]
    DeltaTable(str(nights.tables / "evaluations")).delete(
        f"evaluation_id = '{gone.of_evaluation}' OR content LIKE '%{gone.of_evaluation}%'"
    )

    assert nights.verify().clean
    found = nights.verify(kept_elsewhere=[gone.file.sha256])

    assert said(found) == [
        f"mismatch: head: {gone.file.sha256[:12]} was kept elsewhere, and is not here"
    ]


def test_the_file_of_a_record_that_is_gone_is_a_mismatch(nights: Nights) -> None:
    nights.file(nights.records[1].file).unlink()
    assert any(
        line.startswith("mismatch: fhir_provenance_bundle.json") for line in said(nights.verify())
    )


def replaced(nights: Nights, change: Callable[[dict[str, Any]], None], key: SigningKey) -> None:
    """Put a record that somebody made in place of the last one, as one with the tables could."""
    last = nights.records[2]
    record = json.loads(nights.file(last.file).read_bytes())
    del record["signature"]
    del provenance_of(record)["signature"]
    change(record)
    workspace = nights.workspace
    again = signed(record, key)
    forged = ProvenancePart(
        file=workspace.files.put(last.file.name, canonical_bytes(again)),
        resource=workspace.files.put("fhir_provenance.json", canonical_bytes(provenance_of(again))),
        previous=last.previous,
        of_evaluation=last.of_evaluation,
        evaluation_digest=last.evaluation_digest,
        key_id=key.key_id,
        public_key=workspace.files.put(f"{key.key_id}.jwk", key.public),
    )
    DeltaTable(str(nights.tables / "evaluations")).delete(f"content LIKE '%{last.file.sha256}%'")
    workspace.records.append_provenance(last.of_evaluation, TERMS, "test-study", forged)


def better_score(record: dict[str, Any]) -> None:
    for entry in record["entry"]:
        for group in entry["resource"].get("group", []):
            if "measureScore" in group:
                group["measureScore"]["value"] = 0.99


def test_a_record_signed_anew_with_another_key_is_found_by_who_has_the_right_key(
    nights: Nights,
) -> None:
    replaced(nights, better_score, generate_key(nights.folder / "other.pem"))

    trusted = SigningKeys.read([public_path(nights.folder / "key.pem")])

    assert nights.verify().clean  # nothing here says whose key is the right one
    found = nights.verify(keys=trusted)
    assert {one.subject for one in found.findings} == {"signature"}
    assert not found.clean


def test_without_the_public_key_a_signature_was_not_checked(nights: Nights) -> None:
    (key,) = (nights.tables / "files").glob("*/*.jwk")
    key.unlink()

    found = nights.verify()

    assert {one.signature for one in found.records} == {Signature.UNCHECKED}
    assert {(one.outcome, one.subject) for one in found.findings} == {
        (Outcome.UNREACHABLE, "signature"),
        (Outcome.MISMATCH, "key"),
    }


def test_an_unsigned_record_is_told_and_refused_only_where_a_key_is_asked_for(
    nights: Nights,
) -> None:
    unsigned = workspace_in(nights.folder / "home", nights.folder / "data")
    write_notes(nights.folder / "data", NOTES[:3])
    evaluated(unsigned, TERMS, "run-4")

    found = nights.verify()
    assert found.clean
    assert found.records[-1].signature is Signature.UNSIGNED

    trusted = SigningKeys.read([public_path(nights.folder / "key.pem")])
    (finding,) = nights.verify(keys=trusted).findings
    assert finding.says == "it is not signed, and a key was asked for"


def test_every_mismatch_is_listed_at_once(nights: Nights) -> None:
    first, second, third = nights.records
    flipped(nights.file(first.file), 2_000, 1)
    nights.file(second.resource).unlink()
    shutil.rmtree(nights.tables / f"metrics/{TERMS}")
    DeltaTable(str(nights.tables / "evaluations")).delete(
        f"evaluation_id = '{third.of_evaluation}'"
    )

    lines = "\n".join(said(nights.verify()))

    assert "record: its bytes are not those that were stored" in lines
    assert "fhir_provenance.json" in lines
    assert f"unreachable: metrics/{TERMS}" in lines
    assert f"{third.file.sha256[:12]} was recorded, and is not here" in lines


def test_a_record_handed_out_is_held_against_the_deployment(nights: Nights, tmp_path: Path) -> None:
    exported = tmp_path / "record.json"
    content = nights.file(nights.records[0].file).read_bytes()
    exported.write_bytes(content)
    assert said(verify_file(nights.workspace, exported)) == []

    exported.write_bytes(content.replace(b"Test Hospital", b"Fake Hospital"))
    lines = said(verify_file(nights.workspace, exported))
    assert any("the record of this evaluation is another one" in line for line in lines)
    assert any("Bundle.signature does not fit" in line for line in lines)

    exported.write_bytes(b"{}")
    assert said(verify_file(nights.workspace, exported)) == [
        "mismatch: record: it is not the record of an evaluation",
        "unreachable: record: this deployment knows no such evaluation, nor its digest",
    ]


def test_a_second_record_of_one_evaluation_keeps_the_chain_whole(nights: Nights) -> None:
    """A step that is killed after it has written a record is run again and writes another."""
    write_notes(nights.folder / "data", NOTES[:3])
    evaluated(nights.workspace, TERMS, "run-4")
    from hc_orchestration.resources.recording import record_provenance
    from hc_orchestration_tests.recorded import DirectStep

    _, again = record_provenance(DirectStep(nights.workspace, TERMS, "run-4"))

    found = nights.verify()
    assert said(found) == []
    assert found.chains[0].head == again.file.sha256


@pytest.mark.integration
def test_many_records_are_examined_in_processes_with_the_same_result(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    flipped(nights.file(nights.records[1].file), 2_000, 1)
    one_process = nights.verify()

    monkeypatch.setattr(verification, "_FEW", 2)

    assert nights.verify() == one_process
    assert not one_process.clean
