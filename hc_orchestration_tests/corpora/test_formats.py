"""Each format gives back the text, the mentions and the attributes that were written."""

import gzip
import json
from pathlib import Path

import bioc
import pytest
from bioc import biocxml

from hc_orchestration.corpora.sources import Format
from hc_orchestration_tests.corpora.formats import (
    ANNOTATED,
    FILES,
    FORMATS,
    MENTIONS,
    SALT,
    TEXT,
    Reading,
    ann,
    attachment,
    bioc_json,
    bundle,
    csv_bytes,
    document_reference,
    mimic_rows,
    parquet_bytes,
    surfaces,
    table,
    write,
)


@pytest.mark.parametrize("form", FORMATS)
def test_text_comes_back_as_it_was_written(tmp_path: Path, form: Format) -> None:
    reading = Reading(write(tmp_path, FILES[form]), form)
    assert reading.rejects == []
    (note,) = reading.notes
    assert note.text == (f"{TEXT}\n" if form == "pubtator" else TEXT)
    assert (note.gold is not None) == (form in ANNOTATED)


@pytest.mark.parametrize("form", ANNOTATED)
def test_slices_of_the_text_are_the_annotated_strings(tmp_path: Path, form: Format) -> None:
    (note,) = Reading(write(tmp_path, FILES[form]), form).notes
    assert surfaces(note) == list(MENTIONS)


@pytest.mark.parametrize("form", FORMATS)
def test_packed_files_are_read_like_plain_ones(tmp_path: Path, form: Format) -> None:
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    write(plain, FILES[form])
    write(packed, {f"{name}.gz": gzip.compress(body) for name, body in FILES[form].items()})
    one, other = Reading(plain, form), Reading(packed, form)
    assert one.ingestion.digest == other.ingestion.digest
    assert other.counts.stored == 1


def test_bioc_json_gives_the_note_of_bioc_xml(tmp_path: Path) -> None:
    xml = Reading(write(tmp_path / "xml", FILES["bioc"]), "bioc")
    as_json = Reading(write(tmp_path / "json", {"good.json": bioc_json()}), "bioc")
    assert as_json.ingestion.digest == xml.ingestion.digest
    assert as_json.notes[0].attributes == (("note_type", "ed"),)


def test_bioc_passages_stand_at_their_offsets_and_pieces_of_a_mention_are_counted(
    tmp_path: Path,
) -> None:
    title, abstract = bioc.BioCPassage(), bioc.BioCPassage()
    title.offset, title.text = 0, "Flu."
    abstract.offset, abstract.text = 6, "Left and right knee pain."
    for label, offsets in (("DISEASE", [(21, 9)]), ("DISEASE", [(6, 4), (21, 9)])):
        annotation = bioc.BioCAnnotation()
        annotation.id, annotation.text = "1", "knee pain"
        annotation.infons["type"] = label
        for offset, length in offsets:
            annotation.add_location(bioc.BioCLocation(offset, length))
        abstract.add_annotation(annotation)
    document, collection = bioc.BioCDocument(), bioc.BioCCollection()
    document.id = "n1"
    document.passages += [title, abstract]
    collection.source = collection.date = collection.key = ""
    collection.add_document(document)
    content = str(biocxml.dumps(collection)).encode()
    reading = Reading(write(tmp_path, {"a.xml": content}), "bioc")
    assert reading.notes[0].text == "Flu.\n Left and right knee pain."
    assert surfaces(reading.notes[0]) == [("knee pain", "DISEASE")]
    assert reading.counts.gold_discontinuous == 1


def test_brat_discontinuous_mentions_are_left_out_and_counted(tmp_path: Path) -> None:
    marks = (
        ann()
        + b"T9\tDISEASE 0 6;8 10\tSevere fl\n"
        + b"R1\tTreats Arg1:T1 Arg2:T2\nE1\tEvent:T1\nA1\tNegated T1\n"
        + b"#1\tAnnotatorNotes T1\t../../x\n"
    )
    reading = Reading(write(tmp_path, {"n1.txt": TEXT.encode(), "n1.ann": marks}), "brat")
    assert surfaces(reading.notes[0]) == list(MENTIONS)
    assert reading.counts.gold_discontinuous == 1


def test_brat_text_without_annotations_is_not_annotated_and_with_none_has_none(
    tmp_path: Path,
) -> None:
    files = {"a/unread.txt": b"Flu.", "a/clear.txt": b"Well.", "a/clear.ann": b""}
    notes = {note.note_id: note.gold for note in Reading(write(tmp_path, files), "brat").notes}
    assert notes == {"a/unread": None, "a/clear": ()}


def test_prodigy_lines_are_read_and_those_not_accepted_quarantined(tmp_path: Path) -> None:
    task = {
        "text": "Severe flu.",
        "_input_hash": 7,
        "_task_hash": -9,
        "tokens": [{"text": "Severe", "start": 0, "end": 6, "id": 0}],
        "spans": [{"start": 7, "end": 10, "label": "DISEASE", "token_start": 1, "token_end": 1}],
        "meta": {"note_type": "ed", "extra": {"deep": "flu"}},
        "answer": "accept",
        "_session_id": "ann-1",
    }
    named = {**task, "meta": {"id": "n2"}, "text": "Severe gou"}
    lines = [task, named, {**task, "answer": "reject"}]
    content = "\n".join(map(json.dumps, lines)).encode()
    reading = Reading(write(tmp_path, {"a.jsonl": content}), "jsonl")
    assert [note.note_id for note in reading.notes] == ["7", "n2"]
    assert reading.notes[0].attributes == (("note_type", "ed"),)
    assert surfaces(reading.notes[0]) == [("flu", "DISEASE")]
    assert reading.reasons == ["not_accepted"]


@pytest.mark.parametrize(
    "record",
    [
        {"id": 3, "text": "Severe flu.", "label": [[7, 10, "DISEASE"]]},
        {"id": 3, "data": "Severe flu.", "labels": [[7, 10, "DISEASE"]]},
        {
            "id": 3,
            "text": "Severe flu.",
            "entities": [{"id": 1, "label": "DISEASE", "start_offset": 7, "end_offset": 10}],
            "relations": [],
            "Comments": [],
        },
    ],
    ids=["label", "labels", "entities"],
)
def test_doccano_lines_are_read(tmp_path: Path, record: object) -> None:
    (note,) = Reading(write(tmp_path, {"a.jsonl": json.dumps(record).encode()}), "jsonl").notes
    assert (note.note_id, note.attributes) == ("3", ())
    assert surfaces(note) == [("flu", "DISEASE")]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_columns_of_a_table_are_taken_by_their_mapping_and_no_others(
    tmp_path: Path, form: Format
) -> None:
    rows = [
        {"row": "7", "body": "Flu.", "service": "ED", "mrn": "12", "secret": "Flu."},
        {"row": "8", "body": "Gout.", "service": "", "mrn": "12", "secret": "Gout."},
    ]
    files = {"a.csv": csv_bytes(rows), "a.parquet": parquet_bytes(rows)}
    columns = {"note_id": "row", "text": "body", "specialty": "service", "patient": "mrn"}
    reading = Reading(write(tmp_path, files), form, columns=columns)
    patient = SALT.of_patient("12")
    assert [(note.note_id, note.text) for note in reading.notes] == [("7", "Flu."), ("8", "Gout.")]
    assert dict(reading.notes[0].attributes) == {"specialty": "ED", "patient": patient}
    assert dict(reading.notes[1].attributes)["patient"] == patient


def test_a_cell_may_hold_line_ends_quotes_and_commas(tmp_path: Path) -> None:
    text = 'BP 120/80,\r\n"stable"\n\nPlan: rest'
    reading = Reading(write(tmp_path, {"a.csv": csv_bytes(table(text)[:1])}), "csv")
    assert reading.reasons == ["span_out_of_range"]
    plain = [{"note_id": "n1", "text": text}]
    (note,) = Reading(write(tmp_path, {"a.csv": csv_bytes(plain)}), "csv").notes
    assert note.text == text


def test_parquet_with_numbers_as_ids_and_lists_of_spans(tmp_path: Path) -> None:
    rows = [{"note_id": 7, "text": "Flu.", "spans": [{"start": 0, "end": 3, "label": "DISEASE"}]}]
    (note,) = Reading(write(tmp_path, {"a.parquet": parquet_bytes(rows)}), "parquet").notes
    assert note.note_id == "7"
    assert surfaces(note) == [("Flu", "DISEASE")]


def test_fhir_bundle_gives_the_text_attachments(tmp_path: Path) -> None:
    report = {
        "resourceType": "DiagnosticReport",
        "id": "r1",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "99999-9"}]},
        "presentedForm": [
            attachment(b"%PDF", "application/pdf"),
            attachment("Clear lungs.".encode("latin-1"), "text/plain; charset=ISO-8859-1"),
            attachment("Second text."),
        ],
    }
    setting = {"practiceSetting": {"coding": [{"code": "394579002", "display": "Cardiology"}]}}
    content = bundle({"resourceType": "Patient"}, document_reference(context=setting), report)
    reading = Reading(write(tmp_path, {"b.json": content}), "fhir")
    assert [note.note_id for note in reading.notes] == ["n1", "r1#1", "r1#2"]
    assert dict(reading.notes[0].attributes) == {
        "note_type": "discharge_summary",
        "loinc": "18842-5",
        "specialty": "Cardiology",
        "patient": SALT.of_patient("Patient/p-77"),
    }
    assert dict(reading.notes[1].attributes)["note_type"] == "loinc_99999-9"
    assert all(note.gold is None for note in reading.notes)


def test_fhir_bulk_export_and_a_single_resource_are_read(tmp_path: Path) -> None:
    lines = [document_reference(id="a"), {"resourceType": "Patient"}, document_reference(id="b")]
    write(
        tmp_path,
        {
            "DocumentReference.ndjson": "\n".join(map(json.dumps, lines)).encode(),
            "one.json": json.dumps(document_reference(id="c"), indent=2).encode(),
        },
    )
    assert [note.note_id for note in Reading(tmp_path, "fhir").notes] == ["a", "b", "c"]


def test_mimic_ids_are_stored_as_salted_digests_only(tmp_path: Path) -> None:
    reading = Reading(write(tmp_path, {"discharge.csv": csv_bytes(mimic_rows())}), "mimic")
    (note,) = reading.notes
    assert note.note_id == SALT.of("10000032-DS-21")
    assert dict(note.attributes) == {
        "note_type": "discharge_summary",
        "patient": SALT.of_patient("10000032"),
    }
    assert "10000032" not in repr(note)
    assert "2180" not in repr(note)


def test_a_mimic_note_given_with_another_text_is_named_by_its_pseudonym(tmp_path: Path) -> None:
    rows = [*mimic_rows(), *mimic_rows("Another text.")]
    reading = Reading(write(tmp_path, {"discharge.csv": csv_bytes(rows)}), "mimic")
    assert reading.reasons == ["duplicate_id_different_content"]
    assert "10000032" not in repr(reading.rejects)


def test_a_patient_is_no_note_of_the_same_id() -> None:
    assert SALT.of("7") != SALT.of_patient("7") != SALT.of_file("7")


def test_fhir_resources_of_other_kinds_are_counted_by_kind(tmp_path: Path) -> None:
    patient, other = {"resourceType": "Patient"}, {"resourceType": "free text of a note"}
    read = Reading(
        write(tmp_path, {"a.json": bundle(patient, document_reference(), patient, other)}), "fhir"
    )
    assert read.counts.passed_over == {"Patient": 2}
    assert (read.counts.read, read.reasons) == (2, ["not_a_note"])
    assert read.adds_up
