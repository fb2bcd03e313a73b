"""The stores: whether tables, Dagster and MLflow can be reached and have the schema of today."""

import json
import urllib.request
from collections.abc import Callable, Sequence

import dagster as dg

from hc_orchestration.errors import HcError
from hc_orchestration.examination.finding import Finding
from hc_orchestration.settings import Settings
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.tracking.schema import schema_outdated

_PARTITIONS = """
{ assetNodeOrError(assetKey: {path: ["model_files"]}) {
  __typename ... on AssetNode { partitionKeys } } }
"""
_ANSWER_S = 3


def table_findings(workspace: Workspace) -> list[Finding]:
    """Whether the tables can be listed and the newest corpus be read."""
    try:
        workspace.delta.paths()
        latest = workspace.corpus.latest()
        if latest is not None:
            workspace.corpus.notes(latest.version)
    except HcError as error:
        return [Finding("tables", str(error), "restore HC_STORAGE from a backup")]
    except Exception as error:  # noqa: BLE001 - object stores raise whatever they like
        problem = f"cannot be reached ({type(error).__name__})"
        return [Finding("tables", problem, "mend HC_STORAGE and the credentials of its store")]
    return []


def dagster_findings(instance: dg.DagsterInstance) -> list[Finding]:
    """Whether each Dagster store answers and has the schema that this Dagster needs."""
    findings = []
    stores = {
        "runs": instance.run_storage,
        "events": instance.event_log_storage,
        "schedules": instance.schedule_storage,
    }
    for name, store in stores.items():
        if store is None:
            continue
        try:
            found = store.alembic_version()
        except Exception as error:  # noqa: BLE001 - drivers raise whatever they like
            problem = f"cannot be reached ({type(error).__name__})"
            findings.append(Finding(f"Dagster's {name}", problem, "start its database"))
            continue
        if found is not None and found[0] != found[1]:
            home = instance.root_directory
            remedy = f"DAGSTER_HOME={home} dagster instance migrate (after a backup)"
            problem = f"schema is {found[0]}, this Dagster needs {found[1]}"
            findings.append(Finding(f"Dagster's {name}", problem, remedy))
    return findings


def mlflow_schema_findings(settings: Settings) -> list[Finding]:
    """Whether an MLflow database has the schema that this MLflow needs; a server has its own."""
    if not schema_outdated(settings.tracking_uri):
        return []
    remedy = 'mlflow db upgrade "$MLFLOW_TRACKING_URI" (after a backup)'
    return [Finding("MLflow", "its database has the schema of another MLflow", remedy)]


def partition_findings(
    catalogue: Sequence[str], running: Callable[[], Sequence[str] | None]
) -> list[Finding]:
    """Whether a running code location knows the models that the catalogue names now."""
    known = running()
    if known is None or set(known) == set(catalogue):
        return []
    new = sorted(set(catalogue) - set(known))
    old = sorted(set(known) - set(catalogue))
    parts = [f"does not know {', '.join(new)}"] if new else []
    parts += [f"still knows {', '.join(old)}"] if old else []
    remedy = "press Reload definitions in the Dagster page, or start hc ui again"
    return [Finding("the running code location", " and ".join(parts), remedy)]


def partitions_of(page: str) -> Sequence[str] | None:
    """The partition keys that the Dagster page shows; None when none answers without a login."""
    body = json.dumps({"query": _PARTITIONS}).encode()
    request = urllib.request.Request(  # noqa: S310 - the page of this deployment
        f"{page}/graphql", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:  # noqa: S310
            node = json.load(answer)["data"]["assetNodeOrError"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    keys: list[str] | None = node.get("partitionKeys")
    return keys
