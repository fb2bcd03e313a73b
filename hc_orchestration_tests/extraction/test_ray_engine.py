"""Resource shares on Ray: the tasks that read for the actors always find a whole CPU."""

import pytest

from hc_orchestration.extraction.ray_engine import actor_share


@pytest.mark.parametrize("cpus", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("actors", [1, 2, 8, 100])
def test_actors_leave_a_cpu_to_what_reads_for_them(cpus: int, actors: int) -> None:
    share = actor_share(cpus, actors)
    assert share >= 0
    assert cpus - share * actors >= 1 - 1e-9


def test_as_many_actors_as_cpus_leave_half_of_each_node() -> None:
    assert actor_share(8, 8) == pytest.approx(0.5)
