"""Dagster metadata of materializations: floats that the UI plots, and tables that stay small."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hc_orchestration.reporting.intervals import halves, interval, probability
from hc_orchestration.reporting.plots import label_plot

if TYPE_CHECKING:
    import polars as pl

    from hc_orchestration.models.store import InstalledModel
    from hc_orchestration.reporting.comparison import ComparedModel
    from hc_orchestration.scoring.difference import Difference
    from hc_orchestration.scoring.gates import GateResult
    from hc_orchestration.storage.corpus import CorpusVersion
    from hc_orchestration.storage.promotions import Promotion
    from hc_orchestration.storage.records import (
        ExtractionPart,
        GatesPart,
        InputsPart,
        MetricsPart,
    )

_ROWS_SHOWN = 25
_SLICES_SHOWN = 50
_HEADLINE = (
    "strict.f1.macro",
    "strict.f1.ci_low",
    "strict.f1.ci_high",
    "exact.f1.ci_low",
    "exact.f1.ci_high",
)
_UNDEFINED = "\N{EN DASH}"


def markdown_table(rows: Sequence[Mapping[str, object]], limit: int = _ROWS_SHOWN) -> str:
    """Rows as a Markdown table; at most `limit`, with a line that counts the rest."""
    if not rows:
        return "(no rows)"
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in rows[:limit]]
    if len(rows) > limit:
        lines.append(f"\n… and {len(rows) - limit} more")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return _UNDEFINED
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def corpus_metadata(corpus: "CorpusVersion") -> dict[str, Any]:
    """What is stored, what was left out, and why."""
    import dagster as dg  # not above: `hc metrics` prints these rows without it

    counts = corpus.counts
    labels = [
        {"label": label, "gold mentions": number, "mapped": "yes"}
        for label, number in sorted(counts["gold"].items())
    ] + [
        {"label": label, "gold mentions": number, "mapped": "no"}
        for label, number in sorted(counts["gold_unmapped"].items())
    ]
    reasons = [{"reason": key, "records": n} for key, n in sorted(counts["reasons"].items())]
    return {
        "dagster/row_count": counts["stored"],
        "notes": counts["stored"],
        "annotated_notes": counts["annotated"],
        "quarantined": counts["quarantined"],
        "duplicates": counts["duplicates"],
        "duplicate_texts": counts["duplicate_texts"],
        "not_selected": counts.get("not_selected", 0),
        "passed_over": sum(counts.get("passed_over", {}).values()),
        "gold_discontinuous": counts.get("gold_discontinuous", 0),
        "gold_mentions": sum(counts["gold"].values()),
        "table_version": corpus.version,
        "changed": corpus.changed,
        "corpus_digest": corpus.digest,
        "labels": dg.MetadataValue.md(markdown_table(labels)),
        "quarantine": dg.MetadataValue.md(markdown_table(reasons)),
    }


def model_files_metadata(model: "InstalledModel") -> dict[str, Any]:
    """Identity, size and card of a model."""
    import dagster as dg

    card = {k: v for k, v in model.entry.card.model_dump().items() if v is not None}
    files = [{"file": f.path, "bytes": f.size, "sha256": f.sha256[:16]} for f in model.files]
    return {
        "fingerprint": model.fingerprint,
        "megabytes": round(model.size / 1e6, 3),
        "files": dg.MetadataValue.md(markdown_table(files)),
        "loader": model.entry.loader,
        "card": dg.MetadataValue.json(card),
    }


def extraction_metadata(part: "ExtractionPart", inputs: "InputsPart") -> dict[str, Any]:
    """Counts, speed, and which labels the model gave."""
    import dagster as dg

    labels = [{"label": label, "mentions": n} for label, n in sorted(part.labels.items())]
    shown = {
        "dagster/row_count": part.notes,
        "notes": part.notes,
        "notes_reused": part.reused,
        "notes_extracted": part.extracted,
        "entities": part.entities,
        "entities_per_note": part.entities / part.notes if part.notes else None,
        "device": part.device,
        "processes": part.processes,
        "workers_lost": part.workers_lost or None,
        "seconds": part.seconds,
        "notes_per_second": part.notes_per_second,
        "corpus_version": inputs.corpus_version,
        "corpus_digest": inputs.corpus_digest,
        "model_fingerprint": inputs.model_fingerprint,
        "entity_distribution": dg.MetadataValue.md(markdown_table(labels)),
    }
    return {name: value for name, value in shown.items() if value is not None}


def metrics_metadata(
    part: "MetricsPart", gates: "GatesPart", scores: "pl.DataFrame"
) -> dict[str, Any]:
    """Headline floats under their MLflow names, gates, tables, and a plot of the labels."""
    import dagster as dg

    headline = {
        name: value
        for name, value in part.values.items()
        if name.count(".") == 1 or name in _HEADLINE
    }
    everywhere = scores.filter(slice="all")
    slices = scores.filter(scores["slice"] != "all")
    return {
        **headline,
        "gold_mentions": part.support,
        "annotated_notes": part.annotated,
        "predicted_unmapped": part.predicted_unmapped,
        "not_applicable": ", ".join(part.not_applicable) or "none",
        "withheld_slices": part.withheld,
        "evaluation_digest": part.evaluation_digest,
        "inputs_unchanged": part.inputs_unchanged,
        "gates": dg.MetadataValue.md(markdown_table(gate_rows(gates.results))),
        "scores": dg.MetadataValue.md(markdown_table(score_rows(everywhere))),
        "slices": dg.MetadataValue.md(markdown_table(slice_rows(slices), limit=_SLICES_SHOWN)),
        "labels": dg.MetadataValue.md(label_plot(everywhere)),
    }


def comparison_metadata(
    models: "Sequence[ComparedModel]",
    differences: "Sequence[Difference]",
    champion: str | None,
    gates: "Mapping[str, Sequence[GateResult]]",
) -> dict[str, Any]:
    """Scores to plot over time, ranking, who is missing and why, differences, regression gates."""
    import dagster as dg

    ranked = [
        {
            "rank": model.rank,
            "model": model.key,
            "strict F1": model.value("strict.f1"),
            "95 % interval": interval(
                model.value("strict.f1.ci_low"), model.value("strict.f1.ci_high")
            ),
            "exact F1": model.value("exact.f1"),
            "gold": model.record.metrics.support if model.record and model.record.metrics else None,
        }
        for model in models
        if model.rank is not None
    ]
    missing = [{"model": m.key, "reason": m.missing} for m in models if m.rank is None]
    pairs = [difference_row(d) for d in differences if d.metric in ("strict.f1", "exact.f1")]
    results = [
        {"model": key, **row} for key, of_model in gates.items() for row in gate_rows(of_model)
    ]
    plotted = {
        f"{metric}.{model.key}": value
        for model in models
        if model.rank is not None
        for metric in ("strict.f1", "exact.f1")
        if (value := model.value(metric)) is not None
    }
    return {
        "models": len(models),
        "compared": len(ranked),
        **plotted,
        "champion": champion or "none",
        "ranking": dg.MetadataValue.md(markdown_table(ranked)),
        "missing": dg.MetadataValue.md(markdown_table(missing)),
        "differences": dg.MetadataValue.md(markdown_table(pairs)),
        "gates": dg.MetadataValue.md(markdown_table(results)),
    }


def promotion_metadata(promotion: "Promotion", mlflow_url: str | None) -> dict[str, Any]:
    """Who became the champion, on which evaluation, and what the gates said."""
    import dagster as dg

    shown: dict[str, Any] = {
        "champion": promotion.model_key,
        "previous": promotion.previous or "none",
        "evaluation_id": promotion.evaluation_id,
        "fingerprint": promotion.fingerprint,
        "forced": promotion.forced_reason or "no",
        "gates": dg.MetadataValue.md(markdown_table(gate_rows(promotion.gates))),
    }
    return shown if mlflow_url is None else {**shown, "model": dg.MetadataValue.url(mlflow_url)}


def difference_row(difference: "Difference") -> dict[str, object]:
    """A paired difference, for people."""
    return {
        "metric": difference.metric,
        "first": difference.first,
        "second": difference.second,
        "first score": difference.first_value,
        "second score": difference.second_value,
        "difference": difference.difference,
        "95 % interval": interval(difference.ci_low, difference.ci_high),
        "p": probability(difference.p),
        "p (Holm)": probability(difference.p_holm),
        "gold": difference.gold,
        "clusters": difference.clusters,
    }


def gate_rows(results: "Sequence[GateResult]") -> list[dict[str, object]]:
    """What gates said, for people."""
    return [{"gate": r.name, "verdict": r.verdict.value, "says": r.sentence} for r in results]


def score_rows(scores: "pl.DataFrame") -> list[dict[str, object]]:
    """One row per mode and label with precision, recall, F1, its interval and the counts."""
    index = ["mode", "average", "label", "gold", "predicted", "credit"]
    values = ["value", "ci_low", "ci_high"]
    wide = scores.pivot(on="statistic", index=index, values=values)
    return [
        {
            "mode": row["mode"],
            "label": row["label"] or row["average"],
            "precision": row["value_precision"],
            "recall": row["value_recall"],
            "f1": row["value_f1"],
            "95 % interval of f1": interval(row["ci_low_f1"], row["ci_high_f1"]),
            "gold": row["gold"],
            "predicted": row["predicted"],
            "credit": halves(row["credit"]),
        }
        for row in wide.sort("mode", "average", "label", descending=[True, True, False]).to_dicts()
    ]


def slice_rows(scores: "pl.DataFrame") -> list[dict[str, object]]:
    """One row per slice, withheld ones too: micro F1 of strict (exact of a model without types)."""
    mode = "strict" if (scores["mode"] == "strict").any() else "exact"
    rows = scores.filter(mode=mode, average="micro", statistic="f1").sort("slice")
    return [
        {
            "slice": row["slice"],
            f"{mode} f1": "withheld" if row["withheld"] else row["value"],
            "95 % interval": interval(row["ci_low"], row["ci_high"]),
            "notes": row["notes"],
            "gold": row["gold"],
        }
        for row in rows.iter_rows(named=True)
    ]
