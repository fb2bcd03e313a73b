"""From the stored evidence to what the comparison report shows."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from hc_orchestration.models.store import absence
from hc_orchestration.reporting.comparison import ComparedModel
from hc_orchestration.reporting.excerpts import MarkedSpan, mark_in_context
from hc_orchestration.reporting.report_data import (
    NOT_APPLICABLE,
    UNDEFINED,
    Confusion,
    CorpusFacts,
    ErrorAnalysis,
    Excerpt,
    Fact,
    Gate,
    Interval,
    LabelScores,
    LabelSupport,
    Link,
    MissingModel,
    ModeScores,
    NoteErrors,
    PairDifference,
    ReportData,
    ReportedModel,
    Score,
    SliceScores,
)
from hc_orchestration.scoring.counts import MODES, TYPED_MODES
from hc_orchestration.scoring.difference import Difference
from hc_orchestration.scoring.errors import LengthErrors
from hc_orchestration.scoring.gates import GateResult
from hc_orchestration.scoring.scores import MACRO, MICRO, PER_LABEL, STATISTICS, WHOLE_CORPUS
from hc_orchestration.storage.records import EvaluationRecord
from hc_orchestration.storage.workspace import Workspace

_NOTES_SHOWN = 3
_HEADLINES = ("strict.f1", "exact.f1")
_Row = Mapping[str, Any]


def report_data(
    workspace: Workspace,
    models: Sequence[ComparedModel],
    differences: Iterable[Difference],
    regressions: Mapping[str, Sequence[GateResult]],
    generated_at: datetime,
) -> ReportData:
    """Everything that the report of a comparison shows.

    Args:
        workspace: Where the evidence is.
        models: See `compare_models`.
        differences: Every pair of ranked models in every metric.
        regressions: Model key → what the regression gates say of it.
        generated_at: The time that the report bears.
    """
    study, corpus = workspace.study, workspace.corpus.required()
    pairs = [found for found in differences if found.metric in _HEADLINES]
    reported = [
        _model(workspace, model, model.record, regressions.get(model.key, ()))
        for model in models
        if model.record is not None
    ]
    first = models[0].record if models else None
    metrics = first.metrics if first else None
    gold: Mapping[str, int] = corpus.counts["gold"]
    return ReportData(
        study=study.name,
        corpus=CorpusFacts(
            digest=corpus.digest,
            version=str(corpus.version),
            notes=corpus.notes,
            annotated=int(corpus.counts["annotated"]),
            quarantined=int(corpus.counts["quarantined"]),
            gold=tuple(LabelSupport(label, gold.get(label, 0)) for label in study.labels),
        ),
        generated_at=generated_at,
        models=tuple(reported),
        differences=tuple(_difference(pair) for pair in pairs),
        missing=_missing(workspace, models),
        withheld_slices=metrics.withheld if metrics else 0,
        method=tuple(_method(workspace, pairs, first)),
        note_text_allowed=study.privacy.note_text_in_reports,
    )


def _missing(workspace: Workspace, models: Sequence[ComparedModel]) -> tuple[MissingModel, ...]:
    """Those that are not compared; those whose files are not here come last."""
    store = workspace.settings.model_store
    catalogue = workspace.catalogue
    missing = [
        MissingModel(
            model.key, model.missing, here=absence(catalogue.entry(model.key), store) is None
        )
        for model in models
        if model.missing is not None
    ]
    return tuple(sorted(missing, key=lambda model: not model.here))


def _model(
    workspace: Workspace,
    model: ComparedModel,
    record: EvaluationRecord,
    regressions: Sequence[GateResult],
) -> ReportedModel:
    metrics, inputs = record.metrics, record.inputs
    assert metrics is not None  # noqa: S101 - what is ranked has scores, and inputs
    assert inputs is not None  # noqa: S101
    scores = workspace.metrics.scores(model.key, metrics.evaluation_digest)
    table = _by_statistic(scores)
    gates = [*(record.gates.results if record.gates else ()), *regressions]
    card = workspace.catalogue.entry(model.key).card.model_dump(exclude_none=True)
    return ReportedModel(
        rank=model.rank or 0,
        key=model.key,
        evaluation_id=record.evaluation_id,
        evaluation_digest=metrics.evaluation_digest,
        model_fingerprint=inputs.model_fingerprint,
        scores=tuple(_modes(table, metrics.not_applicable)),
        labels=tuple(_labels(table)),
        slices=tuple(_slices(table, workspace.study.slices)),
        gates=tuple(Gate(gate.name, gate.verdict, gate.sentence) for gate in gates),
        facts=tuple(Fact(name, str(value)) for name, value in card.items()),
        links=tuple(_links(workspace, record)),
        provenance_digest=record.provenance.file.sha256 if record.provenance else None,
        notes_per_second=model.notes_per_second,
        errors=_errors(workspace, record),
    )


def _by_statistic(scores: pl.DataFrame) -> dict[tuple[str, str, str, str], dict[str, _Row]]:
    """(mode, average, label, slice) → statistic → row."""
    table: dict[tuple[str, str, str, str], dict[str, _Row]] = {}
    for row in scores.iter_rows(named=True):
        key = (row["mode"], row["average"], row["label"], row["slice"])
        table.setdefault(key, {})[row["statistic"]] = row
    return table


def _score(rows: Mapping[str, _Row], statistic: str) -> Score:
    row = rows.get(statistic)
    if row is None or row["value"] is None:
        return UNDEFINED
    return Score(row["value"], _interval(row["ci_low"], row["ci_high"]))


def _interval(low: float | None, high: float | None) -> Interval | None:
    return None if low is None or high is None else Interval(low, high)


def _modes(
    table: Mapping[tuple[str, str, str, str], Mapping[str, _Row]], not_applicable: Sequence[str]
) -> Iterable[ModeScores]:
    """All four modes, micro; and macro where the mode has labels."""
    for mode in MODES:
        if mode in not_applicable:
            yield ModeScores(mode, MICRO, NOT_APPLICABLE, NOT_APPLICABLE, NOT_APPLICABLE, 0, 0)
            continue
        for average in (MICRO, MACRO) if mode in TYPED_MODES else (MICRO,):
            rows = table.get((mode, average, "", WHOLE_CORPUS))
            if rows is None:
                continue
            counted = next(iter(rows.values()))
            f1, precision, recall = (_score(rows, name) for name in STATISTICS)
            yield ModeScores(
                mode,
                average,
                precision,
                recall,
                f1,
                counted["gold"] or 0,
                counted["predicted"] or 0,
            )


def _labels(
    table: Mapping[tuple[str, str, str, str], Mapping[str, _Row]],
) -> Iterable[LabelScores]:
    for (mode, average, label, part), rows in table.items():
        if average == PER_LABEL and part == WHOLE_CORPUS and mode in TYPED_MODES:
            counted = next(iter(rows.values()))
            f1, precision, recall = (_score(rows, name) for name in STATISTICS)
            yield LabelScores(
                label, mode, precision, recall, f1, counted["gold"] or 0, counted["predicted"] or 0
            )


def _slices(
    table: Mapping[tuple[str, str, str, str], Mapping[str, _Row]], attributes: Sequence[str]
) -> Iterable[SliceScores]:
    """Micro F1 by slice, in the mode that leads for the model: strict, else exact."""
    strict = any(mode == MODES[0] for mode, *_ in table)
    leading = MODES[0] if strict else MODES[1]
    for (mode, average, _, part), rows in table.items():
        attribute = next((name for name in attributes if part.startswith(f"{name}.")), None)
        if attribute is None or mode != leading or average != MICRO:
            continue
        row = rows["f1"]
        value = part.removeprefix(f"{attribute}.")
        if row["withheld"]:
            yield SliceScores(attribute, value, mode, UNDEFINED, None, None, withheld=True)
        else:
            score = _score(rows, "f1")
            yield SliceScores(attribute, value, mode, score, row["notes"], row["gold"])


def _links(workspace: Workspace, record: EvaluationRecord) -> Iterable[Link]:
    if record.mlflow is not None:
        yield Link("MLflow run", record.mlflow.url)
    if record.run is not None:
        root = workspace.settings.dagster_url
        yield Link("Dagster run", f"{root}/runs/{record.run.dagster_run_id}")


def _difference(pair: Difference) -> PairDifference:
    return PairDifference(
        first=pair.first,
        second=pair.second,
        metric=pair.metric,
        difference=pair.difference,
        interval=_interval(pair.ci_low, pair.ci_high),
        p=pair.p,
        p_holm=pair.p_holm,
    )


def _method(
    workspace: Workspace, pairs: Sequence[Difference], first: EvaluationRecord | None
) -> Iterable[Fact]:
    yield Fact("sampling unit", workspace.study.cluster or "notes of identical text together")
    if pairs:
        yield Fact("clusters", f"{pairs[0].clusters:,}")
        yield Fact("bootstrap resamples", f"{pairs[0].resamples:,}")
        yield Fact("permutations", f"{pairs[0].permutations:,}")
        yield Fact("seeds", ", ".join(str(seed) for seed in sorted({p.seed for p in pairs})))
    if first is not None and first.run is not None:
        yield Fact("software", ", ".join(f"{k} {v}" for k, v in first.run.software.items()))


def _errors(workspace: Workspace, record: EvaluationRecord) -> ErrorAnalysis | None:
    files = record.metrics.files if record.metrics else ()
    file = next((file for file in files if file.name == "error_analysis.json"), None)
    if file is None:
        return None
    found = json.loads(workspace.files.get(file))
    worst = tuple(
        NoteErrors(note["note_id"], note["missed"] + note["spurious"])
        for note in found["worst_notes"]
    )
    allowed = workspace.study.privacy.note_text_in_reports
    shown = [note.note_id for note in worst[:_NOTES_SHOWN]] if allowed else []
    return ErrorAnalysis(
        longer=found["longer"],
        shorter=found["shorter"],
        shifted=found["shifted"],
        confusion=tuple(_confusion(row) for row in found["confusion"] if row["gold_label"]),
        by_length=tuple(LengthErrors(**row) for row in found["by_length"]),
        worst_notes=worst,
        excerpts=tuple(_excerpts(workspace, record, shown)) if shown else (),
    )


def _confusion(row: _Row) -> Confusion:
    count = row["same_boundary"] + row["other_boundary"] + row["alone"]
    return Confusion(row["gold_label"], row["predicted_label"], count)


def _excerpts(
    workspace: Workspace, record: EvaluationRecord, note_ids: Sequence[str]
) -> Iterable[Excerpt]:
    """The notes with the most errors, their gold and predicted mentions marked in context."""
    inputs = record.inputs
    if inputs is None:
        return
    made_by = workspace.records.required(inputs.pinned_by)
    version = made_by.extraction.entities_version if made_by.extraction else None
    entry = workspace.catalogue.entry(record.model_key)
    mapping = entry.label_mapping(workspace.study.labels)
    entities = workspace.entities.of_corpus(
        record.model_key, inputs.model_fingerprint, inputs.corpus_version, version
    )
    notes = workspace.corpus.notes(inputs.corpus_version).select("note_id", "text", "gold")
    wanted = pl.col("note_id").is_in(list(note_ids))
    rows = notes.filter(wanted).join(entities.select("note_id", "spans"), on="note_id").collect()
    by_id = {row["note_id"]: row for row in rows.iter_rows(named=True)}
    for note_id in note_ids:
        if (row := by_id.get(note_id)) is None:
            continue
        gold = [MarkedSpan(s["start"], s["end"], s["label"]) for s in row["gold"] or ()]
        predicted = [
            MarkedSpan(s["start"], s["end"], mapping[s["label"]])
            for s in row["spans"]
            if s["label"] in mapping
        ]
        yield Excerpt(note_id, mark_in_context(row["text"], gold, predicted))
