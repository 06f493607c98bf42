"""Decides on which execution provider a bundle's encoders run: the fastest one here whose numbers are right.

An ONNX Runtime built for the processor alone has no choice and pays for none. Where there is one, every candidate is
tried in a child process, once per bundle, machine and library build; the outcome is remembered with its reason.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from edge_runtime.bundle import Bundle, manifest_sha256
from edge_runtime.cache import recall, remember
from edge_runtime.encoders import available_providers
from edge_runtime.installed import onnxruntime_facts
from edge_runtime.provider_check import PATIENCE_S, ProviderVerdict, prove_providers
from edge_runtime.providers import CPU, KNOWN, NOT_PROVEN
from hardware.identity import machine_sha256

OPENING_PATIENCE_S: Final = 40.0  # a robot that starts waits so long for each provider; `doctor` waits longer

Prove = Callable[[Bundle, Sequence[str], float], Sequence[ProviderVerdict]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProviderChoice:
    """The provider to use, why, and what was tried for it."""

    name: str
    reason: str
    verdicts: tuple[ProviderVerdict, ...] = ()
    remembered: bool = False


def choose_provider(bundle: Bundle, *, available: Sequence[str] | None = None, prove: Prove | None = None) -> str:
    """The provider for a bundle that is being opened; costs nothing where there is no choice.

    Args:
        bundle: Its manifest may name the providers its recipe is for.
        available: What this ONNX Runtime was built with; default: asked.
        prove: Tries providers; default: each in a child process.
    """
    if len(candidates(bundle, available_providers() if available is None else available)) == 1:
        return CPU
    choice = prove_choice(bundle, available=available, prove=prove, patience_s=OPENING_PATIENCE_S)
    if not choice.remembered:
        level = logging.WARNING if choice.name == CPU else logging.INFO
        _log.log(level, "encoders run on %s: %s", choice.name, choice.reason)
    return choice.name


def prove_choice(
    bundle: Bundle,
    *,
    available: Sequence[str] | None = None,
    prove: Prove | None = None,
    patience_s: float = PATIENCE_S,
    anew: bool = False,
) -> ProviderChoice:
    """The same with everything that is known about it.

    Args:
        bundle: As above.
        available: As above.
        prove: As above.
        patience_s: Limit for each provider. One that needs more is not asked again until `anew`.
        anew: Try, whatever is remembered.
    """
    names = candidates(bundle, available_providers() if available is None else available)
    key = _key(bundle, names)
    known = None if anew else _read(recall(key))
    if known is not None:
        return known
    verdicts = tuple((prove or _in_children)(bundle, names, patience_s))
    choice = _fastest(verdicts)
    remember(key, {"name": choice.name, "reason": choice.reason, "verdicts": [v.to_json() for v in verdicts]})
    return choice


def candidates(bundle: Bundle, available: Sequence[str]) -> tuple[str, ...]:
    """Those the recipe is for, or all, as far as this build has them; the processor last."""
    wanted = bundle.manifest.encoder_providers or KNOWN
    accelerators = [p for p in wanted if p in KNOWN and p in available and p != CPU]
    return (*accelerators, CPU)


def not_in_this_build(bundle: Bundle, available: Sequence[str]) -> list[ProviderVerdict]:
    """What to say of providers that the recipe asks for, or that nobody has run yet, and that are not installed."""
    wanted = {*NOT_PROVEN, *bundle.manifest.encoder_providers}
    missing = [p for p in KNOWN if p in wanted and p not in available]
    return [ProviderVerdict(p, ok=False, detail=_absence(p, bundle)) for p in missing]


def _absence(name: str, bundle: Bundle) -> str:
    asked = "the recipe asks for it, but it" if name in bundle.manifest.encoder_providers else "it"
    proven = "; not proven on hardware" if name in NOT_PROVEN else ""
    return f"{asked} is not in this onnxruntime build{proven}"


def _in_children(bundle: Bundle, names: Sequence[str], patience_s: float) -> Sequence[ProviderVerdict]:
    return prove_providers(bundle, names, timeout_s=patience_s)


def _fastest(verdicts: Sequence[ProviderVerdict]) -> ProviderChoice:
    good = [v for v in verdicts if v.ok and v.encode_ms is not None]
    others = "; ".join(f"{v.name} {v.detail}" for v in verdicts if v.name != CPU and not v.ok)
    if not good:  # the processor is what is left; `check` says what is wrong with the bundle
        return ProviderChoice(CPU, f"nothing gave the golden values: {others}", tuple(verdicts))
    best = min(good, key=lambda v: v.encode_ms or 0.0)
    times = ", ".join(f"{v.name} {v.encode_ms:.1f} ms" for v in good)
    reason = f"fastest of those with the golden values ({times})" + (f"; {others}" if others else "")
    return ProviderChoice(best.name, reason, tuple(verdicts))


def _key(bundle: Bundle, names: Sequence[str]) -> str:
    facts = [manifest_sha256(bundle.path), machine_sha256(), onnxruntime_facts(), list(names)]
    return f"provider-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}"


def _read(entry: dict[str, Any] | None) -> ProviderChoice | None:
    """A remembered choice; None if it is none or damaged."""
    if entry is None:
        return None
    try:
        verdicts = tuple(ProviderVerdict(**verdict) for verdict in entry["verdicts"])
        choice = ProviderChoice(str(entry["name"]), str(entry["reason"]), verdicts)
    except (KeyError, TypeError):
        return None
    return replace(choice, remembered=True) if choice.name in KNOWN else None
