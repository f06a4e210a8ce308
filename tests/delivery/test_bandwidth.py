"""The limit to the bandwidth: what is decided, given the time."""

from __future__ import annotations

import pytest

from attachd.delivery.pacer import SAVED_SECONDS, TURN_SECONDS, Bandwidth, paid_at, piece_bytes, pieces

KIB = 1024


@pytest.mark.parametrize(
    ("paid", "now", "size", "rate", "expected"),
    [
        (100.0, 100.0, 10, 10, 101.0),
        (103.0, 100.0, 10, 10, 104.0),  # behind those who came before
        (99.8, 100.0, 10, 10, 100.8),  # what was not used is saved
        (0.0, 100.0, 10, 10, 101.0 - SAVED_SECONDS),  # but not for long
        (100.0, 100.0, 0, 10, 100.0),
    ],
)
def test_when_bytes_are_paid_for(paid: float, now: float, size: int, rate: int, expected: float) -> None:
    assert paid_at(paid, now, size, rate) == pytest.approx(expected)


def test_without_a_limit_nobody_waits() -> None:
    limit = Bandwidth()

    assert [limit.charge(1 << 40, 0, 100.0) for _ in range(3)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("sending", [0.0, 0.05, 0.3, 2.0])
def test_no_stretch_of_time_sees_more_than_the_limit(sending: float) -> None:
    """However long the sending itself takes, which is made up for as long as it is shorter than a piece's share."""
    limit, now, rate, size = Bandwidth(), 1000.0, 100 * KIB, 10 * KIB
    left: list[float] = []
    for _ in range(200):
        now += limit.charge(size, rate, now)
        left.append(now)
        now += sending

    for first, begin in enumerate(left):
        for count, end in enumerate(left[first:], 1):
            assert count * size <= rate * (end - begin + SAVED_SECONDS) + size + 1e-6
    if sending < size / rate:
        assert len(left) * size >= 0.99 * rate * (left[-1] - left[0])


def test_workers_share_the_limit_in_turns() -> None:
    limit = Bandwidth()
    limit.charge(0, 10, 100.0)

    waits = [limit.charge(10, 10, 100.0) for _ in range(4)]

    assert waits == pytest.approx([1 - SAVED_SECONDS + n for n in range(4)])


@pytest.mark.parametrize(
    ("rate", "workers", "most", "expected"),
    [(0, 4, 256 * KIB, 256 * KIB), (1 << 30, 4, 256 * KIB, 256 * KIB), (4096, 4, 256 * KIB, 512), (4096, 64, KIB, 32)],
)
def test_a_piece_lets_each_worker_take_its_turn(rate: int, workers: int, most: int, expected: int) -> None:
    assert piece_bytes(rate, workers, most) == expected
    if rate:
        assert workers * expected / rate <= TURN_SECONDS


@pytest.mark.parametrize(("size", "most", "expected"), [(0, 4, []), (3, 4, [3]), (4, 4, [4]), (9, 4, [4, 4, 1])])
def test_pieces(size: int, most: int, expected: list[int]) -> None:
    assert list(pieces(size, most)) == expected
