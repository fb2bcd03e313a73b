"""MLflow as it is when it is away."""

from collections.abc import Iterator

import pytest

from hc_orchestration.errors import TrackingError


def refusing(projection: type) -> Iterator[pytest.MonkeyPatch]:
    """Let a projection fail as if MLflow were away, until what is yielded is undone."""
    away = pytest.MonkeyPatch()

    def refuse(*_: object) -> None:
        message = "MLflow failed: it is away"
        raise TrackingError(message)

    away.setattr(projection, "project", refuse)
    yield away
    away.undo()
