"""A real evaluation's record on a real FHIR server: taken once, found by target and by tag."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from hc_orchestration.errors import UploadError
from hc_orchestration.healthcare.fhir_server import FhirServer
from hc_orchestration.healthcare.signing import generate_key
from hc_orchestration.storage.uploads import records_to_upload, sent
from hc_orchestration_tests.conftest import CATALOGUE, NOTES, STUDY, TERMS, write_notes
from hc_orchestration_tests.fhir_server import running_fhir_server
from hc_orchestration_tests.recorded import evaluated, workspace_in

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The signed record of an evaluation."""
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    (folder / "models.yaml").write_text(CATALOGUE, encoding="utf-8")
    (folder / "terms.tsv").write_text("DISEASE\tasthma\n", encoding="utf-8")
    write_notes(folder, NOTES)
    key: Path = folder / "key.pem"
    generate_key(key)
    workspace = workspace_in(folder / "home", folder, key)
    evaluated(workspace, TERMS, "run-1")
    (content,) = records_to_upload(workspace, TERMS)
    return content


def found(url: str, kind: str, **search: str) -> list[dict[str, Any]]:
    answer = httpx.get(f"{url}/{kind}", params=search, timeout=30).json()
    return [entry["resource"] for entry in answer.get("entry", [])]


@pytest.mark.parametrize(
    ("options", "at_once"), [(("--batch",), None), ((), 8)], ids=["whole", "in transactions of 8"]
)
def test_a_record_is_taken_once_and_found_by_target_and_tag(
    record: bytes, options: tuple[str, ...], at_once: int | None
) -> None:
    """Medplum takes a whole record as a batch, and in a transaction at most eight such entries."""
    with running_fhir_server(*options) as url:
        first = sent(record, FhirServer(url), at_once)
        again = sent(record, FhirServer(url), at_once)

        assert first.found == 0
        assert (again.created, again.found) == (0, first.created)
        assert again.provenance == first.provenance
        (report,) = found(url, "MeasureReport")
        by_target = found(url, "Provenance", target=f"MeasureReport/{report['id']}")
        by_tag = found(url, "Provenance", _tag=first.tag)
        assert [f"Provenance/{one['id']}" for one in by_target] == [first.provenance]
        assert [f"Provenance/{one['id']}" for one in by_tag] == [first.provenance]
        assert found(url, "Provenance", _tag=f"{first.tag}x") == []
        # The corpus, the model card, five files and the rows of two tables.
        assert len(found(url, "DocumentReference")) == 9
        assert "urn:uuid:" not in str([target["reference"] for target in by_tag[0]["target"]])


def test_a_transaction_that_is_refused_is_told_with_the_servers_reason(record: bytes) -> None:
    with running_fhir_server() as url, pytest.raises(UploadError, match="too many entries"):
        sent(record, FhirServer(url))


def test_the_token_opens_the_server_and_without_it_the_upload_fails(record: bytes) -> None:
    with running_fhir_server("--batch", "--token", "s3cret") as url:
        with pytest.raises(UploadError, match="HTTP 401"):
            sent(record, FhirServer(url))
        assert sent(record, FhirServer(url, "s3cret")).found == 0


def test_a_slow_server_is_given_up_and_told(record: bytes) -> None:
    with (
        running_fhir_server("--delay", "2") as url,
        pytest.raises(UploadError, match="in 5 attempts: ReadTimeout"),
    ):
        sent(record, FhirServer(url, timeout_s=0.2, pause=lambda _: None))
