"""The chapters about speed, memory and the machine."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.report.chapters import Chapter, Figure
from bench.report.figures import Interval, Line, bars, dots, lines, shares_below, stacked
from bench.report.found import Found, Source
from bench.report.tables import Table
from bench.report.wording import NOT_KNOWN, mib, ms, number, percent_span, unique

Json = Mapping[str, Any]

STAGES = {
    "preprocess": "preprocess",
    "rgb_encoder": "RGB encoder",
    "depth_encoder": "depth encoder",
    "prefill": "prefill",
    "decode": "decode",
    "parse": "parse",
    "total": "total",
}
PARTS = tuple(name for stage, name in STAGES.items() if stage != "total")
BUSY_CORES = 0.1  # more than this by other processes, and times are not the machine's own


def latency_chapter(found: Found) -> Chapter | None:
    """How long answers take; None if nothing was measured."""
    sources = found.of("latency")
    if not sources:
        return None
    bar_rows: dict[str, dict[str, float]] = {}
    totals: dict[str, Sequence[float]] = {}
    tables: list[Table] = []
    words: list[str] = []
    for source, title in zip(sources, _latency_titles(sources), strict=True):
        with source.reading() as data:
            stages = data["stages_ms"]
            bar_rows[title] = {STAGES[s]: found_ms["p50"] for s, found_ms in stages.items() if s != "total"}
            totals[title] = data["totals_ms"]
            tables.append(_latency_table(data, title))
            words += _latency_words(data, title)
    figures = (
        Figure(
            stacked("stages", bar_rows, parts=PARTS, x_label="ms, sum of the stages' medians"),
            "Where the time goes. Stages that run at the same time each count in full.",
        ),
        Figure(
            shares_below("distribution", totals, x_label="answer, ms"),
            "Distribution of whole answers; the dotted lines are the median and the 95th percentile.",
        ),
    )
    return Chapter("latency", "Latency", tuple(words), figures, tuple(tables))


def memory_chapter(found: Found) -> Chapter | None:
    """What must be in memory and on disk; None if nothing was measured."""
    sources = found.of("latency")
    if not sources:
        return None
    rows: dict[str, dict[str, float]] = {}
    cells = []
    for source, title in zip(sources, _latency_titles(sources), strict=True):
        with source.reading() as data:
            held, rss, on_disk = data["peak_held_mib"], data["peak_rss_mib"], data["bundle"]["bytes"]
            parts = {"held": held, "with mapped files": rss, "bundle on disk": on_disk / 2**20}
            rows[title] = {part: value for part, value in parts.items() if value is not None}
            load = f"{number(data['cold_start_s'], 1)} s"
            cells.append((title, number(held), number(rss), mib(on_disk), load))
    figure = Figure(
        bars("memory", rows, x_label="MiB"),
        "Held: what nobody else can have (RssAnon + RssShmem). With mapped files: the bundle's pages that were "
        "touched as well, which the system can drop and read again.",
    )
    head = ("", "held at most, MiB", "with mapped files, MiB", "bundle on disk, MiB", "cold start")
    return Chapter("memory", "Memory", (), (figure,), (Table(head, tuple(cells)),))


def tiles_chapter(found: Found) -> Chapter | None:
    """Accuracy against latency over tile budgets and recipes; None without a sweep."""
    curves, tables, words = [], [], []
    for source in found.of("bench_sweep"):
        with source.reading() as data:
            by_bundle: dict[str, list[Json]] = {}
            for point in data["points"]:
                by_bundle.setdefault(point["bundle"], []).append(point)
            curves += [_tile_curve(bundle, points) for bundle, points in by_bundle.items()]
            tables.append(_tile_table(data))
            size = f"{data['workload']['width']}x{data['workload']['height']}"
            words.append(
                f"{data['dataset']['name']}: {data['points'][0]['n']} questions a point; latency with pictures of "
                f"{size}, {data['workload']['count']} single questions. Accuracy and latency come from separate runs."
            )
    if not curves:
        return None
    figure = Figure(
        lines("tiles", curves, x_label="answer, ms (median)", y_label="points inside the mask, %", log_x=True),
        "Each point is a bundle under a tile budget (t). Up and to the left is better.",
    )
    return Chapter("tiles", "Accuracy against latency", tuple(words), (figure,), tuple(tables))


def peers_chapter(found: Found) -> Chapter | None:
    """Others on the same machine; None without them."""
    rows: dict[str, dict[str, Interval]] = {}
    tables: list[Table] = []
    words: list[str] = []
    for source in found.of("bench_peers"):
        with source.reading() as data:
            for peer in data["peers"]:
                if (ratio := peer["ratio"]) is not None:
                    rows[peer["what"]] = {"": Interval(ratio["median"], ratio["low"], ratio["high"])}
            tables.append(_peer_table(data))
            words += _peer_words(data)
    if not tables:
        return None
    figures: tuple[Figure, ...] = ()
    if rows:
        drawn = dots(
            "peers", rows, x_label=f"time of an answer, times that of {_against(found)}", same_at=1.0, log=True
        )
        figures = (
            Figure(drawn, "Median over the rounds; the arms reach to the fastest and slowest round. Right is slower."),
        )
    return Chapter("peers", "Peers", tuple(words), figures, tuple(tables))


def roofline_chapter(found: Found) -> Chapter | None:
    """The shortest possible times; None without them."""
    sources = found.of("roofline")
    if not sources:
        return None
    figures, tables, words = [], [], []
    titles = unique(
        [str(source.data.get("bundle", {}).get("name", "")) for source in sources], [s.name for s in sources]
    )
    for number_, (source, title) in enumerate(zip(sources, titles, strict=True)):
        with source.reading() as data:
            if (here := data["here"]) is not None:
                figures.append(Figure(_roofline_dots(here, f"here{number_}"), f"{title} on this machine."))
                tables.append(_here_table(here, title))
                words.append(_here_words(here, title))
            figures.append(Figure(_module_bars(data, f"modules{number_}"), _module_caption(title)))
            tables.append(_module_table(data, title))
    words.append(
        "Predicted: operations over the peak rate or bytes over the bandwidth, whichever takes longer. Real times lie "
        "above; 2 to 4 times is usual. The Jetson figures are predictions, not measurements."
    )
    return Chapter("roofline", "Roofline", tuple(words), tuple(figures), tuple(tables))


def machine_chapter(found: Found) -> Chapter | None:
    """What it was measured on; None if no file says."""
    cards: dict[str, tuple[Json, list[str]]] = {}
    for source in found.sources:
        with source.reading() as data:
            card = data.get("machine") or (data.get("here") or {}).get("machine")
            if card is not None:
                key = f"{card['model']} {card['kernel']} {card['power_mode']}"
                cards.setdefault(key, (card, []))[1].append(source.name)
    if not cards:
        return None
    tables = tuple(Table(("", ""), tuple(_card_rows(card)), ", ".join(names), 2) for card, names in cards.values())
    return Chapter("machine", "Machine", (), (), tables)


# --- latency --------------------------------------------------------------------------------------------


def _latency_titles(sources: Sequence[Source]) -> list[str]:
    titles = []
    for source in sources:
        with source.reading() as data:
            work = data["workload"]
            budget = f", {work['max_tiles']} tiles" if work["max_tiles"] else ""
            titles.append(f"{data['bundle']['name']}, {work['scenario']}{budget}")
    return unique(titles, [source.name for source in sources])


def _latency_table(data: Json, title: str) -> Table:
    told = {**data["stages_ms"], "first token": data["ttft_ms"]}
    rows = [
        (STAGES.get(stage, stage), ms(spread["p50"]), ms(spread["p95"]), ms(spread["p99"]))
        for stage, spread in told.items()
    ]
    if data["stream"]:
        age = data["stream"]["age_ms"]
        rows.append(("frame age at the answer", ms(age["p50"]), ms(age["p95"]), ms(age["p99"])))
    return Table(("ms", "p50", "p95", "p99"), tuple(rows), title)


def _latency_words(data: Json, title: str) -> Iterator[str]:
    work, tokens, speed = data["workload"], data["tokens"], data["tokens_per_s"]
    energy = data["energy_per_answer_j"]
    yield (
        f"{title}: {data['samples']} answers after {work['warmup']} to warm up, pictures of {work['width']}x"
        f"{work['height']}, {number(tokens['prompt'])} prompt tokens, {number(tokens['generated'])} written; "
        f"{number(data['answers_per_s'], 2)} answers a second, prefill {number(speed['prefill'])} and decode "
        f"{number(speed['decode'], 1)} tokens a second"
        + (f", {number(energy, 2)} J an answer." if energy is not None else ".")
    )
    if (load := data["other_load_cores"]) is not None and load > BUSY_CORES:
        yield f"Warning: other processes kept {load:.1f} cores busy meanwhile: these times are not the machine's own."
    if data["board"]["throttled"]:
        yield "Warning: clocks were held back meanwhile."
    if (budget := data["budget"]) is not None:
        over = ", ".join(f"{e['limit']} {e['measured']:g} of {e['allowed']:g}" for e in budget["exceeded"])
        yield f"Budget {budget['name']}: {'kept' if budget['ok'] else f'exceeded ({over})'}."


# --- sweep ----------------------------------------------------------------------------------------------


def _tile_curve(bundle: str, points: Sequence[Json]) -> Line:
    ordered = sorted(points, key=lambda point: float(point["latency_ms"]["p50"]))
    return Line(
        bundle,
        [point["latency_ms"]["p50"] for point in ordered],
        [Interval(100 * p["accuracy"], *(100 * end for end in p["interval"])) for p in ordered],
        [f"{point['max_tiles']} t" if point["max_tiles"] else "" for point in ordered],
    )


def _tile_table(data: Json) -> Table:
    head = ("bundle", "recipe", "tile budget", "tiles", "accuracy, %", "p50, ms", "p95, ms", "first token, ms", "MiB")
    rows = tuple(
        (
            point["bundle"],
            point["recipe"],
            str(point["max_tiles"] or NOT_KNOWN),
            str(point["tiles"]),
            percent_span(point["accuracy"], point["interval"]),
            ms(point["latency_ms"]["p50"]),
            ms(point["latency_ms"]["p95"]),
            ms(point["ttft_ms"]["p50"]),
            number(point["peak_held_mib"]),
        )
        for point in data["points"]
    )
    return Table(head, rows, text_columns=2).without_empty_columns(NOT_KNOWN)


# --- peers ----------------------------------------------------------------------------------------------


def _against(found: Found) -> str:
    return str(found.of("bench_peers")[0].data["against"])


def _peer_table(data: Json) -> Table:
    head = ("", "ratio", "fastest to slowest round", "answer, ms", "load, s", "held, MiB")
    rows = []
    for peer in data["peers"]:
        ratio, total = peer["ratio"], peer["total_ms"]
        rows.append(
            (
                peer["what"],
                NOT_KNOWN if ratio is None else f"{ratio['median']:.2f}",
                NOT_KNOWN if ratio is None else f"{ratio['low']:.2f} to {ratio['high']:.2f}",
                NOT_KNOWN if total is None else ms(total["median"]),
                number(peer["load_s"], 1),
                number(peer["peak_held_mib"]),
            )
        )
    return Table(head, tuple(rows)).without_empty_columns(NOT_KNOWN)


def _peer_words(data: Json) -> Iterator[str]:
    work = data["workload"]
    yield (
        f"Ratios to {data['against']}, round by round: {work['rounds']} rounds of {work['count']} answers in rotated "
        f"order, one process at a time; a new picture ({work['width']}x{work['height']}) and question each time, "
        f"exactly {work['answer_tokens']} answer tokens."
    )
    for peer in data["peers"]:
        if peer["reason"]:
            yield f"Not measured: {peer['what']} ({peer['reason']})."
    if (load := data["other_load_cores"]) is not None and load > BUSY_CORES:
        yield f"Warning: other processes kept {load:.1f} cores busy meanwhile; trust the ratios, not the times."


# --- roofline -------------------------------------------------------------------------------------------


def _roofline_dots(here: Json, name: str) -> str:
    rows = {
        STAGES.get(stage, stage): {side: Interval(row[side]) for side in ("predicted", "measured")}
        for stage, row in {**here["stages"], "total": here["total"]}.items()
        if row["predicted"] > 0 and row["measured"] > 0
    }
    return dots(name, rows, x_label="ms", log=True)


def _here_table(here: Json, title: str) -> Table:
    rows = tuple(
        (
            STAGES.get(stage, stage),
            row.get("bound", NOT_KNOWN),
            ms(row["predicted"]),
            ms(row["measured"]),
            number(row["ratio"], 2),
        )
        for stage, row in {**here["stages"], "total": here["total"]}.items()
    )
    head = ("stage", "limited by", "predicted, ms", "measured, ms", "ratio")
    return Table(head, rows, f"{title}, this machine", text_columns=2)


def _here_words(here: Json, title: str) -> str:
    ceilings = here["ceilings"]
    told = (
        f"{title} here: {number(ceilings['fp32_gops'])} Gop/s and {number(ceilings['gb_per_s'], 1)} GB/s "
        f"({here['source']}), {here['samples']} answers measured."
    )
    if (load := here["other_load_cores"]) is not None and load > BUSY_CORES:
        told += f" Other processes kept {load:.1f} cores busy meanwhile."
    return told


def _module_bars(data: Json, name: str) -> str:
    rows = {
        row["profile"]: {STAGES[s]: row["stages_ms"][s] for s in STAGES if s in row["stages_ms"] and s != "total"}
        for row in data["modules"]
        if row["default"] and row["fits"]
    }
    return stacked(name, rows, parts=PARTS, x_label="ms, shortest possible")


def _module_caption(title: str) -> str:
    return f"{title} on each Jetson module it fits, default power mode: the shortest possible time, not a measurement."


def _module_table(data: Json, title: str) -> Table:
    stages = [stage for stage in STAGES if stage in data["modules"][0]["stages_ms"]]
    head = ("module", "mode", *(f"{STAGES[stage]}, ms" for stage in stages))
    rows = tuple(
        (
            row["profile"],
            f"{row['mode']}{' (default)' if row['default'] else ''}{'' if row['fits'] else ', does not fit'}",
            *(ms(row["stages_ms"][stage]) for stage in stages),
        )
        for row in data["modules"]
    )
    return Table(head, rows, f"{title}: shortest possible on each Jetson module and mode", 2, folded=True)


# --- machine --------------------------------------------------------------------------------------------


def _card_rows(card: Json) -> Iterator[tuple[str, str]]:
    memory, mode = card["memory_mib"], card["power_mode"]
    yield "model", f"{card['model']} ({card['machine']})"
    yield "cores", f"{card['cores']}, {' '.join(card['cpu_features'])}".rstrip(", ")
    yield "memory", f"{number(memory['total'])} MiB, {number(memory['available'])} MiB available"
    yield "power mode", f"{mode['id']} {mode['name'] or ''}".strip() if mode else "not told"
    if card["jetpack"]:
        yield "JetPack", card["jetpack"]
    yield "clock governor", card["governor"] or "not told"
    yield "load before measuring", f"{card['load_1min']} processes wanted a core"
    yield "kernel, Python", f"{card['kernel']}, {card['python']}"
    yield "libraries", ", ".join(f"{name} {version}" for name, version in card["libraries"].items())
