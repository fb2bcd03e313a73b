"""`hc doctor`: what of this deployment does not work or tell the truth, and mending it."""

from functools import partial

import dagster as dg

from hc_orchestration.errors import DagsterStoreError, TrackingError
from hc_orchestration.examination.finding import REPAIR, Finding
from hc_orchestration.examination.machine import (
    disk_findings,
    package_findings,
    permission_findings,
    python_findings,
    secret_findings,
    secrets_in_settings,
)
from hc_orchestration.examination.models import model_findings
from hc_orchestration.examination.stores import (
    dagster_findings,
    mlflow_schema_findings,
    partition_findings,
    partitions_of,
    table_findings,
)
from hc_orchestration.home import prepare_home
from hc_orchestration.resources.closing import close_evaluation, dead_runs, orphaned
from hc_orchestration.resources.workspace import mlflow_projection
from hc_orchestration.runs import dagster_instance
from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import EvaluationRecord
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.tracking.client import MlflowStore
from hc_orchestration.tracking.dead import close_tracked_runs, dead_tracked_runs
from hc_orchestration.tracking.projection import Record
from hc_orchestration.tracking.sync import lacking


def examine(settings: Settings, *, repair: bool) -> list[Finding]:
    """Look at the machine, the stores, the models, dead runs, and what MLflow lacks.

    Args:
        settings: The deployment.
        repair: Close what is dead, first the Dagster run, then the record and its MLflow run; and
            take from other accounts what they may not read.
    """
    prepare_home(settings)
    workspace = Workspace(settings)
    catalogue = workspace.catalogue
    findings = [
        *python_findings(),
        *package_findings(),
        *disk_findings(settings),
        *permission_findings(settings, repair=repair),
        *secret_findings(settings),
        *secrets_in_settings(settings.dagster_home / "dagster.yaml"),
        *model_findings(catalogue, settings),
        *partition_findings(catalogue.keys, partial(partitions_of, settings.dagster_url)),
    ]
    unreachable = table_findings(workspace)
    try:
        with dagster_instance() as instance:
            outdated = dagster_findings(instance)
            if not unreachable and not outdated:
                findings += _dagster_runs(instance, repair=repair)
                findings += _evaluations(instance, workspace, settings, repair=repair)
    except DagsterStoreError as error:
        outdated = [Finding("Dagster's database", error.problem, error.remedy)]
    told = [] if unreachable else _mlflow(workspace, settings, repair=repair)
    return [*findings, *unreachable, *outdated, *told]


def _dagster_runs(instance: dg.DagsterInstance, *, repair: bool) -> list[Finding]:
    findings = []
    for dead in dead_runs(instance):
        run = instance.get_run_by_id(dead.run_id)
        if repair and run is not None:
            instance.report_run_failed(run, f"process {dead.pid} is gone")
        problem = f"says that it is running, but process {dead.pid} is gone"
        findings.append(Finding(f"Dagster run {dead.run_id}", problem, REPAIR, repair))
    return findings


def _evaluations(
    instance: dg.DagsterInstance, workspace: Workspace, settings: Settings, *, repair: bool
) -> list[Finding]:
    projection = mlflow_projection(settings.tracking_uri, workspace)
    projection.ask_at_once()
    findings: list[Finding] = []
    for record, status in orphaned(instance, workspace.records):
        if repair:
            close_evaluation(workspace.records, projection, record, status)
        subject = _named(record)
        problem = "says that it is running, but its Dagster run is over"
        findings.append(Finding(subject, problem, REPAIR, repair))
    return findings


def _named(record: Record) -> str:
    of_model = f" of {record.model_key}" if isinstance(record, EvaluationRecord) else ""
    return f"{record.kind} {record.identity}{of_model}"


def _mlflow(workspace: Workspace, settings: Settings, *, repair: bool) -> list[Finding]:
    store = MlflowStore(settings.tracking_uri, settings.home, settings.mlflow_url)
    findings = [
        Finding(
            _named(record),
            "MLflow lacks part of its record",
            "hc mlflow sync",
        )
        for record in lacking(workspace)
    ]
    findings += [
        Finding(
            f"promotion {promotion.promotion_id} of {promotion.model_key}",
            "MLflow lacks it",
            "hc mlflow sync",
            mended=False,
        )
        for promotion in workspace.promotions.unshown()
    ]
    try:
        if outdated := mlflow_schema_findings(settings):
            return [*findings, *outdated]
        runs = dead_tracked_runs(store)
        if repair:
            close_tracked_runs(store, runs)
    except TrackingError as error:
        remedy = "start the MLflow server, or mend MLFLOW_TRACKING_URI"
        return [*findings, Finding("MLflow", str(error), remedy)]
    problem = "says RUNNING, but the process that opened it is gone"
    return findings + [
        Finding(f"MLflow run {run.info.run_id}", problem, REPAIR, repair) for run in runs
    ]
