"""Whether a model's data are what they were: the records of one time beside a baseline's.

Thread: the one that asks. Memory: samples, and counts per value, in DuckDB's own; with a moving baseline, the
rows asked about.
"""

from itertools import pairwise
from typing import Any

from msgspec import Struct, structs

from fastserve.errors import InvalidRequest, quoted
from fastserve.monitor import categorical, embedding, numeric, spans
from fastserve.monitor.baselines import Baseline, Moving, chosen
from fastserve.monitor.categorical import NewValues
from fastserve.monitor.distances import BinDistances, Test, of_bins, verdict
from fastserve.monitor.numeric import Dimension, Side
from fastserve.monitor.parts import ALL, Key
from fastserve.monitor.question import DriftQuestion
from fastserve.monitor.source import Grouping, Source, identifier

FEW_ROWS = 200
OF_THE_BASELINE = ("version", "batch_id", "environment")
"""Slices by these have no counterpart in the baseline: they are compared with all of it."""

LABELS = {"prediction": ("label_cat", "label_num"), "actual": ("actual_cat", "actual_num")}


class Part(Struct, frozen=True, kw_only=True):
    """One window or slice of one dimension."""

    start: str | None = None
    value: str | None = None
    rows: int = 0
    missing_share: float | None = None
    psi: float | None = None
    js: float | None = None
    euclidean: float | None = None
    cosine: float | None = None


class Bins(Struct, frozen=True):
    """Counts beside each other. `labels`: of numbers the ranges, of texts the values; at the end `(other)`, `(missing)`."""

    labels: list[str]
    baseline: list[int]
    current: list[int]
    edges: list[float] = []


class Drifted(Struct, frozen=True, kw_only=True):
    """One dimension. What a kind has not is None. `slices`: worst first."""

    name: str
    kind: str
    verdict: str
    psi: float | None = None
    js: float | None = None
    l_infinity: float | None = None
    chi_square: Test | None = None
    ks: Test | None = None
    wasserstein: float | None = None
    wasserstein_normed: float | None = None
    euclidean: float | None = None
    cosine: float | None = None
    sampled: bool = False
    baseline: Side
    current: Side
    new_values: NewValues | None = None
    other_lengths: int = 0
    bins: Bins | None = None
    windows: list[Part] = []
    slices: list[Part] = []


class BaselineTold(Struct, frozen=True):
    """What the current records were compared with."""

    kind: str
    rows: int
    start: str | None = None
    end: str | None = None
    window_s: float | None = None


class Drift(Struct, frozen=True, kw_only=True):
    """The answer. `dimensions`: those that drifted most first."""

    model: str
    space: str | None
    environment: str
    start: str | None
    end: str | None
    window_s: float
    baseline: BaselineTold
    rows: int
    dimensions: list[Drifted] = []
    slice: str | None = None
    notes: list[str] = []


def ask(connection: Any, question: DriftQuestion, now_ns: int) -> Drift:
    """The answer, over a connection with the log's views. Raises InvalidRequest."""
    source = Source(connection)
    found = chosen(source, question, now_ns)
    wanted = _dimensions(source, question)
    grouping = source.grouping(question, found.current, found.start_ns, found.end_ns)
    answers = _compare(source, question, wanted, found, grouping)
    if isinstance(found, Moving):
        answers = _moved(source, question, wanted, found, grouping, answers)
    actual = _actual(source, question, found, grouping)
    answers = [one for one in [*answers, *actual] if question.dimension or _is_there(one)]
    answers.sort(key=lambda one: (one.psi is None and one.cosine is None, -(one.psi or one.cosine or 0.0), one.name))
    rows = found.counted(source)
    return Drift(
        model=question.model,
        space=question.space,
        environment=question.environment,
        start=spans.told(found.start_ns) if rows[1] else None,
        end=spans.told(found.end_ns) if rows[1] else None,
        window_s=grouping.length_ns / 1e9,
        baseline=BaselineTold(found.kind, rows[0], *found.span()),
        rows=rows[1],
        dimensions=answers,
        slice=question.slice,
        notes=_notes(rows),
    )


def _notes(rows: tuple[int, int]) -> list[str]:
    notes = []
    for what, count in zip(("baseline", "current"), rows, strict=True):
        if not count:
            notes.append(f"no {what} records: nothing can be compared")
        elif count < FEW_ROWS:
            notes.append(f"only {count} {what} records: distances are as large as that by chance alone")
    return notes


def _is_there(one: Drifted) -> bool:
    return one.baseline.rows > one.baseline.missing or one.current.rows > one.current.missing


def _dimensions(source: Source, question: DriftQuestion) -> list[Dimension]:
    """All features, the prediction and its score, or those asked for. Raises InvalidRequest."""
    asked = [name for name in question.dimension if name != "actual"]
    if question.dimension:
        return [_dimension(source, name) for name in dict.fromkeys(asked)]
    features = [name for name in source.columns if name.startswith("f.") and not _clashes_with(source, name)]
    return [_dimension(source, name) for name in [*features, "prediction", "score"]]


def _clashes_with(source: Source, name: str) -> bool:
    """Whether that column holds what did not fit another one: `f.x:string` beside `f.x`."""
    of, colon, _ = name.rpartition(":")
    return bool(colon) and of in source.columns


def _dimension(source: Source, name: str) -> Dimension:
    if name in LABELS:
        return Dimension(name, name, "label")
    if name == "score":
        return Dimension(name, "score", "numeric")
    if name not in source.columns or name[:2] not in ("f.", "t."):
        source.named(name, "dimension")
        raise InvalidRequest(f"dimension: expected f.NAME, t.NAME, prediction, score or actual, got {quoted(name)}")
    clash = f"{name}:string"
    return Dimension(name, identifier(name), source.kind(name), identifier(clash) if clash in source.columns else None)


def _labelled(source: Source, dimensions: list[Dimension], found: Baseline) -> list[Dimension]:
    """Labels as what most of them are: classes or numbers."""
    named = []
    for one in dimensions:
        if one.kind != "label":
            named.append(one)
            continue
        text, number = LABELS[one.name]
        classes, numbers = source.row(f"select count({text}), count({number}) from {found.current.sql}")
        numeric_label = numbers > classes
        named.append(
            Dimension(one.name, number if numeric_label else text, "numeric" if numeric_label else "categorical")
        )
    return named


def _actual(source: Source, question: DriftQuestion, found: Baseline, grouping: Grouping) -> list[Drifted]:
    """What really happened, over the join, where it is asked for or there is any."""
    if question.dimension and "actual" not in question.dimension:
        return []
    joined = found.of_view("labelled", source)
    there = source.row(f"select count(*) from {joined.current.sql}")[0]
    if not there and not question.dimension:
        return []
    answers = _compare(source, question, [Dimension("actual", "actual", "label")], joined, grouping)
    if isinstance(joined, Moving):
        return _moved(source, question, [Dimension("actual", "actual", "label")], joined, grouping, answers)
    return answers


def _compare(
    source: Source, question: DriftQuestion, dimensions: list[Dimension], found: Baseline, grouping: Grouping
) -> list[Drifted]:
    """All dimensions, of every kind."""
    before = _of_baseline(grouping)
    baseline, current = (found.baseline, before), (found.current, grouping)
    named = _labelled(source, dimensions, found)
    by_kind: dict[str, list[Dimension]] = {}
    for one in named:
        by_kind.setdefault(one.kind, []).append(one)
    answers = []
    numbers = by_kind.get("numeric", [])
    for one, number in zip(numbers, numeric.measure(source, numbers, baseline, current, question.bins), strict=True):
        answers.append(_of_numbers(one, number, grouping))
    texts = by_kind.get("categorical", [])
    measured = categorical.measure(source, texts, baseline, current, question.max_values)
    for one in by_kind.get("list", []):
        texts = [*texts, one]
        measured += categorical.measure(source, [one], baseline, current, question.max_values)
    answers += [_of_texts(one, text, grouping) for one, text in zip(texts, measured, strict=True)]
    for one in by_kind.get("embedding", []):
        answers.append(_of_vectors(one, embedding.measure(source, one, baseline, current), grouping))
    return answers


def _of_baseline(grouping: Grouping) -> Grouping:
    """The baseline is one for all windows, and sliced as the current records are."""
    if not grouping.sliced or grouping.slice_of in OF_THE_BASELINE:
        return Grouping([], 0)
    return structs.replace(grouping, starts=[], length_ns=0, bucket="NULL::BIGINT")


def _of_numbers(one: Dimension, found: numeric.Numbers, grouping: Grouping) -> Drifted:
    distances = of_bins(found.baseline[ALL], found.current[ALL])
    windows, slices = _parts(found.baseline, found.current, grouping)
    return Drifted(
        name=one.name,
        kind=one.kind,
        verdict=verdict(distances.psi),
        **structs.asdict(distances),
        ks=found.samples.ks,
        wasserstein=found.samples.wasserstein,
        wasserstein_normed=found.samples.wasserstein_normed,
        sampled=found.sampled,
        baseline=found.sides[0],
        current=found.sides[1],
        bins=_bins([*_ranges(found.edges), "(missing)"], found.baseline[ALL], found.current[ALL], found.edges),
        windows=windows,
        slices=slices,
    )


def _of_texts(one: Dimension, found: categorical.Texts, grouping: Grouping) -> Drifted:
    distances = of_bins(found.baseline[ALL], found.current[ALL])
    windows, slices = _parts(found.baseline, found.current, grouping)
    return Drifted(
        name=one.name,
        kind=one.kind,
        verdict=verdict(distances.psi),
        **structs.asdict(distances),
        baseline=found.sides[0],
        current=found.sides[1],
        new_values=found.new,
        bins=_bins([*found.values, "(other)", "(missing)"], found.baseline[ALL], found.current[ALL], []),
        windows=windows,
        slices=slices,
    )


def _of_vectors(one: Dimension, found: embedding.Vectors, grouping: Grouping) -> Drifted:
    parts: dict[str, list[Part]] = {"window": [], "slice": []}
    for (kind, where), distance in found.distances.items():
        if kind in parts:
            part = Part(rows=found.rows[kind, where], euclidean=distance.euclidean, cosine=distance.cosine)
            parts[kind].append(_placed(part, kind, where, grouping))
    whole = found.distances.get(ALL)
    return Drifted(
        name=one.name,
        kind=one.kind,
        verdict="unknown",
        euclidean=whole.euclidean if whole else None,
        cosine=whole.cosine if whole else None,
        sampled=found.sampled,
        baseline=found.sides[0],
        current=found.sides[1],
        other_lengths=found.other_lengths,
        windows=parts["window"],
        slices=sorted(parts["slice"], key=lambda part: -(part.cosine or 0.0)),
    )


def _bins(labels: list[str], baseline: Any, current: Any, edges: list[float]) -> Bins:
    return Bins(labels, [int(one) for one in baseline], [int(one) for one in current], edges)


def _ranges(edges: list[float]) -> list[str]:
    """What is in each bin; a bin of one value is that value."""
    if not edges:
        return ["(all)"]
    short = [_short(edge) for edge in edges]
    told = short if len(set(short)) == len({f"{edge:g}" for edge in edges}) else [f"{edge:g}" for edge in edges]
    labels = [f"<= {told[0]}"]
    for (low, high), (low_told, high_told) in zip(pairwise(edges), pairwise(told), strict=True):
        labels.append(high_told if f"{low:.12g}" == f"{high:.12g}" else f"{low_told} .. {high_told}")
    return [*labels, f"> {told[-1]}"]


def _short(edge: float) -> str:
    """In few digits, and none of a whole number's left out."""
    return f"{edge:.4g}" if abs(edge) < 10_000 else f"{edge:g}"


def _parts(baseline: dict[Key, Any], current: dict[Key, Any], grouping: Grouping) -> tuple[list[Part], list[Part]]:
    """Each window, in time, and each slice, worst first."""
    parts: dict[str, list[Part]] = {"window": [], "slice": []}
    for start in grouping.starts:
        where = ("window", start // grouping.length_ns)
        parts["window"].append(_part(where, baseline[ALL], current.get(where), grouping))
    for where, counts in current.items():
        if where[0] == "slice":
            own = baseline.get(where)
            parts["slice"].append(_part(where, baseline[ALL] if own is None else own, counts, grouping))
    return parts["window"], sorted(parts["slice"], key=lambda part: -(part.psi if part.psi is not None else -1.0))


def _part(where: Key, baseline: Any, current: Any, grouping: Grouping) -> Part:
    if current is None or not current.sum():
        return _placed(Part(), *where, grouping)
    distances: BinDistances = of_bins(baseline, current, tested=False)
    rows = int(current.sum())
    part = Part(rows=rows, missing_share=float(current[-1]) / rows, psi=distances.psi, js=distances.js)
    return _placed(part, *where, grouping)


def _placed(part: Part, kind: str, where: Any, grouping: Grouping) -> Part:
    if kind == "window":
        return structs.replace(part, start=spans.told(where * grouping.length_ns))
    return structs.replace(part, value=str(where))


def _moved(
    source: Source,
    question: DriftQuestion,
    dimensions: list[Dimension],
    found: Moving,
    grouping: Grouping,
    answers: list[Drifted],
) -> list[Drifted]:
    """With a moving baseline each window is compared with what came right before it, in bins of that."""
    windows: dict[str, list[Part]] = {one.name: [] for one in answers}
    for start in grouping.starts:
        near = found.before(start, start + grouping.length_ns)
        for one in _compare(source, question, dimensions, near, Grouping([], 0)):
            rows = one.current.rows
            part = Part(
                start=spans.told(start),
                rows=rows,
                missing_share=one.current.missing_share,
                psi=one.psi,
                js=one.js,
                euclidean=one.euclidean,
                cosine=one.cosine,
            )
            windows[one.name].append(part)
    return [structs.replace(one, windows=windows[one.name]) for one in answers]
