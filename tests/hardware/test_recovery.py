"""Steps after a failure: gentlest first, harder when it comes back soon, an end when it never stops."""

from hardware.camera.recovery import Recovery, RecoveryPolicy, Step

POLICY = RecoveryPolicy(reopenings=1, usb_resets=1, backoff_s=(0.2, 1.0, 5.0), healthy_s=10, budget=8, window_s=100)


def steps(recovery: Recovery, times: list[float], *, answers: bool = True) -> list[Step]:
    return [recovery.failed(t, answers=answers) for t in times]


def test_harder_with_each_failure_in_a_row() -> None:
    taken = steps(Recovery(POLICY), [0, 1, 2, 3, 4, 5])
    assert [s.remedy for s in taken] == ["reopen", "usb_reset", "respawn", "respawn", "respawn", "respawn"]
    assert [s.wait_s for s in taken[2:]] == [0.2, 1.0, 5.0, 5.0]


def test_gentle_again_after_a_healthy_time() -> None:
    recovery = Recovery(POLICY)
    steps(recovery, [0, 1])
    recovery.delivered(2)
    recovery.delivered(11)  # later frames do not start the time anew
    assert recovery.failed(12.5, answers=True).remedy == "reopen"
    recovery.delivered(13)
    assert recovery.failed(14, answers=True).remedy == "usb_reset", "one second of frames is not healthy"


def test_a_process_that_hangs_is_not_asked() -> None:
    recovery = Recovery(POLICY)
    assert recovery.failed(0, answers=False) == Step("respawn", 0.2)
    assert recovery.failed(1, answers=True) == Step("respawn", 1.0)


def test_it_gives_up_when_the_budget_of_the_window_is_spent() -> None:
    recovery = Recovery(POLICY)
    assert [s.remedy for s in steps(recovery, list(range(9)))][-2:] == ["respawn", "give_up"]
    patient = Recovery(POLICY)
    spread = steps(patient, [30.0 * k for k in range(40)])
    assert all(s.remedy != "give_up" for s in spread), "four in a window are not eight"
