"""How many processes: few notes stay here, many get the cores, memory and GPUs set limits."""

import pytest

from hc_orchestration.extraction.sizing import Machine, processes_for

EIGHT_CORES = Machine(cores=8, memory=32_000_000_000)
SMALL, LARGE = 6_000_000, 2_000_000_000
A_NOTE = 3_000


@pytest.mark.parametrize(
    ("loader", "notes", "processes"),
    [
        ("spacy", 100, 1),  # two seconds of work
        ("spacy", 2_357, 8),
        ("lexicon", 2_357, 1),  # five seconds
        ("lexicon", 100_000, 8),
        ("transformers", 100, 8),
        ("team:Model", 100, 1),
        ("team:Model", 5_000, 8),
    ],
)
def test_processes_are_started_when_they_save_more_than_they_cost(
    loader: str, notes: int, processes: int
) -> None:
    assert processes_for(loader, SMALL, notes, notes * A_NOTE, EIGHT_CORES) == processes


def test_no_more_processes_than_have_room_in_memory() -> None:
    machine = Machine(cores=8, memory=20_000_000_000)
    assert processes_for("transformers", LARGE, 10_000, 10_000 * A_NOTE, machine) == 2


def test_too_little_memory_for_one_still_gives_one() -> None:
    machine = Machine(cores=8, memory=100_000_000)
    assert processes_for("spacy", LARGE, 10_000, 10_000 * A_NOTE, machine) == 1


def test_models_that_would_share_a_gpu_get_one_process() -> None:
    machine = Machine(cores=8, memory=32_000_000_000, gpu=True)
    assert processes_for("spacy", SMALL, 10_000, 10_000 * A_NOTE, machine) == 1
    assert processes_for("lexicon", SMALL, 100_000, 100_000 * A_NOTE, machine) == 8


def test_never_more_processes_than_notes() -> None:
    assert processes_for("spacy", SMALL, 2, 10_000_000, EIGHT_CORES) == 2


def test_this_machine_has_a_core_and_memory() -> None:
    here = Machine.here()
    assert here.cores >= 1
    assert here.memory > 0
