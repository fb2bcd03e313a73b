"""What the verification of records found: for programs, and for people."""

from collections import Counter
from dataclasses import asdict
from typing import Any

from hc_orchestration.healthcare.verification import Finding, Outcome, Verification, short


def as_document(found: Verification) -> dict[str, Any]:
    """The verification as one JSON document."""
    return {
        "clean": found.clean,
        "counts": counts(found),
        "records": [asdict(one) for one in found.records],
        "chains": [asdict(one) for one in found.chains],
    }


def counts(found: Verification) -> dict[str, int]:
    """Records and chains looked at, findings by outcome, records by how they are signed."""
    outcomes = Counter(finding.outcome.value for finding in found.findings)
    signed = Counter(record.signature.value for record in found.records)
    return {
        "records": len(found.records),
        "chains": sum(bool(chain.model_key) for chain in found.chains),
        **{outcome.value: outcomes[outcome.value] for outcome in Outcome},
        **{f"signature_{name}": number for name, number in sorted(signed.items())},
    }


def finding_rows(found: Verification) -> list[dict[str, object]]:
    """A row for each finding, with the record or the chain that it is of."""
    rows = [
        _row(record.model_key, short(record.record), finding)
        for record in found.records
        for finding in record.findings
    ]
    return rows + [
        _row(chain.model_key, "chain", finding)
        for chain in found.chains
        for finding in chain.findings
    ]


def chain_rows(found: Verification) -> list[dict[str, object]]:
    """A row for each chain: how many records it has, and its kept head."""
    return [
        {
            "model": chain.model_key,
            "study": chain.study,
            "records": chain.records,
            "head": chain.head,
        }
        for chain in found.chains
        if chain.model_key
    ]


def summary(found: Verification) -> str:
    """One line that sums it up."""
    told = ", ".join(
        f"{number:,} {name.replace('_', ' ')}" for name, number in counts(found).items()
    )
    return f"{'clean' if found.clean else 'NOT CLEAN'}: {told}"


def _row(model: str, record: str, finding: Finding) -> dict[str, object]:
    return {
        "model": model,
        "record": record,
        "outcome": finding.outcome.value,
        "what": finding.subject,
        "finding": finding.says,
    }
