"""Module profiles: ceilings equal the published figures, and a board finds its own profile."""

import pytest

from hardware.profiles import PROFILES, profile_named, profile_of_board

# name, mode -> GB/s, INT8 dense TOPS, FP16 dense TFLOPS (data sheets; INT8 and FP16 by the dense rule per SM)
PUBLISHED = {
    ("orin-nano-8gb", "15W"): (68, 20, 10),
    ("orin-nano-8gb-super", "MAXN_SUPER"): (102, 33.4, 16.7),
    ("orin-nx-16gb", "MAXN"): (102.4, 30.1, 15.0),
    ("orin-nx-16gb-super", "40W"): (102.4, 38.4, 19.2),
    ("agx-orin-64gb", "MAXN"): (204.8, 85.2, 42.6),
    ("agx-thor-t5000", "MAXN"): (273, 517, 258),
}


@pytest.mark.parametrize(("name", "mode"), PUBLISHED)
def test_ceilings_are_the_published_ones(name: str, mode: str) -> None:
    profile = profile_named(name)
    assert profile is not None
    clocks = profile.mode(mode)
    assert clocks is not None
    ceilings = profile.ceilings(clocks)
    found = (ceilings.bytes / 1e9, ceilings.int8_ops / 1e12, ceilings.fp16_ops / 1e12)
    assert found == pytest.approx(PUBLISHED[name, mode], rel=0.025)


def test_a_modes_name_is_no_order_of_speed() -> None:
    profile = profile_named("orin-nx-16gb")
    assert profile is not None
    by_name = {mode.name: mode.gpu_mhz for mode in profile.modes}
    assert by_name["25W"] < by_name["15W"]


def test_names_and_default_modes_are_unique() -> None:
    assert len({profile.name for profile in PROFILES}) == len(PROFILES)
    for profile in PROFILES:
        assert sum(mode.default for mode in profile.modes) == 1
        assert len({mode.name for mode in profile.modes}) == len(profile.modes)


@pytest.mark.parametrize(
    ("model", "total_mib", "mode", "expected"),
    [
        ("NVIDIA Jetson Orin Nano Developer Kit", 7619, "15W", "orin-nano-8gb"),
        ("NVIDIA Jetson Orin Nano Developer Kit", 7619, "MODE_25W", "orin-nano-8gb-super"),  # only the super has it
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", 7619, None, "orin-nano-8gb-super"),
        ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", 15656, "MAXN", "orin-nx-16gb"),
        ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", 7619, "MAXN", None),  # the 8 GB module
        ("NVIDIA Jetson AGX Orin Developer Kit", 62797, "MODE_30W", "agx-orin-64gb"),
        ("NVIDIA Jetson AGX Thor Developer Kit", 125771, None, "agx-thor-t5000"),
        ("AMD EPYC", 24105, None, None),
    ],
)
def test_a_board_finds_its_profile(model: str, total_mib: int, mode: str | None, expected: str | None) -> None:
    found = profile_of_board(model, total_mib, mode)
    assert (found.name if found else None) == expected


def test_an_unknown_name_is_no_profile() -> None:
    assert profile_named("toaster") is None
    assert PROFILES[0].mode("99W") is None
