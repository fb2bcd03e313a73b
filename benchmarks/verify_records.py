"""How long verifying 1,000 records takes: at most a minute is promised.

Twenty models are recorded on fifty nights each, as a nightly run leaves them: each night a note is
new, so that each night has a version of the notes, and each model a version of its entities and of
its scores. Scores and records are as large as those of the shipped study: they are its scores, made
once, and built, signed and stored by what builds, signs and stores every record.
"""

import hashlib
import os
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from hc_orchestration.corpora.ingest import Ingestion
from hc_orchestration.healthcare.bundle import build_bundle
from hc_orchestration.healthcare.facts import Artifact, EvaluationFacts, TableRows
from hc_orchestration.healthcare.signing import (
    SigningKey,
    canonical_bytes,
    generate_key,
    provenance_of,
    signed,
)
from hc_orchestration.healthcare.validity import check_bundle
from hc_orchestration.resources.recording import record_scores
from hc_orchestration.scoring.bootstrap import Resampling
from hc_orchestration.scoring.evaluation import Evaluation, evaluate
from hc_orchestration.settings import Settings, project_root
from hc_orchestration.storage.corpus import CorpusVersion
from hc_orchestration.storage.entities import entities_table
from hc_orchestration.storage.metrics import metrics_table
from hc_orchestration.storage.records import ProvenancePart
from hc_orchestration.storage.rows_digest import rows_digest
from hc_orchestration.storage.verification import verify_records
from hc_orchestration.storage.workspace import Workspace

MODELS = 20
NIGHTS = 50
LIMIT_S = 60.0
AT = datetime(2025, 1, 19, 1, 0, tzinfo=UTC)


def opened(home: Path) -> Workspace:
    """A workspace of its own on a copy of the shipped study."""
    shutil.copytree(project_root() / "data", home / "data")
    settings = Settings(
        home=home,
        study=home / "data" / "study.yaml",
        catalogue=home / "data" / "models.yaml",
        storage=str(home / "tables"),
        tracking_uri="",
        dagster_url="",
        mlflow_url="",
    )
    return Workspace(settings)


def night(workspace: Workspace, number: int) -> CorpusVersion:
    """The corpus of a night: one note more than the night before."""
    source = workspace.study.corpora[0].model_copy(update={"limit": 51 + number})

    def new_pass() -> Ingestion:
        return workspace.new_ingestion([source])

    return workspace.corpus.ingest(new_pass)


class Recorder:
    """Stores evaluations' rows and files, and their signed records, chained model by model."""

    def __init__(self, workspace: Workspace, key: SigningKey) -> None:
        """Use `workspace`; sign with `key`."""
        self._workspace = workspace
        self._key = key
        self._heads: dict[str, str] = {}
        self._known: dict[str, pl.DataFrame] = {}

    def record(self, model: str, corpus: CorpusVersion, scored: Evaluation) -> None:
        """One evaluation of a model on a night's corpus."""
        workspace, key = self._workspace, self._key
        previous = self._heads.get(model)
        record = signed(build_bundle(self._facts(model, corpus, scored, previous)), key)
        if previous is None:
            check_bundle(record)
        content, resource = canonical_bytes(record), canonical_bytes(provenance_of(record))
        part = ProvenancePart(
            file=workspace.files.put("fhir_provenance_bundle.json", content),
            resource=workspace.files.put("fhir_provenance.json", resource),
            previous=previous,
            of_evaluation=f"{model}.{corpus.version}",
            evaluation_digest=_digest(model, corpus.digest),
            key_id=key.key_id,
            public_key=workspace.files.put(f"{key.key_id}.jwk", key.public),
        )
        study = workspace.study.name
        workspace.records.append_provenance(part.of_evaluation, model, study, part)
        self._heads[model] = part.file.sha256

    def _facts(
        self, model: str, corpus: CorpusVersion, scored: Evaluation, previous: str | None
    ) -> EvaluationFacts:
        workspace = self._workspace
        fingerprint, digest = _digest(model), _digest(model, corpus.digest)
        entities = self._entities(model, fingerprint, corpus)
        table = metrics_table(model)
        scores = scored.scores.with_columns(evaluation_digest=pl.lit(digest))
        metrics_version = workspace.delta.append(table, scores)
        files = [
            workspace.files.put("entity_distribution.json", f"{model} {corpus.version}".encode()),
            workspace.files.put("error_analysis.json", scored.errors.as_json()),
        ]
        at = AT + timedelta(days=corpus.version)
        study = workspace.study
        return EvaluationFacts(
            evaluation_id=f"{model}.{corpus.version}",
            evaluation_digest=digest,
            model_key=model,
            study=study.name,
            context=study.context.for_model(model, "1"),
            model_fingerprint=fingerprint,
            model_card=b"{}",
            corpus_digest=corpus.digest,
            corpus_version=corpus.version,
            notes=corpus.notes,
            artifacts=tuple(Artifact(file.name, file.sha256, file.size) for file in files),
            tables=(
                _rows(f"metrics/{model}", metrics_version, scores.select(list(table.schema))),
                entities,
            ),
            scores=record_scores(scores, study.privacy.smallest_cell),
            software={"hc-orchestration": "0.1.0"},
            dagster_run_id="run",
            started=at,
            ended=at,
            recorded=at,
            previous=previous,
        )

    def _entities(self, model: str, fingerprint: str, corpus: CorpusVersion) -> TableRows:
        """Store a row for each note that is new to the model; returns what a record says of all."""
        notes = self._workspace.corpus.notes(corpus.version).select("note_id", "text_sha256")
        table = entities_table(model)
        span = {"start": 0, "end": 4, "label": "DISEASE", "score": None, "concept": None}
        rows = notes.collect().with_columns(
            model_fingerprint=pl.lit(fingerprint),
            spans=pl.lit([span], dtype=table.schema["spans"]),
        )
        before = self._known.get(model, rows.clear())
        new = rows.join(before, on="note_id", how="anti")
        version = self._workspace.delta.append(table, new)
        self._known[model] = rows
        return _rows(table.path, version, rows.drop("model_fingerprint"))


def _rows(name: str, version: int, rows: pl.DataFrame) -> TableRows:
    return TableRows(name, version, rows_digest(rows), rows.height)


def _digest(*words: str) -> str:
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


def scored_once(workspace: Workspace, corpus: CorpusVersion) -> Evaluation:
    """The scores of a model that finds gold and nothing else, in the study's slices."""
    notes = workspace.corpus.notes(corpus.version)
    found = notes.select("note_id", spans=pl.col("gold").fill_null([]))
    mapping = {label: label for label in workspace.study.labels}
    return evaluate(notes, found, workspace.study.scoring, mapping, Resampling(1))


def main() -> None:
    """Build the records, verify them, print how long it took; exit code 1 above the limit."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = opened(Path(folder))
        key = generate_key(Path(folder) / "key.pem")
        begun = time.perf_counter()
        recorder = Recorder(workspace, key)
        scored: Evaluation | None = None
        for number in range(NIGHTS):
            corpus = night(workspace, number)
            scored = scored or scored_once(workspace, corpus)
            seeded = scored.scores.with_columns(seed=pl.lit(number, pl.Int64))
            for model in (f"model{at}-1" for at in range(MODELS)):
                recorder.record(model, corpus, replace(scored, scores=seeded))
        built = time.perf_counter() - begun
        sizes = [entry.part.file.size for entry in workspace.records.listed()]
        print(f"{len(sizes):,} records of {sum(sizes) / len(sizes) / 1e6:.2f} MB in {built:.0f} s")
        begun, before = time.perf_counter(), os.times()
        found = verify_records(workspace)
        took, after = time.perf_counter() - begun, os.times()
        processor = sum(after[:4]) - sum(before[:4])
        print(
            f"verified in {took:.1f} s, {processor:.1f} s of processor time "
            f"({os.cpu_count()} cores, load {os.getloadavg()[0]:.1f})"
        )
        print(f"clean: {found.clean}; {len(found.chains)} chains; findings: {len(found.findings)}")
        sys.exit(not found.clean or took > LIMIT_S)


if __name__ == "__main__":
    main()
