"""The code location: what Dagster is told, and what loading it costs."""

import os
import subprocess
import sys

import dagster as dg
import pytest

from hc_orchestration.definitions import build_definitions
from hc_orchestration.errors import ConfigurationError
from hc_orchestration.resources.workspace import MlflowResource, WorkspaceResource
from hc_orchestration.settings import Settings
from hc_orchestration.storage.comparisons import COMPARISONS
from hc_orchestration.storage.corpus import NOTES
from hc_orchestration.storage.entities import entities_table
from hc_orchestration.storage.metrics import metrics_table
from hc_orchestration.storage.model_files import model_files_table
from hc_orchestration_tests.conftest import ABSENT, RULER, TERMS

CHAIN = {"model_files", "extracted_entities", "evaluation_metrics", "provenance"}
GRAPH = {
    "notes_corpus": set(),
    "model_files": set(),
    "extracted_entities": {"notes_corpus", "model_files"},
    "evaluation_metrics": {"extracted_entities", "notes_corpus", "model_files"},
    "provenance": {"evaluation_metrics", "notes_corpus", "model_files"},
    "model_comparison": {"evaluation_metrics"},
}
CHECKS = {
    "notes_corpus": {
        "corpus_not_empty",
        "note_ids_unique",
        "gold_offsets_valid",
        "quarantine_share_allowed",
        "mlflow_up_to_date",
    },
    "extracted_entities": {"every_note_has_one_row", "spans_lie_in_their_notes"},
    "evaluation_metrics": {"scores_within_bounds"},
    "provenance": {"provenance_valid", "provenance_chain", "mlflow_up_to_date"},
    "model_comparison": {"mlflow_up_to_date"},
}
NOT_BLOCKING = {"mlflow_up_to_date", "provenance_chain"}
HEAVY = ("mlflow", "spacy", "polars", "deltalake", "pandas", "pyarrow", "fhir")


@pytest.fixture
def definitions(settings: Settings) -> dg.Definitions:
    return build_definitions(settings)


@pytest.fixture
def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def test_loading_the_location_loads_nothing_heavy(settings: Settings) -> None:
    """A daemon loads it anew every minute."""
    code = f"""
import sys
import hc_orchestration.definitions as location
assert location.defs
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("DAGSTER_")
    }
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert loaded.stdout == "[]\n"
    assert not (settings.home / "tables").exists()


def test_the_graph_is_the_designed_one(specs: dict[str, dg.AssetSpec]) -> None:
    graph = {
        name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in specs.items()
    }

    assert graph == GRAPH


def test_every_asset_says_what_it_is(specs: dict[str, dg.AssetSpec]) -> None:
    for name, spec in specs.items():
        assert str(spec.description).startswith(("One row per", "One FHIR")), name
        assert spec.owners == ["team:clinical-nlp"], name
        assert spec.kinds, name
        assert spec.code_version, name
    groups = {name: spec.group_name for name, spec in specs.items()}
    assert groups == {
        "notes_corpus": "corpus",
        "model_comparison": "comparison",
        **dict.fromkeys(CHAIN, "evaluation"),
    }


def test_every_table_shows_its_columns_with_a_description(specs: dict[str, dg.AssetSpec]) -> None:
    tables = {
        "notes_corpus": NOTES.schema,
        "model_files": model_files_table(TERMS).schema,
        "extracted_entities": entities_table(TERMS).schema,
        "evaluation_metrics": metrics_table(TERMS).schema,
        "model_comparison": COMPARISONS.schema,
    }
    for name, columns in tables.items():
        shown = specs[name].metadata["dagster/column_schema"]
        assert isinstance(shown, dg.TableSchema)
        named = [column.name for column in shown.columns]
        assert set(named) <= set(columns), name
        assert all(column.description for column in shown.columns), name
        if name in ("notes_corpus", "model_files", "extracted_entities"):
            assert set(named) == set(columns), name


def test_jobs_sensors_and_run_config_explain_themselves(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    named = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    assert {job.name for job in named} == {
        "refresh_corpus",
        "evaluate_model",
        "compare_models",
        "promote_model",
    }
    for said in [*named, *repository.sensor_defs, *repository.schedule_defs]:
        assert str(said.description).endswith("."), said.name
    for resource in (WorkspaceResource, MlflowResource):
        fields = resource.model_fields
        assert all(field.description for field in fields.values()), resource.__name__


def test_a_partition_is_a_model_of_the_catalogue(specs: dict[str, dg.AssetSpec]) -> None:
    for name, spec in specs.items():
        partitions = spec.partitions_def
        keys = partitions.get_partition_keys() if partitions else None
        assert keys == ([TERMS, RULER, ABSENT] if name in CHAIN else None), name


def test_the_comparison_depends_on_every_model(specs: dict[str, dg.AssetSpec]) -> None:
    (dep,) = specs["model_comparison"].deps

    assert isinstance(dep.partition_mapping, dg.AllPartitionMapping)


def test_each_job_runs_its_assets_and_their_checks(definitions: dg.Definitions) -> None:
    selections = {}
    for name in ("refresh_corpus", "evaluate_model", "compare_models"):
        layer = definitions.resolve_job_def(name).asset_layer
        assets = {key.to_user_string() for key in layer.selected_asset_keys}
        checks = {key.name for key in layer.asset_graph.asset_check_keys}
        selections[name] = (assets, checks)

    of_chain = set.union(*(CHECKS.get(asset, set()) for asset in CHAIN))
    assert selections == {
        "refresh_corpus": ({"notes_corpus"}, CHECKS["notes_corpus"]),
        "evaluate_model": (CHAIN, of_chain),
        "compare_models": ({"model_comparison"}, CHECKS["model_comparison"]),
    }


def test_checks_belong_to_their_asset_and_those_of_integrity_block(
    definitions: dg.Definitions,
) -> None:
    found: dict[str, set[str]] = {}
    for checks in [*(definitions.asset_checks or []), *(definitions.assets or [])]:
        assert isinstance(checks, dg.AssetsDefinition)
        for spec in checks.check_specs:
            assert spec.blocking is (spec.name not in NOT_BLOCKING), spec.name
            found.setdefault(spec.asset_key.to_user_string(), set()).add(spec.name)

    assert found == CHECKS


def test_everything_that_is_defined_can_be_loaded(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)


def test_a_resource_can_be_swapped(settings: Settings) -> None:
    class NoTracking(dg.ConfigurableResource):  # type: ignore[type-arg]
        """Takes the place of MLflow."""

    mine = NoTracking()

    resources = build_definitions(settings, {"mlflow": mine}).resources or {}
    assert resources["mlflow"] is mine
    assert set(resources) == {"workspace", "mlflow", "ray_cluster"}


def test_a_catalogue_that_cannot_be_read_is_named(settings: Settings) -> None:
    settings.catalogue.write_text("models: [{name: a}]", encoding="utf-8")

    with pytest.raises(ConfigurationError, match=r"models\.yaml"):
        build_definitions(settings)


def test_a_password_in_the_tracking_uri_is_not_in_the_definitions(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HC_HOME", str(settings.home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somebody:hunter2@127.0.0.1:9")

    resources = build_definitions(Settings.from_environment()).resources or {}

    assert "hunter2" not in repr(resources)
    assert isinstance(resources["mlflow"], dg.ConfigurableResource)
    shown = (
        resources["mlflow"]
        .get_resource_definition()
        .config_schema.default_value["mlflow_tracking_uri"]
    )
    assert shown == {"env": "MLFLOW_TRACKING_URI"}
