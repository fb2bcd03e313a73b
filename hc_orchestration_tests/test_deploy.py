"""deploy/ and the files of daily work, as far as they can be checked without an engine."""

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
SECRET = re.compile(r"PASSWORD|SECRET|KEY_ID|POSTGRES_URL|STORE_URI|HASH")


def document(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def compose() -> Any:
    return document(DEPLOY / "compose.yaml")


def test_each_part_is_a_service_of_its_own(compose: Any) -> None:
    assert set(compose["services"]) == {
        "postgres",
        "mlflow",
        "code",
        "webserver",
        "daemon",
        "proxy",
    }


def test_only_the_proxy_can_be_reached_from_outside(compose: Any) -> None:
    published = {name for name, service in compose["services"].items() if service.get("ports")}
    outside = {name for name, s in compose["services"].items() if "outside" in s["networks"]}

    assert published == outside == {"proxy"}
    assert compose["networks"]["inside"]["internal"] is True


def test_images_are_pinned_and_name_no_registry(compose: Any) -> None:
    for service in compose["services"].values():
        name, _, tag = service["image"].partition(":")
        assert "." not in name.split("/")[0]
        assert re.fullmatch(r"\d+(\.\d+)+", tag), service["image"]


def test_no_secret_is_written_down(compose: Any) -> None:
    """Values come from the environment or a file; the example names them and gives none."""
    for service in compose["services"].values():
        for name, value in (service.get("environment") or {}).items():
            if SECRET.search(name):
                assert value.startswith(("${", "/run/secrets/")), name
    for line in (DEPLOY / "env.example").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition("=")
        assert not (SECRET.search(name) and value and not line.startswith("#")), name
    used = {s for service in compose["services"].values() for s in service.get("secrets", [])}
    assert used == set(compose["secrets"])


def test_only_the_code_server_sees_notes_models_and_the_signing_key(compose: Any) -> None:
    for name, service in compose["services"].items():
        mounted = str(service.get("volumes", ""))
        sees = "home:" in mounted or "HC_STORAGE" in str(service.get("environment"))
        signs = "signing_key" in service.get("secrets", [])
        assert (sees, signs) == ((True, True) if name == "code" else (False, False)), name


def test_what_is_asked_for_in_the_environment_stands_in_the_example() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    asked = set(re.findall(r"\$\{([A-Z0-9_]+)", text))
    given = set(
        re.findall(r"^([A-Z0-9_]+)=", (DEPLOY / "env.example").read_text("utf-8"), re.MULTILINE)
    )

    assert asked == given


def test_volumes_and_files_that_are_mounted_exist(compose: Any) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{[^}]*\}", "data", volume).split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).is_file(), volume
            elif source != "data":
                assert source in compose["volumes"], volume
        for other in service.get("depends_on", {}):
            assert other in compose["services"]


def test_the_mlflow_server_has_a_login_and_knows_its_hosts(compose: Any) -> None:
    arguments = compose["services"]["mlflow"]["command"]

    assert "--app-name=basic-auth" in arguments
    assert any(argument.startswith("--allowed-hosts=") for argument in arguments)


def test_the_proxy_asks_for_a_login_before_dagsters_page() -> None:
    caddy = (DEPLOY / "Caddyfile").read_text(encoding="utf-8")
    dagster_site = caddy.split("https://{$HC_SITE} {")[1].split("\n}")[0]

    assert dagster_site.index("basic_auth") < dagster_site.index("reverse_proxy webserver:3000")
    assert caddy.count("import hardened") == 2
    assert "http://" not in caddy


def test_dagster_takes_the_settings_and_the_url_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster._core.instance import InstanceRef

    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://somebody:hunter2@db/dagster")
    (tmp_path / "dagster.yaml").write_bytes((DEPLOY / "dagster.yaml").read_bytes())

    reference = InstanceRef.from_dir(str(tmp_path))

    storage = reference.storage_data
    assert storage.class_name == "DagsterPostgresStorage"
    assert "hunter2" not in str(reference.to_dict())
    assert reference.settings["run_retries"]["retry_on_asset_or_op_failure"] is False


def test_the_workspace_names_the_code_server_only() -> None:
    (entry,) = document(DEPLOY / "workspace.yaml")["load_from"]

    assert entry["grpc_server"]["host"] == {"env": "DAGSTER_CODE_HOST"}


def test_the_map_of_the_code_names_every_part_of_it() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    package = ROOT / "hc_orchestration"
    parts = {p.stem for p in package.glob("*.py")} | {
        p.name for p in package.iterdir() if (p / "__init__.py").exists()
    }

    assert {part for part in parts - {"__init__"} if f"`{part}" not in text} <= {"partitions"}


def test_the_workflow_tests_both_pythons_with_what_ci_runs() -> None:
    workflow = document(ROOT / ".github" / "workflows" / "test.yaml")
    job = workflow["jobs"]["test"]

    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12"]
    assert job["steps"][-1] == {"run": ".ci/run"}


def test_pre_commit_runs_what_make_lint_runs() -> None:
    (repo,) = document(ROOT / ".pre-commit-config.yaml")["repos"]
    entries = {hook["entry"].removeprefix(".venv/bin/") for hook in repo["hooks"]}

    assert entries == {"ruff format", "ruff check", "lint-imports --no-cache", "mypy"}
