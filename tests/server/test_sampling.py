"""Sampling: a flood leaves a few records a second, and their count."""

from arborgate.server.sampling import Sampling


def test_a_flood_is_kept_to_a_few_a_second_and_the_rest_is_counted() -> None:
    now = 0.0
    sampling = Sampling(3, clock=lambda: now)
    assert [sampling.take() for _ in range(5)] == [True, True, True, False, False]
    now = 1.5
    assert sampling.take()
    assert (sampling.tell_missed(), sampling.tell_missed()) == ("; 2 more since the last one of these", "")
