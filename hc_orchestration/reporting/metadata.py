"""Dagster metadata of materializations: floats that the UI plots, and tables that stay small."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    import polars as pl

    from hc_orchestration.models.store import InstalledModel
    from hc_orchestration.storage.corpus import CorpusVersion
    from hc_orchestration.storage.records import ExtractionPart, InputsPart, MetricsPart

_ROWS_SHOWN = 25
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
        "notes": counts["stored"],
        "annotated_notes": counts["annotated"],
        "quarantined": counts["quarantined"],
        "duplicates": counts["duplicates"],
        "duplicate_texts": counts["duplicate_texts"],
        "gold_mentions": sum(counts["gold"].values()),
        "table_version": corpus.version,
        "changed": corpus.changed,
        "corpus_digest": corpus.digest,
        "labels": dg.MetadataValue.md(markdown_table(labels)),
        "quarantine": dg.MetadataValue.md(markdown_table(reasons)),
    }


def model_files_metadata(model: "InstalledModel") -> dict[str, Any]:
    """Identity, size and card of a model."""
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
    labels = [{"label": label, "mentions": n} for label, n in sorted(part.labels.items())]
    shown = {
        "notes": part.notes,
        "notes_reused": part.reused,
        "notes_extracted": part.extracted,
        "entities": part.entities,
        "entities_per_note": part.entities / part.notes if part.notes else None,
        "device": part.device,
        "seconds": part.seconds,
        "notes_per_second": part.notes_per_second,
        "corpus_version": inputs.corpus_version,
        "corpus_digest": inputs.corpus_digest,
        "model_fingerprint": inputs.model_fingerprint,
        "entity_distribution": dg.MetadataValue.md(markdown_table(labels)),
    }
    return {name: value for name, value in shown.items() if value is not None}


def metrics_metadata(part: "MetricsPart", scores: "pl.DataFrame") -> dict[str, Any]:
    """Headline floats under their MLflow names, and the whole table."""
    return {
        **part.values,
        "gold_mentions": part.support,
        "annotated_notes": part.annotated,
        "predicted_unmapped": part.predicted_unmapped,
        "not_applicable": ", ".join(part.not_applicable) or "none",
        "evaluation_digest": part.evaluation_digest,
        "inputs_unchanged": part.inputs_unchanged,
        "scores": dg.MetadataValue.md(markdown_table(score_rows(scores))),
    }


def score_rows(scores: "pl.DataFrame") -> list[dict[str, object]]:
    """One row per mode and label with precision, recall, F1 and the counts behind them."""
    index = ["mode", "average", "label", "gold", "predicted", "credit"]
    wide = scores.pivot(on="statistic", index=index, values="value")
    return [
        {
            "mode": row["mode"],
            "label": row["label"] or row["average"],
            "precision": row["precision"],
            "recall": row["recall"],
            "f1": row["f1"],
            "gold": row["gold"],
            "predicted": row["predicted"],
            "correct": int(row["credit"]),
        }
        for row in wide.sort("mode", "average", "label", descending=[True, True, False]).to_dicts()
    ]
