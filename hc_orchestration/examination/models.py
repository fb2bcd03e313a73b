"""The models: whether there is any, and whether the files of each can be read."""

from hc_orchestration.errors import ModelError, ModelNotInstalledError
from hc_orchestration.examination.finding import Finding
from hc_orchestration.models.catalogue import Catalogue
from hc_orchestration.models.store import installed_model
from hc_orchestration.settings import Settings


def model_findings(catalogue: Catalogue, settings: Settings) -> list[Finding]:
    """Models whose files are broken, and a catalogue none of whose models is here.

    A single model that is not installed is no finding: the catalogue may name more than a machine
    has, and every comparison names those.
    """
    findings = []
    absent = 0
    for entry in catalogue.models:
        try:
            installed_model(entry, settings.model_store, remembered=True)
        except ModelNotInstalledError:
            absent += 1
        except ModelError as error:
            findings.append(Finding(f"model {entry.key}", str(error), _install(entry.key)))
    if catalogue.models and absent == len(catalogue.models):
        problem = "names models, and the files of none are here"
        findings.append(Finding(str(settings.catalogue), problem, _install("KEY")))
    return findings


def _install(key: str) -> str:
    return f"hc models install {key}"
