"""The signed record: reproducible, the same through fhir.resources, and a changed one is found."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle

from hc_orchestration.errors import ConfigurationError
from hc_orchestration.healthcare.bundle import build_bundle
from hc_orchestration.healthcare.facts import Score
from hc_orchestration.healthcare.signing import (
    SigningKey,
    canonical_bytes,
    generate_key,
    provenance_of,
    signature_problems,
    signed,
)
from hc_orchestration.healthcare.validity import check_bundle
from hc_orchestration_tests.healthcare.records import CASES, facts, record, signed_record


@pytest.mark.parametrize("made", [record, signed_record], ids=["unsigned", "signed"])
@pytest.mark.parametrize("case", CASES)
def test_record_comes_back_equal_through_fhir_resources(
    made: Callable[[str], dict[str, Any]], case: str
) -> None:
    bundle = made(case)
    parsed = Bundle.model_validate_json(canonical_bytes(bundle))
    assert json.loads(parsed.model_dump_json(exclude_none=True)) == bundle


def test_same_clock_gives_the_same_bytes() -> None:
    assert canonical_bytes(build_bundle(facts())) == canonical_bytes(build_bundle(facts()))


def test_regulatory_tag_becomes_a_policy_and_a_data_source_an_entity() -> None:
    provenance = provenance_of(build_bundle(facts()))
    assert provenance["policy"] == [
        "https://www.ecfr.gov/current/title-45/subtitle-A/subchapter-C/part-164"
    ]
    assert "internal-ehr" in [entity["what"]["display"] for entity in provenance["entity"]]


def test_withheld_and_undefined_scores_are_not_told() -> None:
    text = canonical_bytes(build_bundle(facts())).decode()
    assert '"valueCode":"masked"' in text
    assert "777" not in text
    assert "778" not in text
    assert text.count('"measureScore"') == 1


def test_a_count_that_does_not_stand_behind_a_score_is_left_out_and_never_told_as_zero() -> None:
    recall = Score("exact", "label", "DISEASE", "all", "recall", 0.5, 4, None, None)
    record = json.dumps(build_bundle(replace(facts(), scores=(recall,))))
    check_bundle(json.loads(record))
    assert "gold-mentions" in record
    assert "predicted-mentions" not in record
    assert "half-credits" not in record


@pytest.mark.parametrize("entry", range(10))
def test_a_change_in_any_resource_breaks_the_signature(tmp_path: Path, entry: int) -> None:
    key = generate_key(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    record = json.loads(canonical_bytes(signed(build_bundle(facts()), key)))
    check_bundle(record)
    keys = {key.key_id: key.key}
    assert signature_problems(record, keys) == ([], [])
    record["entry"][entry]["resource"]["language"] = "en"
    assert signature_problems(record, keys)[0]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    generate_key(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o644)
    with pytest.raises(ConfigurationError, match="can be read by others"):
        SigningKey.read(tmp_path / "key.pem")
