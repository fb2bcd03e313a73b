"""What MLflow shows of a stored corpus version, and of a comparison of models."""

import json
from collections.abc import Iterator
from dataclasses import replace

from hc_orchestration.scoring.gates import outcome
from hc_orchestration.storage.materializations import (
    ComparisonPart,
    CorpusPart,
    MaterializationRecord,
)
from hc_orchestration.storage.records import Status
from hc_orchestration.tracking.context_params import study_params
from hc_orchestration.tracking.run_view import (
    CorpusInput,
    RunView,
    cohort_table,
    fitting_params,
    fitting_tags,
    markdown,
)

_CORPUS_COUNTS = (
    "read",
    "stored",
    "duplicates",
    "repeated_texts",
    "duplicate_texts",
    "not_selected",
    "quarantined",
    "annotated",
    "gold_discontinuous",
)
_NOTE = "mlflow.note.content"


def materialization_view(record: MaterializationRecord, dagster_url: str) -> RunView:
    """The MLflow run of a corpus or of a comparison: always a finished one.

    Raises:
        ValueError: The record does not say what was made.
    """
    if record.corpus is not None:
        return _corpus_view(record, record.corpus, dagster_url)
    if record.comparison is not None:
        return _comparison_view(record, record.comparison, dagster_url)
    message = f"materialization {record.identity} does not say what was made"
    raise ValueError(message)


def _corpus_view(record: MaterializationRecord, made: CorpusPart, dagster_url: str) -> RunView:
    counts, study = made.counts, record.made.study
    stored, quarantined = counts["stored"], counts["quarantined"]
    corpus = CorpusInput(study, made.digest, made.version, stored, quarantined)
    known = {name: counts[name] for name in _CORPUS_COUNTS if name in counts}
    common = _common(record, corpus, dagster_url)
    own_params = {
        "corpus.quarantine_version": made.quarantine_version,
        "corpus.selection": made.selection,
    }
    tables = [
        f"The notes of *{study}*, version {made.version}",
        markdown(("records", ""), known.items()),
        markdown(("gold mentions of", ""), sorted(counts["gold"].items())),
        markdown(("in quarantine for", ""), sorted(counts["reasons"].items())),
        common.tags[_NOTE],
    ]
    return replace(
        common,
        name=f"corpus {made.version}",
        params={**common.params, **fitting_params(own_params)},
        tags={**common.tags, **fitting_tags({_NOTE: "\n\n".join(tables)})},
        metrics={
            **{f"corpus.{name}": number for name, number in known.items()},
            **{f"corpus.quarantined.reason.{why}": n for why, n in counts["reasons"].items()},
            "corpus.gold": sum(counts["gold"].values()),
            **{f"corpus.gold.label.{label}": n for label, n in counts["gold"].items()},
            "corpus.gold_unmapped": sum(counts["gold_unmapped"].values()),
        },
    )


def _comparison_view(
    record: MaterializationRecord, made: ComparisonPart, dagster_url: str
) -> RunView:
    corpus = CorpusInput(
        record.made.study, made.corpus_digest, made.corpus_version, made.notes, made.quarantined
    )
    common = _common(record, corpus, dagster_url)
    ranked = [model for model in made.models if model.rank is not None]
    missing = [model.model_key for model in made.models if model.rank is None]
    results = [result for of_model in made.gates.values() for result in of_model]
    own_params = {
        "comparison.ranking": "; ".join(model.model_key for model in ranked),
        "comparison.missing": "; ".join(missing),
        "comparison.champion": made.champion,
    }
    own_tags = {
        "hc.comparison_digest": made.digest,
        "hc.evaluation_ids": ",".join(m.evaluation_id for m in ranked if m.evaluation_id),
        "hc.champion": made.champion,
        "hc.gates": outcome(result.verdict for result in results),
        _NOTE: "\n\n".join([*_comparison_tables(made), common.tags[_NOTE]]),
    }
    return replace(
        common,
        params={**common.params, **fitting_params(own_params)},
        tags={**common.tags, **fitting_tags(own_tags)},
        metrics=dict(_comparison_metrics(made)),
        files=made.files,
    )


def _comparison_tables(made: ComparisonPart) -> Iterator[str]:
    yield f"The models on the notes of version {made.corpus_version}"
    yield markdown(
        ("rank", "model", "strict F1", "exact F1", "gold mentions"),
        (
            (m.rank, m.model_key, m.values.get("strict.f1"), m.values.get("exact.f1"), m.support)
            for m in made.models
            if m.rank is not None
        ),
    )
    missing = [(model.model_key, model.missing) for model in made.models if model.rank is None]
    if missing:
        yield markdown(("missing", "why"), missing)
    gates = [
        (result.name, key, result.sentence)
        for key, results in made.gates.items()
        for result in results
    ]
    if gates:
        yield markdown(("gate", "model", "says"), gates)


def _comparison_metrics(made: ComparisonPart) -> Iterator[tuple[str, float]]:
    """Names are built as those of labels are: `strict.f1.model.terms-1.0.0.ci_low`."""
    ranked = [model for model in made.models if model.rank is not None]
    yield "models", len(made.models)
    yield "models_compared", len(ranked)
    for model in ranked:
        shown = {
            **model.values,
            "rank": model.rank,
            "support": model.support,
            "notes_per_second": model.notes_per_second,
        }
        for name, value in shown.items():
            if value is not None:
                metric, dot, end = name.partition(".ci_")
                yield f"{metric}.model.{model.model_key}{dot}{end}", value
    for pair in made.differences:
        name = f"{pair.metric}.difference.{pair.first}.vs.{pair.second}"
        values = {
            name: pair.difference,
            f"{name}.ci_low": pair.ci_low,
            f"{name}.ci_high": pair.ci_high,
            f"{name}.p": pair.p,
            f"{name}.p_holm": pair.p_holm,
        }
        yield from ((key, value) for key, value in values.items() if value is not None)


def _common(record: MaterializationRecord, corpus: CorpusInput, dagster_url: str) -> RunView:
    """What both kinds of run say."""
    made = record.made
    url = f"{dagster_url}/runs/{made.dagster_run_id}"
    context = made.context.model_dump(mode="json", exclude_none=True)
    tags = {
        # In a Dagster run that evaluates a model too, dagster-mlflow is to find the evaluation by
        # this tag, and nothing else.
        "dagster_run_id": None if made.partition_key else made.dagster_run_id,
        "dagster.asset_keys": made.asset,
        "dagster.attempt": str(made.attempt),
        "dagster.backfill": made.backfill_id,
        "dagster.job": made.job,
        "hc.dagster_url": url,
        "hc.software": ", ".join(f"{k} {v}" for k, v in made.software.items()),
        "hc.study": made.study,
        "hc.corpus_digest": corpus.digest,
        "hc.corpus_version": str(corpus.version),
        _NOTE: f"{cohort_table(made.context.patient_context)}\n\n[Dagster run]({url})",
        "mlflow.parentRunId": made.shown_in.parent_run_id,
        **made.process.as_tags(),
    }
    params = {
        **study_params(made.context),
        "corpus.digest": corpus.digest,
        "corpus.version": corpus.version,
        "corpus.notes": corpus.notes,
        "corpus.quarantined": corpus.quarantined,
    }
    return RunView(
        kind=record.kind.value,
        identity=record.identity,
        name=record.kind.value,
        experiment=made.experiment,
        started_at=made.started_at,
        status=Status.FINISHED,
        ended_at=made.ended_at,
        params=fitting_params(params),
        tags=made.shown_in.tags | fitting_tags(tags),
        metrics={},
        corpus=corpus,
        documents={"healthcare_context.json": json.dumps(context, indent=2).encode()},
        files=(),
        rows=record.rows,
    )
