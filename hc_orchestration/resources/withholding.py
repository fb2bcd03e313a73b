"""Keeping the words of unforeseen exceptions out of Dagster: they may quote a note."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from hc_orchestration.errors import HcError
from hc_orchestration.healthcare.guard import redacted_error


@contextmanager
def words_withheld() -> Iterator[None]:
    """Let our own errors pass and replace any other by its class and place.

    Raises:
        HcError: As it was raised; its words are safe to show.
        dg.Failure: In place of any other exception.
    """
    try:
        yield
    except (HcError, dg.RetryRequested):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, its words stay here
        raise dg.Failure(redacted_error(error)) from None
