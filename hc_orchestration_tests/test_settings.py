"""Settings: defaults, what the environment changes, and misspelt variables."""

from pathlib import Path

import pytest

from hc_orchestration.errors import ConfigurationError
from hc_orchestration.settings import Settings, project_root

CHECKOUT = Path(__file__).parents[1]


def test_defaults_lie_in_the_project() -> None:
    settings = Settings.from_environment({})
    assert project_root() == CHECKOUT
    assert settings.home == CHECKOUT / ".hc"
    assert settings.study == CHECKOUT / "data" / "study.yaml"
    assert settings.catalogue == CHECKOUT / "data" / "models.yaml"
    assert settings.storage == str(CHECKOUT / ".hc" / "tables")
    assert settings.tracking_uri == f"sqlite:///{CHECKOUT / '.hc' / 'mlflow.db'}"
    assert settings.dagster_url == "http://127.0.0.1:3000"
    assert settings.mlflow_url == "http://127.0.0.1:5000"


def test_home_moves_all_state_and_no_input(tmp_path: Path) -> None:
    settings = Settings.from_environment({"HC_HOME": str(tmp_path)})
    assert settings.storage == str(tmp_path / "tables")
    assert settings.tracking_uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert settings.dagster_home == tmp_path / "dagster"
    assert settings.locks == tmp_path / "locks"
    assert settings.model_store == tmp_path / "models"
    assert settings.study == CHECKOUT / "data" / "study.yaml"


def test_each_variable_sets_its_own_setting() -> None:
    settings = Settings.from_environment(
        {
            "HC_HOME": "/state",
            "HC_STUDY": "/studies/one.yaml",
            "HC_MODELS": "/studies/models.yaml",
            "HC_STORAGE": "s3://bucket/tables/",
            "HC_DAGSTER_URL": "https://dagster.example/",
            "HC_MLFLOW_URL": "https://mlflow.example/",
            "MLFLOW_TRACKING_URI": "sqlite:////elsewhere/mlflow.db",
        }
    )
    assert settings == Settings(
        home=Path("/state"),
        study=Path("/studies/one.yaml"),
        catalogue=Path("/studies/models.yaml"),
        storage="s3://bucket/tables",
        tracking_uri="sqlite:////elsewhere/mlflow.db",
        dagster_url="https://dagster.example",
        mlflow_url="https://mlflow.example",
    )


def test_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HC_HOME", "/state")
    assert Settings.from_environment().home == Path("/state")


def test_relative_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment(
        {"HC_HOME": "state", "HC_STUDY": "study.yaml", "HC_STORAGE": "tables"}
    )
    assert settings.home == tmp_path / "state"
    assert settings.study == tmp_path / "study.yaml"
    assert settings.storage == str(tmp_path / "tables")


def test_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings.from_environment({"HC_HOME": "~/state"}).home == tmp_path / "state"


@pytest.mark.parametrize(
    ("tracking_uri", "page"),
    [
        ("http://mlflow.example:8080/", "http://mlflow.example:8080"),
        ("https://ada:secret@mlflow.example", "http://127.0.0.1:5000"),
        ("sqlite:////state/mlflow.db", "http://127.0.0.1:5000"),
    ],
)
def test_links_point_to_the_tracking_server_unless_it_holds_credentials(
    tracking_uri: str, page: str
) -> None:
    assert Settings.from_environment({"MLFLOW_TRACKING_URI": tracking_uri}).mlflow_url == page


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("HC_HOM", "HC_HOME"),
        ("HC_STUDDY", "HC_STUDY"),
        ("HC_MODEL", "HC_MODELS"),
        ("HC_STORAGES", "HC_STORAGE"),
        ("HC_SIGNINGKEY", "HC_SIGNING_KEY"),
    ],
)
def test_misspelt_variable_names_the_one_that_was_meant(typo: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{typo} is not a setting.*did you mean {meant}"):
        Settings.from_environment({typo: "x"})


@pytest.mark.parametrize("foreign", ["HC_TOKEN", "HC_PROXY_PORT", "HCHOME", "XHC_HOME"])
def test_variable_of_another_program_is_left_alone(foreign: str) -> None:
    assert Settings.from_environment({foreign: "x"}) == Settings.from_environment({})


@pytest.mark.parametrize("name", ["HC_HOME", "HC_STUDY", "HC_MODELS", "HC_STORAGE"])
@pytest.mark.parametrize("value", ["", "  "])
def test_empty_variable_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is empty"):
        Settings.from_environment({name: value})
