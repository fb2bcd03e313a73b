"""Keeping the words of unforeseen exceptions out of Dagster: they may quote a note."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from hc_orchestration.healthcare.guard import redacted_error


@contextmanager
def words_withheld() -> Iterator[None]:
    """Let our own errors pass and replace any other by its class and place.

    Raises:
        HcError: As it was raised, if its words hold no identifier.
        dg.Failure: In place of any other exception.
    """
    try:
        yield
    except dg.RetryRequested:
        raise
    except Exception as error:
        message = redacted_error(error)
        if message == str(error):
            raise
        raise dg.Failure(message) from None
