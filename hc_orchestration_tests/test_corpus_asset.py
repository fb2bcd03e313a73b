"""notes_corpus in Dagster: what leaves it when reading fails in a way that nobody foresaw."""

from collections.abc import Callable

import dagster as dg
import pytest

from hc_orchestration.settings import Settings

SENTINEL = "zyxomatosis"
Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.mark.parametrize("place", ["corpus._note_frame", "integrity.repeated_ids"])
def test_the_words_of_an_unforeseen_exception_reach_no_log(
    place: str,
    settings: Settings,
    run_job: Run,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def quoting(*_: object) -> None:
        message = f"cannot read 'Pt has {SENTINEL}'"
        raise ValueError(message)

    monkeypatch.setattr(f"hc_orchestration.storage.{place}", quoting)

    result = run_job("refresh_corpus")

    assert not result.success
    events = " ".join(str(event) for event in result.all_events)
    assert "ValueError" in events
    assert SENTINEL not in events
    assert SENTINEL not in "".join(capfd.readouterr())
    for file in settings.dagster_home.rglob("*"):
        assert not file.is_file() or SENTINEL.encode() not in file.read_bytes()
