"""Which pairs are taken, on sequences that real recordings and cameras gave."""

from hardware.camera.pairing import Pairing

PERIOD_MS = 1000 / 30


def taken(sequence: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Frame numbers (rgb, depth); a number stands for that many periods of time."""
    pairing: Pairing[tuple[int, int]] = Pairing(PERIOD_MS)
    out = []
    for numbers in sequence:
        chosen = pairing.offer(numbers, numbers, abs(numbers[0] - numbers[1]) * PERIOD_MS)
        if chosen is not None:
            out.append(chosen)
    last = pairing.flush()
    return out if last is None else [*out, last]


def test_repeated_pictures_are_not_new() -> None:
    # the SDK playing its own recording: RGB late by one each time
    sequence = [(1, 1), (1, 2), (2, 2), (2, 3), (3, 3)]
    assert taken(sequence) == [(1, 1), (2, 2), (3, 3)]


def test_a_better_partner_is_waited_for() -> None:
    assert taken([(1, 2), (2, 2), (3, 3)]) == [(2, 2), (3, 3)]


def test_without_a_better_one_the_late_partner_is_taken() -> None:
    assert taken([(162, 170)]) == [(162, 170)]
    assert taken([(1, 3), (2, 4), (3, 5)]) == [(1, 3), (2, 4), (3, 5)]


def test_gaps_are_counted() -> None:
    pairing: Pairing[str] = Pairing(PERIOD_MS)
    pairing.offer("a", (5, 5), 0.0)
    assert pairing.passed_over == 0
    pairing.offer("b", (6, 6), 0.0)
    assert pairing.passed_over == 0
    pairing.offer("c", (10, 10), 0.0)
    assert pairing.passed_over == 3


def test_times_rise_over_a_reset_of_the_cameras_clock() -> None:
    pairing: Pairing[str] = Pairing(10.0)
    times = [pairing.rising_ms(t) for t in (100.0, 110.0, 3.0, 13.0, 13.0)]
    assert times == [100.0, 110.0, 120.0, 130.0, 140.0]
