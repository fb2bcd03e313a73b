"""The static partition of the project: one partition a model of the catalogue."""

import dagster as dg

from hc_orchestration.models.catalogue import load_catalogue
from hc_orchestration.settings import Settings


def model_partitions(settings: Settings) -> dg.StaticPartitionsDefinition:
    """The keys of the catalogue, in its order; a changed catalogue needs a reload of the location.

    Raises:
        ConfigurationError: The catalogue cannot be read.
    """
    return dg.StaticPartitionsDefinition(list(load_catalogue(settings.catalogue).keys))
