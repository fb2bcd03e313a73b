"""Bad input of every kind: it costs a quarantine row, the rest is read, and the counts add up."""

import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hc_orchestration.corpora.notes import RejectReason
from hc_orchestration.corpora.sources import Format
from hc_orchestration_tests.corpora.formats import (
    FILES,
    Reading,
    attachment,
    bioc_json,
    bioc_xml,
    bundle,
    csv_bytes,
    document_reference,
    jsonl,
    parquet_bytes,
    pubtator,
    write,
)

SENTINEL = "zyxomatosis"
LONG = f"{SENTINEL} " * 430_000  # 5 MB


class Case(NamedTuple):
    """Bad files beside the good one of the format, and the reasons that they are rejected for."""

    name: str
    form: Format
    files: dict[str, bytes]
    reasons: list[str]


def line(**record: Any) -> bytes:
    return json.dumps({"note_id": "bad", "text": SENTINEL, **record}).encode()


def span(start: Any, end: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"start": start, "end": end, "label": "DISEASE", **more}]


def json_case(name: str, content: bytes, *reasons: str) -> Case:
    return Case(f"jsonl {name}", "jsonl", {"bad.jsonl": content}, list(reasons))


def brat_case(name: str, text: bytes, marks: bytes, *reasons: str) -> Case:
    return Case(f"brat {name}", "brat", {"bad.txt": text, "bad.ann": marks}, list(reasons))


def bioc_case(name: str, content: bytes, *reasons: str) -> Case:
    return Case(f"bioc {name}", "bioc", {"bad.xml": content}, list(reasons))


def fhir_case(name: str, resource: dict[str, Any], *reasons: str) -> Case:
    return Case(f"fhir {name}", "fhir", {"bad.json": bundle(resource)}, list(reasons))


def csv_case(name: str, content: bytes, *reasons: str) -> Case:
    return Case(f"csv {name}", "csv", {"bad.csv": content}, list(reasons))


PASSAGE = "<passage><offset>{}</offset><text>{}</text>{}</passage>"


def bioc_document(*passages: str, note_id: str = "<id>bad</id>") -> bytes:
    return f"<collection><document>{note_id}{''.join(passages)}</document></collection>".encode()


def bioc_annotation(offset: object, length: object, kind: str = "DISEASE") -> str:
    return (
        f"<annotation id='1'><infon key='type'>{kind}</infon>"
        f"<location offset='{offset}' length='{length}'/><text>{SENTINEL}</text></annotation>"
    )


BOMB = (
    b"<?xml version='1.0'?><!DOCTYPE collection [<!ENTITY a 'zyxomatosis'>"
    + b"".join(f"<!ENTITY {chr(98 + i)} '{f'&{chr(97 + i)};' * 20}'>".encode() for i in range(10))
    + b"]><collection><document><id>&k;</id></document></collection>"
)
EXTERNAL = (
    b"<!DOCTYPE collection [<!ENTITY x SYSTEM 'file:///etc/hostname'>]>"
    b"<collection><document><id>bad</id><passage><offset>0</offset><text>&x;</text></passage>"
    b"</document></collection>"
)

CASES = [
    json_case("latin-1 bytes", b'{"note_id": "bad", "text": "na\xefve"}', "undecodable_bytes"),
    json_case("UTF-16", line().decode().encode("utf-16"), "undecodable_bytes"),
    json_case("overlong UTF-8", b'{"note_id": "bad", "text": "\xc0\xaf"}', "undecodable_bytes"),
    json_case("broken in the middle", line()[:-4] + b"\n" + line(), "broken_json"),
    json_case("not JSON", f"{SENTINEL}\n".encode(), "broken_json"),
    json_case("deep nesting", b'{"a":' * 50_000, "broken_json"),
    json_case("a list", b'["bad", "zyxomatosis"]', "not_a_note"),
    json_case("no id", b'{"text": "zyxomatosis"}', "missing_id"),
    json_case("blank id", line(note_id="  "), "missing_id"),
    json_case("id of another type", line(note_id=["bad"]), "missing_id"),
    json_case("no text", b'{"note_id": "bad"}', "missing_text"),
    json_case("text of another type", line(text={"a": SENTINEL}), "missing_text"),
    json_case("empty text", line(text=""), "empty_text"),
    json_case("blank text", line(text=" \u00a0\u2003\n\t"), "empty_text"),
    json_case("NUL", line(text=f"{SENTINEL}\0"), "nul_character"),
    json_case("NUL in the id", line(note_id="b\0d"), "nul_character"),
    json_case("lone surrogate", line(text=f"{SENTINEL} \ud83d"), "lone_surrogate"),
    json_case("5 MB note", line(text=LONG), "over_long"),
    json_case("span beyond the end", line(spans=span(0, 99)), "span_out_of_range"),
    json_case("reversed span", line(spans=span(5, 2)), "bad_span"),
    json_case("empty span", line(spans=span(5, 5)), "bad_span"),
    json_case("negative span", line(spans=span(-1, 5)), "bad_span"),
    json_case("span as text", line(spans=span("0", "5")), "bad_span"),
    json_case("span in fractions", line(spans=span(0.5, 5)), "bad_span"),
    json_case("span of enormous numbers", line(spans=span(0, 10**40)), "span_out_of_range"),
    json_case("other quote", line(spans=span(0, 5, text="other")), "span_text_differs"),
    json_case("spans as an object", line(spans={"start": 0}), "bad_span"),
    json_case("doccano triple of two", b'{"id": 1, "text": "x", "label": [[0, 1]]}', "bad_span"),
    json_case(
        "same id, other text", line() + b"\n" + line(text="x"), "duplicate_id_different_content"
    ),
    json_case("id of another file", jsonl() + line(note_id="n1"), "duplicate_id_different_content"),
    Case(
        "jsonl gzip cut short",
        "jsonl",
        {"x.jsonl.gz": gzip.compress(line() * 99)[:-9]},
        ["broken_file"],
    ),
    Case("jsonl gzip that is none", "jsonl", {"x.jsonl.gz": line()}, ["broken_file"]),
    csv_case("no column for the text", b"note_id,body\nbad,zyxomatosis\n", "unknown_column"),
    csv_case("header given twice", b"note_id,text,text\nbad,a,b\n", "unknown_column"),
    csv_case("empty file", b"", "unknown_column"),
    csv_case("UTF-16", "note_id,text\nbad,zyxomatosis\n".encode("utf-16"), "unknown_column"),
    csv_case("latin-1 cell", b"note_id,text\nbad,na\xefve\nbad2,fine\n", "undecodable_bytes"),
    csv_case("row too short", b"note_id,text\nbad\nbad2,fine\n", "broken_line"),
    csv_case("row too long", b"note_id,text\nbad,a,b\nbad2,fine\n", "broken_line"),
    csv_case(
        "quote never closed",
        b'note_id,text\nbad2,fine\nbad,"zyxomatosis\n\n',
    ),
    csv_case("old Mac line ends", b"note_id,text\rbad,zyxomatosis\r", "unknown_column"),
    csv_case("NUL", b"note_id,text\nbad,zyx\x00omatosis\n", "nul_character"),
    csv_case("empty cells", b"note_id,text\n,zyxomatosis\nbad,\n", "missing_id", "empty_text"),
    csv_case("spans that are no JSON", b"note_id,text,spans\nbad,zyxomatosis,[{\n", "bad_span"),
    Case("parquet that is none", "parquet", {"bad.parquet": b"PAR1zyxomatosis"}, ["broken_file"]),
    Case(
        "parquet cut short",
        "parquet",
        {"bad.parquet": parquet_bytes([{"note_id": "bad", "text": SENTINEL}])[:-9]},
        ["broken_file"],
    ),
    Case(
        "parquet without a text",
        "parquet",
        {"bad.parquet": parquet_bytes([{"note_id": "bad", "body": SENTINEL}])},
        ["unknown_column"],
    ),
    Case(
        "parquet with nulls and numbers",
        "parquet",
        {
            "bad.parquet": parquet_bytes(
                [{"note_id": None, "text": "x"}, {"note_id": "b", "text": None}]
            ),
            "b2.parquet": parquet_bytes([{"note_id": "bad", "text": 7}]),
        },
        ["missing_text", "missing_id", "missing_text"],
    ),
    Case("text empty", "text", {"bad.txt": b""}, ["empty_text"]),
    Case("text latin-1", "text", {"bad.txt": b"na\xefve"}, ["undecodable_bytes"]),
    Case("text NUL", "text", {"bad.txt": b"zyx\x00"}, ["nul_character"]),
    Case("text 5 MB", "text", {"bad.txt": LONG.encode()}, ["over_long"]),
    brat_case("line that is none", b"zyxomatosis", b"T1 DISEASE 0 3\n", "broken_line"),
    brat_case("mention reversed", b"zyxomatosis", b"T1\tDISEASE 5 2\tzyx\n", "bad_span"),
    brat_case("beyond the end", b"zyxomatosis", b"T1\tDISEASE 0 99\tzyx\n", "span_out_of_range"),
    brat_case("other quote", b"zyxomatosis", b"T1\tDISEASE 0 3\tabc\n", "span_text_differs"),
    brat_case(
        "annotations not UTF-8", b"zyxomatosis", b"T1\tDISEASE 0 3\tzy\xff\n", "undecodable_bytes"
    ),
    brat_case(
        "enormous offsets",
        b"zyxomatosis",
        b"T1\tDISEASE 0 " + b"9" * 5000 + b"\tz\n",
        "broken_line",
    ),
    Case(
        "pubtator mention without fields",
        "pubtator",
        {"bad.txt": b"9|t|zyx\n9\t0\t3\n"},
        ["broken_line"],
    ),
    Case(
        "pubtator other id",
        "pubtator",
        {"bad.txt": b"9|t|zyx\n8\t0\t3\tzyx\tDISEASE\tD\n"},
        ["broken_line"],
    ),
    Case(
        "pubtator other quote",
        "pubtator",
        {"bad.txt": b"9|t|zyx\n9\t0\t3\tabc\tDISEASE\tD\n"},
        ["span_text_differs"],
    ),
    bioc_case("bomb", BOMB, "broken_xml"),
    bioc_case("external entity", EXTERNAL, "broken_xml"),
    bioc_case("not closed", bioc_xml()[:-20], "broken_xml"),
    bioc_case("not XML", b"zyxomatosis", "broken_xml"),
    bioc_case("no id", bioc_document(PASSAGE.format(0, SENTINEL, ""), note_id=""), "missing_id"),
    bioc_case("no passage", bioc_document(), "missing_text"),
    bioc_case(
        "offset that is no number", bioc_document(PASSAGE.format("x", SENTINEL, "")), "not_a_note"
    ),
    bioc_case(
        "passages that overlap",
        bioc_document(PASSAGE.format(0, SENTINEL, ""), PASSAGE.format(3, SENTINEL, "")),
        "span_out_of_range",
    ),
    bioc_case(
        "passage light years away",
        bioc_document(PASSAGE.format(0, SENTINEL, ""), PASSAGE.format(10**15, SENTINEL, "")),
        "span_out_of_range",
    ),
    bioc_case(
        "annotation beyond the end",
        bioc_document(PASSAGE.format(0, SENTINEL, bioc_annotation(5, 90))),
        "span_out_of_range",
    ),
    bioc_case(
        "annotation of another text",
        bioc_document(PASSAGE.format(0, "other text", bioc_annotation(0, 5))),
        "span_text_differs",
    ),
    Case("bioc JSON cut short", "bioc", {"bad.json": bioc_json()[:-30]}, ["broken_json"]),
    Case(
        "bioc JSON of another kind",
        "bioc",
        {"bad.json": b'{"documents": [1, {"id": 2}]}'},
        ["not_a_note", "missing_id"],
    ),
    fhir_case("no attachment", document_reference(content=[]), "missing_text"),
    fhir_case(
        "attachment by URL",
        document_reference(
            content=[{"attachment": {"contentType": "text/plain", "url": "http://x"}}]
        ),
        "missing_text",
    ),
    fhir_case(
        "attachment that is no base64",
        document_reference(content=[{"attachment": {"contentType": "text/plain", "data": "%%%"}}]),
        "broken_base64",
    ),
    fhir_case(
        "attachment not UTF-8",
        document_reference(content=[{"attachment": attachment(b"na\xefve")}]),
        "undecodable_bytes",
    ),
    fhir_case(
        "attachment in no known charset",
        document_reference(content=[{"attachment": attachment(b"x", "text/plain; charset=rot13")}]),
        "undecodable_bytes",
    ),
    fhir_case("no id", document_reference(id=None), "missing_id"),
    fhir_case(
        "entered in error", document_reference(status="entered-in-error"), "entered_in_error"
    ),
    fhir_case("no resource type", {"id": "bad"}, "not_a_note"),
    Case(
        "fhir bundle cut short",
        "fhir",
        {"bad.json": bundle(document_reference(id="x"))[:-3]},
        ["broken_json"],
    ),
    Case("fhir line broken", "fhir", {"bad.ndjson": b'{"resourceType": "Docu\n'}, ["broken_json"]),
    Case(
        "mimic without its columns",
        "mimic",
        {"bad.csv": csv_bytes([{"note_id": "bad", "text": "x"}])},
        ["unknown_column"],
    ),
]


def test_there_are_at_least_forty_cases() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 40


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_bad_input_is_quarantined_and_the_rest_is_read(tmp_path: Path, case: Case) -> None:
    reading = Reading(write(tmp_path, {**FILES[case.form], **case.files}), case.form)
    assert sorted(reading.reasons) == sorted(case.reasons)
    assert reading.adds_up
    good = Reading(write(tmp_path / "good", FILES[case.form]), case.form).notes[0]
    assert any(good.text == note.text for note in reading.notes)
    assert SENTINEL not in repr(reading.rejects)
    assert all(len(reject.digest) == 64 for reject in reading.rejects)


GOOD = [
    ("right-to-left", "מטופל עם דלקת ריאות, \u200fכאב\u200e."),
    ("emoji", "Pain 😖👨‍👩‍👧 since 🗓️."),
    ("zero-width", "as\u200bpirin \ufeffdaily \u2060."),
    ("combining marks", "de\u0301pression"),
    ("Windows line ends", "Line one.\r\nLine two.\r\n"),
    ("old Mac line ends", "Line one.\rLine two."),
    ("controls", "Page one.\x0cPage two.\x1b[31m\x85\u2028end"),
    ("formula", "=cmd|' /C calc'!A0"),
    ("markup", "<script>alert(1)</script> &amp; {{ x }}"),
    ("path", "../../x"),
]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "text", "brat", "fhir"])
@pytest.mark.parametrize(("name", "text"), GOOD, ids=[name for name, _ in GOOD])
def test_unusual_text_is_kept_as_it_is(tmp_path: Path, form: Format, name: str, text: str) -> None:
    rows = [{"note_id": name, "text": text}]
    files = {
        "jsonl": {"a.jsonl": line(text=text)},
        "csv": {"a.csv": csv_bytes(rows)},
        "parquet": {"a.parquet": parquet_bytes(rows)},
        "text": {"a.txt": text.encode()},
        "brat": {"a.txt": text.encode(), "a.ann": b""},
        "fhir": {"a.json": bundle(document_reference(text))},
    }[form]
    reading = Reading(write(tmp_path, files), form)
    assert reading.reasons == []
    assert [note.text for note in reading.notes] == [text]


@pytest.mark.parametrize("form", ["text", "brat"])
def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path, form: Format) -> None:
    write(tmp_path, {"secret/passwords.txt": SENTINEL.encode()})
    folder = write(tmp_path / "notes", FILES[form])
    (folder / "link.txt").symlink_to(Path("../secret/passwords.txt"))
    reading = Reading(folder, form)
    assert reading.reasons == ["outside_folder"]
    assert reading.adds_up
    assert len(reading.notes) == 1


def test_an_annotation_file_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path, {"secret.txt": b"T1\tDISEASE 0 3\tflu\n"})
    folder = write(tmp_path / "notes", {"bad.txt": b"flu", "good.txt": b"fine"})
    (folder / "bad.ann").symlink_to(Path("../secret.txt"))
    reading = Reading(folder, "brat")
    assert reading.reasons == ["outside_folder"]
    assert [note.note_id for note in reading.notes] == ["good"]


def test_a_file_name_with_control_characters_is_shown_without_them(tmp_path: Path) -> None:
    write(tmp_path, {"a\n\x1b[31mb.jsonl": b"nonsense"})
    (reject,) = Reading(tmp_path, "jsonl").rejects
    assert reject.position == "a??[31mb.jsonl line 1"


@pytest.mark.parametrize("form", ["jsonl", "csv", "text", "fhir"])
def test_the_longest_note_is_what_the_study_says(tmp_path: Path, form: Format) -> None:
    reading = Reading(write(tmp_path, FILES[form]), form, longest_note=10)
    assert (reading.reasons, reading.notes) == ([RejectReason.OVER_LONG.value], [])


def test_a_line_without_end_is_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hc_orchestration.corpora import jsonl as module
    from hc_orchestration.corpora.lines import bounded_lines, too_long

    monkeypatch.setattr(module, "bounded_lines", lambda stream: bounded_lines(stream, 100))
    monkeypatch.setattr(module, "too_long", lambda content: too_long(content, 100))
    content = line(text="x" * 1000) + b"\n" + line(text="fine") + b"\n"
    reading = Reading(write(tmp_path, {"a.jsonl": content}), "jsonl")
    assert reading.reasons == ["over_long"]
    assert [note.text for note in reading.notes] == ["fine"]


def test_pubtator_block_is_rejected_alone(tmp_path: Path) -> None:
    blocks = [b"8|t|nonsense\n8\tx\n", pubtator(), b"9|t|Fine.\n"]
    reading = Reading(write(tmp_path, {"a.txt": b"\n".join(blocks)}), "pubtator")
    assert (reading.reasons, len(reading.notes)) == (["broken_line"], 2)
