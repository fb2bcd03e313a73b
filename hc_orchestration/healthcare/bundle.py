"""The record of an evaluation: a FHIR R4 collection Bundle, built from facts alone.

Clock and ids are among the facts, so the same evaluation gives the same bytes. References resolve
inside the Bundle and carry type and identifier, so a resource says by itself what it points to.
"""

import base64
import hashlib
import re
import uuid
from typing import Any

from hc_orchestration.healthcare.elements import (
    Element,
    concept,
    digest_identifier,
    identifier,
    instant,
    ni,
)
from hc_orchestration.healthcare.facts import EvaluationFacts
from hc_orchestration.healthcare.measure_report import score_groups
from hc_orchestration.healthcare.provenance import Links, evaluation_provenance
from hc_orchestration.healthcare.terminology import UCUM, measure

_NAMESPACE = uuid.UUID("c7a9a3be-7b8f-5d2a-9a55-55f3a0a2f1d4")
_AGE_RANGE = re.compile(r"\s*(\d{1,3})\s*(?:-|\N{EN DASH}|to)\s*(\d{1,3})\s*(?:years|y)?\s*")
_AGE_FROM = re.compile(r"\s*(?:>=|\N{GREATER-THAN OR EQUAL TO})?\s*(\d{1,3})\s*\+?\s*")


def build_bundle(facts: EvaluationFacts) -> dict[str, Any]:
    """The collection Bundle of an evaluation, not signed and not checked yet."""
    return _Builder(facts).bundle()


class _Builder:
    """Adds one resource after the other and hands out references to them."""

    def __init__(self, facts: EvaluationFacts) -> None:
        self._facts = facts
        self._base = facts.profile.canonical_base
        self._seed = f"{facts.evaluation_id}/{instant(facts.recorded)}"
        self._entries: list[Element] = []

    def bundle(self) -> Element:
        facts = self._facts
        organization = self._organization()
        model = self._model(organization)
        software = self._software()
        cohort = self._cohort(organization)
        corpus = self._corpus(organization)
        card = self._card(model)
        self._add("measure", measure(self._base))
        report = self._report(organization, cohort)
        documents = [self._artifact(index) for index in range(len(facts.artifacts))]
        documents += [self._rows(index) for index in range(len(facts.tables))]
        links = Links(
            targets=(report, *documents),
            model=model,
            software=software,
            organization=organization,
            corpus=corpus,
            cohort=cohort,
            card=card,
        )
        self._add("provenance", evaluation_provenance(facts, links))
        return {
            "resourceType": "Bundle",
            "id": self._id("bundle"),
            "identifier": identifier("urn:ietf:rfc:3986", f"urn:uuid:{self._id('bundle')}"),
            "type": "collection",
            "timestamp": instant(facts.recorded),
            "entry": self._entries,
        }

    def _organization(self) -> Element | None:
        name = self._facts.context.organization
        if name is None:
            return None
        known = identifier(f"{self._base}/organization", name)
        resource = {"resourceType": "Organization", "identifier": [known], "name": name}
        return self._named("organization", resource, known, name)

    def _model(self, organization: Element | None) -> Element:
        facts = self._facts
        context = facts.context
        known = digest_identifier(facts.model_fingerprint)
        resource = {
            "resourceType": "Device",
            "identifier": [known, identifier(f"{self._base}/model", facts.model_key)],
            "status": "active",
            "deviceName": [{"name": context.model_id, "type": "model-name"}],
            "type": {"text": "clinical NER model"},
            "version": [{"value": context.version}],
            **({"owner": organization} if organization else {}),
        }
        return self._named("model", resource, known, f"{context.model_id} {context.version}")

    def _software(self) -> Element:
        software = self._facts.software
        package = next(iter(software))
        known = identifier(f"{self._base}/software", f"{package} {software[package]}")
        resource = {
            "resourceType": "Device",
            "identifier": [known],
            "status": "active",
            "deviceName": [{"name": package, "type": "user-friendly-name"}],
            "type": {"text": "evaluation software"},
            "version": [
                {"type": {"text": name}, "value": value} for name, value in software.items()
            ],
        }
        shown = ", ".join(f"{name} {value}" for name, value in software.items())
        return self._named("software", resource, known, shown)

    def _cohort(self, organization: Element | None) -> Element | None:
        patients, sample = self._facts.context.patient_context, self._facts.sample
        if patients is None:
            return None
        known = identifier(f"{self._base}/cohort", patients.cohort)
        told = patients.sample_size if patients.sample_size is not None else sample
        size = told if told is None or isinstance(told, int) else told.count
        characteristics = [
            self._characteristic("criterion", {"valueCodeableConcept": {"text": text}}, exclude)
            for exclude, criteria in (
                (False, patients.inclusion_criteria),
                (True, patients.exclusion_criteria),
            )
            for text in criteria
        ]
        if patients.age_range:
            age = _age(patients.age_range)
            characteristics.append(self._characteristic("age-range", age, exclude=False))
        if sample is not None:
            unit = {"valueCodeableConcept": {"text": sample.unit}}
            characteristics.append(self._characteristic("sampling-unit", unit, exclude=False))
        resource = {
            "resourceType": "Group",
            **self._sample_warning(),
            "identifier": [known],
            "type": "person",
            "actual": True,
            "name": patients.cohort,
            **({"quantity": size} if size is not None else {}),
            **({"managingEntity": organization} if organization else {}),
            **({"characteristic": characteristics} if characteristics else {}),
        }
        return self._named("cohort", resource, known, patients.cohort)

    def _sample_warning(self) -> Element:
        """What the study says of the sample where it is not what was read."""
        patients, sample = self._facts.context.patient_context, self._facts.sample
        if patients is None or patients.sample_size is None or sample is None:
            return {}
        if patients.sample_size == sample.count:
            return {}
        said = (
            f"The study gives a sample size of {patients.sample_size}; "
            f"{sample.count} were read (unit: {sample.unit})."
        )
        url = f"{self._base}/StructureDefinition/warning"
        return {"extension": [{"url": url, "valueString": said}]}

    def _characteristic(self, code: str, value: Element, exclude: bool) -> Element:  # noqa: FBT001
        return {"code": concept("cohort", code, self._base), **value, "exclude": exclude}

    def _corpus(self, organization: Element | None) -> Element:
        facts = self._facts
        text = f"corpus of {facts.notes} notes, notes table version {facts.corpus_version}"
        attachment = {"contentType": "application/octet-stream", "url": ni(facts.corpus_digest)}
        version = identifier(f"{self._base}/table-version", f"notes@{facts.corpus_version}")
        known = digest_identifier(facts.corpus_digest)
        document = self._document("corpus", known, text, attachment, version)
        if organization:
            document["custodian"] = organization
        return self._named("corpus", document, known, text)

    def _card(self, model: Element) -> Element:
        card = self._facts.model_card
        attachment = {
            "contentType": "application/json",
            "data": base64.b64encode(card).decode("ascii"),
            "size": len(card),
        }
        text = f"model card of {self._facts.model_key}"
        known = digest_identifier(hashlib.sha256(card).hexdigest())
        document = self._document("model-card", known, text, attachment)
        document["subject"] = model
        return self._named("card", document, known, text)

    def _report(self, organization: Element | None, cohort: Element | None) -> Element:
        facts = self._facts
        known = identifier(f"{self._base}/evaluation", facts.evaluation_id)
        resource = {
            "resourceType": "MeasureReport",
            "identifier": [known],
            "status": "complete",
            "type": "summary",
            "measure": f"{self._base}/Measure/ner-evaluation|1",
            **({"subject": cohort} if cohort else {}),
            "date": instant(facts.ended),
            **({"reporter": organization} if organization else {}),
            "period": {"start": instant(facts.started), "end": instant(facts.ended)},
            "improvementNotation": concept(
                "http://terminology.hl7.org/CodeSystem/measure-improvement-notation",
                "increase",
                self._base,
            ),
            "group": score_groups(facts.scores, self._base),
        }
        if not facts.scores:
            del resource["group"]
        return self._named("report", resource, known, f"scores of {facts.model_key}")

    def _artifact(self, index: int) -> Element:
        artifact = self._facts.artifacts[index]
        attachment = {
            "contentType": _media_type(artifact.name),
            "url": ni(artifact.sha256),
            "size": artifact.size,
            "title": artifact.name,
        }
        known = digest_identifier(artifact.sha256)
        document = self._document("artifact", known, artifact.name, attachment)
        return self._named(f"artifact/{artifact.name}", document, known, artifact.name)

    def _rows(self, index: int) -> Element:
        table = self._facts.tables[index]
        text = f"{table.rows} rows of {table.name}, version {table.version}"
        attachment = {
            "contentType": "application/x-ndjson",
            "url": ni(table.sha256),
            "title": table.name,
        }
        version = identifier(f"{self._base}/table-version", f"{table.name}@{table.version}")
        known = digest_identifier(table.sha256)
        document = self._document("table", known, text, attachment, version)
        return self._named(f"table/{table.name}", document, known, text)

    def _document(
        self, kind: str, known: Element, text: str, attachment: Element, *others: Element
    ) -> Element:
        return {
            "resourceType": "DocumentReference",
            "masterIdentifier": known,
            "identifier": [known, *others],
            "status": "current",
            "type": concept("document", kind, self._base),
            "date": instant(self._facts.recorded),
            "description": text,
            "content": [{"attachment": attachment}],
        }

    def _named(self, name: str, resource: Element, known: Element, display: str) -> Element:
        """Add a resource; returns a reference to it."""
        self._add(name, resource)
        return {
            "reference": f"urn:uuid:{self._id(name)}",
            "type": resource["resourceType"],
            "identifier": known,
            "display": display,
        }

    def _add(self, name: str, resource: Element) -> None:
        marked = {**resource, "id": self._id(name)}
        self._entries.append({"fullUrl": f"urn:uuid:{self._id(name)}", "resource": marked})

    def _id(self, name: str) -> str:
        return str(uuid.uuid5(_NAMESPACE, f"{self._seed}/{name}"))


def _age(text: str) -> Element:
    """An age range as a Range in years, or in words when it is none that can be read."""
    if (both := _AGE_RANGE.fullmatch(text)) and int(both[1]) <= int(both[2]):
        return {"valueRange": {"low": _years(both[1]), "high": _years(both[2])}}
    if lowest := _AGE_FROM.fullmatch(text):
        return {"valueRange": {"low": _years(lowest[1])}}
    return {"valueCodeableConcept": {"text": text}}


def _years(number: str) -> Element:
    return {"value": int(number), "unit": "a", "system": UCUM, "code": "a"}


def _media_type(name: str) -> str:
    suffix = name.rpartition(".")[2]
    known = {
        "json": "application/json",
        "html": "text/html",
        "png": "image/png",
        "parquet": "application/vnd.apache.parquet",
    }
    return known.get(suffix, "application/octet-stream")
