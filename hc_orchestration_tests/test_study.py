"""The study file: what it may say, and that a slip of the pen never passes in silence."""

from pathlib import Path

import pytest

from hc_orchestration.corpora.sources import CorpusSource
from hc_orchestration.errors import ConfigurationError
from hc_orchestration.healthcare.contexts import PatientContext, StudyContext
from hc_orchestration.scoring.identity import ScoringPlan
from hc_orchestration.study import Gate, Privacy, Schedule, Study, load_study

SHIPPED = Path(__file__).parents[1] / "data" / "study.yaml"

MINIMAL = """
name: demo
labels: [DISEASE, CHEMICAL]
corpora: [{name: notes, path: notes.jsonl, format: jsonl}]
"""

FULL = """
name: clinical-ner-evaluation
labels: [DISEASE, CHEMICAL]
corpora:
  - name: synthetic-notes
    path: corpora/synthetic_notes
    format: jsonl
    labels: {Disease: DISEASE}
  - {name: abstracts, path: "s3://bucket/abstracts", format: pubtator}
context:
  organization: Research Hospital AI Lab
  purpose: Extract diagnoses from discharge summaries
  data_sources: [internal-ehr]
  regulatory_tags: [HIPAA, IRB-approved]
  patient_context:
    cohort: General Medicine Inpatients
    age_range: "18-90"
    sample_size: 500
    inclusion_criteria: [Has discharge summary]
    exclusion_criteria: [Pediatric patients]
slices: [source, note_type, specialty, length]
gates:
  - {metric: strict.f1, minimum: 0.60, minimum_support: 100}
  - {metric: strict.f1, label: DISEASE, regression: 0.02, name: no worse on diseases}
cluster: patient
schedule: {cron: "0 2 * * *", timezone: Europe/Berlin}
privacy: {note_text_in_reports: false, smallest_cell: 11, pseudonymize_note_ids: false}
"""


def written(folder: Path, content: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(content, encoding="utf-8")
    return path


def refusal(folder: Path, content: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_study(written(folder, content))
    return str(caught.value)


def test_study_of_all_keys_is_read(tmp_path: Path) -> None:
    assert load_study(written(tmp_path, FULL)) == Study(
        name="clinical-ner-evaluation",
        labels=("DISEASE", "CHEMICAL"),
        corpora=(
            CorpusSource(
                name="synthetic-notes",
                path=str(tmp_path / "corpora" / "synthetic_notes"),
                format="jsonl",
                labels={"Disease": "DISEASE"},
            ),
            CorpusSource(name="abstracts", path="s3://bucket/abstracts", format="pubtator"),
        ),
        context=StudyContext(
            organization="Research Hospital AI Lab",
            purpose="Extract diagnoses from discharge summaries",
            data_sources=["internal-ehr"],
            regulatory_tags=["HIPAA", "IRB-approved"],
            patient_context=PatientContext(
                cohort="General Medicine Inpatients",
                age_range="18-90",
                sample_size=500,
                inclusion_criteria=["Has discharge summary"],
                exclusion_criteria=["Pediatric patients"],
            ),
        ),
        slices=("source", "note_type", "specialty", "length"),
        gates=(
            Gate(metric="strict.f1", minimum=0.6, minimum_support=100),
            Gate(metric="strict.f1", label="DISEASE", regression=0.02, name="no worse on diseases"),
        ),
        cluster="patient",
        schedule=Schedule(cron="0 2 * * *", timezone="Europe/Berlin"),
        privacy=Privacy(note_text_in_reports=False, smallest_cell=11, pseudonymize_note_ids=False),
    )


def test_what_is_not_given_has_a_private_default(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, MINIMAL))
    assert study.privacy == Privacy(note_text_in_reports=False, smallest_cell=11)
    assert study.schedule == Schedule(cron="0 2 * * *", timezone="UTC")
    assert study.context == StudyContext()


def test_shipped_study_is_read_and_its_corpus_is_there() -> None:
    (corpus,) = load_study(SHIPPED).corpora
    assert Path(corpus.path) == SHIPPED.parent / "corpora" / "synthetic_notes"
    assert Path(corpus.path).is_dir()


def test_scores_depend_on_labels_slices_cluster_and_smallest_cell(tmp_path: Path) -> None:
    assert load_study(written(tmp_path, FULL)).scoring == ScoringPlan(
        labels=("DISEASE", "CHEMICAL"),
        slices=("source", "note_type", "specialty", "length"),
        cluster="patient",
        smallest_cell=11,
    )


def test_a_gate_is_named_by_what_it_says_or_as_it_is_called(tmp_path: Path) -> None:
    gates = load_study(written(tmp_path, FULL)).gates
    assert [gate.check for gate in gates] == ["strict_f1_minimum_0_6", "no_worse_on_diseases"]
    assert [gate.score for gate in gates] == ["strict.f1", "strict.f1.label.DISEASE"]


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ("{metric: strict.f2, minimum: 1}", "unknown metric"),
        ("{metric: exact.f1.macro, minimum: 1}", "unknown metric"),
        ("{metric: exact.f1, label: DISEASE, minimum: 1}", "exact.f1 has no values by label"),
        ("{metric: strict.f1.macro, label: DISEASE, minimum: 1}", "has no values by label"),
        ("{metric: strict.f1, label: GENE, minimum: 1}", "a gate is about GENE"),
        ("{metric: strict.f1, minimum: 1, regression: 1}", "either minimum or regression"),
        (
            "{metric: strict.f1, minimum: 0.5}, {metric: strict.f1, minimum: 0.5}",
            "two gates have the same name",
        ),
    ],
)
def test_a_gate_that_nothing_can_be_held_to_is_refused(
    tmp_path: Path, gate: str, expected: str
) -> None:
    assert expected in refusal(tmp_path, f"{MINIMAL}gates: [{gate}]\n")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("format: word", "corpora.0.format: Input should be 'jsonl', 'csv'"),
        ("format: jsonl, columns: {note_id: a, text: b}", "columns are for csv and parquet"),
        ("format: csv, columns: {text: b}", "columns name at least note_id and text"),
        ("format: jsonl, sample: {n: 3, fraction: 0.5}", "give either n or fraction"),
        ("format: jsonl, sample: {seed: 3}", "give either n or fraction"),
        ("format: jsonl, sample: {fraction: 1.5}", "less than or equal to 1"),
        ("format: jsonl, limit: 0", "greater than or equal to 1"),
        ("format: jsonl, repeated_texts: drop", "'keep' or 'once'"),
    ],
)
def test_corpus_that_cannot_be_read_as_asked_is_refused(
    tmp_path: Path, entry: str, expected: str
) -> None:
    assert expected in refusal(tmp_path, MINIMAL.replace("format: jsonl", entry))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (MINIMAL + "lables: []\n", "lables: unknown key; did you mean 'labels'?"),
        (MINIMAL + "shedule: {}\n", "shedule: unknown key; did you mean 'schedule'?"),
        (
            MINIMAL + "context: {organisation: x}\n",
            "context.organisation: unknown key; did you mean 'organization'?",
        ),
        (
            MINIMAL + "context: {patient_context: {cohorts: x}}\n",
            "context.patient_context.cohorts: unknown key; did you mean 'cohort'?",
        ),
        (
            MINIMAL.replace("path: notes", "pat: x, path: notes"),
            "corpora.0.pat: unknown key; did you mean 'path'?",
        ),
        (
            MINIMAL + "privacy: {smalest_cell: 5}\n",
            "privacy.smalest_cell: unknown key; did you mean 'smallest_cell'?",
        ),
    ],
)
def test_misspelt_key_names_the_one_that_was_meant(
    tmp_path: Path, content: str, expected: str
) -> None:
    assert expected in refusal(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(
            MINIMAL.replace("[DISEASE, CHEMICAL]", "[]"), "labels: Tuple should", id="no label"
        ),
        pytest.param(
            MINIMAL.replace("CHEMICAL", "DISEASE"), "labels are distinct", id="same label twice"
        ),
        pytest.param(
            MINIMAL.replace("CHEMICAL", "'*'"), "labels are distinct", id="the untyped label"
        ),
        pytest.param(MINIMAL.replace("CHEMICAL", "''"), "labels are distinct", id="empty label"),
        pytest.param(
            MINIMAL.replace(
                "[{name: notes", "[{name: notes, path: b, format: jsonl}, {name: notes"
            ),
            "two corpora have the same name",
            id="same corpus name twice",
        ),
        pytest.param(
            MINIMAL.replace("format: jsonl", "format: jsonl, labels: {D: DRUG, C: DISEAES}"),
            "corpus notes maps to DISEAES, DRUG, not one of `labels`",
            id="corpus mapped to unknown labels",
        ),
        pytest.param(
            MINIMAL + "schedule: {timezone: Mars/Olympus}\n",
            "schedule.timezone: Value error, unknown time zone",
            id="unknown time zone",
        ),
        pytest.param(
            MINIMAL + "schedule: {timezone: Europe}\n",
            "schedule.timezone: Value error, unknown time zone",
            id="a region, not a time zone",
        ),
        pytest.param(
            MINIMAL + "gates: [{metric: strict.f1}]\n",
            "give either minimum or regression",
            id="gate without a threshold",
        ),
        pytest.param(
            MINIMAL + "gates: [{metric: strict.f1, minimum: 0.5, regression: 0.1}]\n",
            "give either minimum or regression",
            id="gate with two thresholds",
        ),
        pytest.param(
            MINIMAL + "gates: [{metric: strict.f1, regression: -0.1}]\n",
            "gates.0.regression",
            id="negative margin",
        ),
        pytest.param(
            MINIMAL + "gates: [{metric: strict.f1, minimum: 0.5, minimum_support: -1}]\n",
            "gates.0.minimum_support",
            id="negative support",
        ),
        pytest.param(
            MINIMAL.replace("path: notes.jsonl", "path: ''"), "corpora.0.path", id="empty path"
        ),
        pytest.param(MINIMAL.replace("name: demo", "name: ''"), "name: String", id="empty name"),
        pytest.param(
            MINIMAL + "privacy: {smallest_cell: 0}\n", "privacy.smallest_cell", id="cell of nobody"
        ),
        pytest.param(
            MINIMAL + "context: {patient_context: {sample_size: -1}}\n",
            "context.patient_context.sample_size",
            id="negative sample",
        ),
    ],
)
def test_study_that_means_nothing_is_refused(tmp_path: Path, content: str, expected: str) -> None:
    assert expected in refusal(tmp_path, content)


@pytest.mark.parametrize("path", ["/corpora/notes", "s3://bucket/notes", "file:///corpora/notes"])
def test_absolute_path_or_url_of_a_corpus_stays_as_it_is(tmp_path: Path, path: str) -> None:
    study = load_study(written(tmp_path, MINIMAL.replace("notes.jsonl", path)))
    assert study.corpora[0].path == path


def test_bounds_themselves_are_allowed(tmp_path: Path) -> None:
    gates = "gates: [{metric: exact.f1, regression: 0.0, minimum_support: 0}]\n"
    study = load_study(written(tmp_path, MINIMAL + gates + "privacy: {smallest_cell: 1}\n"))
    assert study.gates == (Gate(metric="exact.f1", regression=0.0, minimum_support=0),)
    assert study.privacy.smallest_cell == 1
