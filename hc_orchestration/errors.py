"""The one exception family of the package: every message is safe to show, log and store.

A message says what is wrong, where, and what to do next. It never holds note text, so code that
catches a foreign exception raises one of these `from None`.
"""


class HcError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigurationError(HcError):
    """A setting or a YAML file that cannot be used."""


class CorpusError(HcError):
    """A corpus that cannot be read at all (single bad notes go to quarantine instead)."""


class ModelError(HcError):
    """A model that cannot be found, read or run."""


class ModelNotInstalledError(ModelError):
    """A catalogue entry whose files are not on this machine."""


class StorageError(HcError):
    """A table, version or file that is missing or cannot be written."""


class BusyStorageError(StorageError):
    """A table that others kept writing to; the same step may succeed a little later."""


class TrackingError(HcError):
    """MLflow could not be reached or refused a call."""


class TrackingTimeoutError(TrackingError):
    """MLflow took a call and did not answer it in time."""


class DagsterStoreError(HcError):
    """Dagster's own database cannot be opened.

    Attributes:
        problem: Why.
        remedy: What to do.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        """Words that are safe to show."""
        super().__init__(f"Dagster's database {problem}. To mend it: {remedy}")
        self.problem = problem
        self.remedy = remedy


class ProvenanceError(HcError):
    """A FHIR record that is not valid, or cannot be built from what is known."""


class UploadError(HcError):
    """A FHIR server that is away, or did not take all of a record."""


class EvaluationError(HcError):
    """An evaluation that cannot be completed; it has no score."""


class PromotionError(HcError):
    """A model that cannot be promoted: no evaluation to stand on, or a reason that will not do."""
