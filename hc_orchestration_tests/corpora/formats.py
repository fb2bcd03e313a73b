"""One small corpus in every format: what each file looks like, and how to read a folder of them."""

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any, get_args

import bioc
import polars as pl
from bioc import biocjson, biocxml

from hc_orchestration.corpora.ingest import CorpusNote, Ingestion
from hc_orchestration.corpora.notes import Reject
from hc_orchestration.corpora.pseudonyms import Pseudonyms
from hc_orchestration.corpora.sources import CorpusSource, Format

TEXT = "Severe flu. 😷 Took aspirin\u200b for naïve \u200fדלקת\u200e pain."
MENTIONS = (("flu", "DISEASE"), ("aspirin", "CHEMICAL"), ("דלקת", "DISEASE"))
SPANS = tuple((TEXT.index(word), TEXT.index(word) + len(word), label) for word, label in MENTIONS)
SALT = Pseudonyms(b"sixteen bytes ok")
FORMATS: tuple[Format, ...] = get_args(Format)
ANNOTATED: tuple[Format, ...] = ("jsonl", "csv", "parquet", "brat", "pubtator", "bioc")


def jsonl(text: str = TEXT, spans: Any = SPANS) -> bytes:
    marks = [{"start": a, "end": b, "label": label, "text": text[a:b]} for a, b, label in spans]
    return json.dumps({"note_id": "n1", "text": text, "spans": marks}).encode() + b"\n"


def table(text: str = TEXT) -> list[dict[str, str]]:
    marks = [{"start": a, "end": b, "label": label} for a, b, label in SPANS]
    return [{"note_id": "n1", "text": text, "note_type": "ed", "spans": json.dumps(marks)}]


def csv_bytes(rows: list[dict[str, str]]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def parquet_bytes(rows: list[dict[str, Any]]) -> bytes:
    stream = io.BytesIO()
    pl.DataFrame(rows).write_parquet(stream)
    return stream.getvalue()


def ann(text: str = TEXT, spans: Any = SPANS) -> bytes:
    lines = [
        f"T{i}\t{label} {a} {b}\t{text[a:b]}\n" for i, (a, b, label) in enumerate(spans, start=1)
    ]
    return "".join(lines).encode()


def pubtator(title: str = TEXT, abstract: str = "", spans: Any = SPANS) -> bytes:
    text = f"{title}\n{abstract}"
    lines = [f"1\t{a}\t{b}\t{text[a:b]}\t{label}\tD1" for a, b, label in spans]
    return "\n".join([f"1|t|{title}", f"1|a|{abstract}", *lines, ""]).encode()


def bioc_collection(text: str = TEXT, spans: Any = SPANS) -> bioc.BioCCollection:
    passage = bioc.BioCPassage()
    passage.offset, passage.text = 0, text
    for number, (start, end, label) in enumerate(spans):
        annotation = bioc.BioCAnnotation()
        annotation.id, annotation.text = str(number), text[start:end]
        annotation.infons["type"] = label
        annotation.add_location(bioc.BioCLocation(start, end - start))
        passage.add_annotation(annotation)
    document = bioc.BioCDocument()
    document.id = "n1"
    document.infons["note_type"] = "ed"
    document.add_passage(passage)
    collection = bioc.BioCCollection()
    collection.source, collection.date, collection.key = "tests", "2026", "none"
    collection.add_document(document)
    return collection


def bioc_xml(text: str = TEXT, spans: Any = SPANS) -> bytes:
    return str(biocxml.dumps(bioc_collection(text, spans))).encode()


def bioc_json(text: str = TEXT, spans: Any = SPANS) -> bytes:
    return str(biocjson.dumps(bioc_collection(text, spans))).encode()


def attachment(text: str | bytes, kind: str = "text/plain; charset=utf-8") -> dict[str, str]:
    content = text.encode() if isinstance(text, str) else text
    return {"contentType": kind, "data": base64.b64encode(content).decode()}


def document_reference(text: str = TEXT, **changed: Any) -> dict[str, Any]:
    coding = {"system": "http://loinc.org", "code": "18842-5"}
    return {
        "resourceType": "DocumentReference",
        "id": "n1",
        "status": "current",
        "type": {"coding": [{"system": "urn:other", "code": "x"}, coding]},
        "subject": {"reference": "Patient/p-77"},
        "content": [{"attachment": attachment(text)}],
        **changed,
    }


def bundle(*resources: dict[str, Any]) -> bytes:
    entries = [{"fullUrl": "urn:uuid:1", "resource": resource} for resource in resources]
    return json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}).encode()


def mimic_rows(text: str = TEXT) -> list[dict[str, str]]:
    return [
        {
            "note_id": "10000032-DS-21",
            "subject_id": "10000032",
            "hadm_id": "22595853",
            "note_type": "DS",
            "note_seq": "21",
            "charttime": "2180-05-07 00:00:00",
            "storetime": "2180-05-09 15:26:00",
            "text": text,
        }
    ]


FILES: dict[Format, dict[str, bytes]] = {
    "jsonl": {"good.jsonl": jsonl()},
    "csv": {"good.csv": csv_bytes(table())},
    "parquet": {"good.parquet": parquet_bytes(table())},
    "text": {"good.txt": TEXT.encode()},
    "brat": {"good.txt": TEXT.encode(), "good.ann": ann()},
    "pubtator": {"good.pubtator": pubtator()},
    "bioc": {"good.xml": bioc_xml()},
    "fhir": {"good.json": bundle({"resourceType": "Patient"}, document_reference())},
    "mimic": {"good.csv": csv_bytes(mimic_rows())},
}


class Reading:
    """What came of one pass."""

    def __init__(self, folder: Path, form: Format, **options: Any) -> None:
        labels = {label: label for label in ("DISEASE", "CHEMICAL")}
        source = CorpusSource.model_validate(
            {"name": "given", "path": str(folder), "format": form, "labels": labels, **options}
        )
        self.ingestion = Ingestion([source], list(labels), None, lambda: SALT)
        items = list(self.ingestion)
        self.notes = [item for item in items if isinstance(item, CorpusNote)]
        self.rejects = [item for item in items if isinstance(item, Reject)]
        self.reasons = [reject.reason.value for reject in self.rejects]
        self.counts = self.ingestion.counts

    @property
    def adds_up(self) -> bool:
        """Whether every record that was read is counted once."""
        counts = self.counts
        outcomes = counts.stored + counts.duplicates + counts.quarantined
        return counts.read == outcomes + counts.repeated_texts + counts.not_selected


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def surfaces(note: CorpusNote) -> list[tuple[str, str]]:
    return [(note.text[span.start : span.end], span.label) for span in note.gold or ()]
