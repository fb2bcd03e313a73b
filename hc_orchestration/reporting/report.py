"""The comparison report: one HTML file that needs nothing but itself."""

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hc_orchestration.reporting.report_data import (
    NOT_APPLICABLE,
    UNDEFINED,
    Interval,
    PairDifference,
    ReportData,
    ReportedModel,
    Score,
    SliceScores,
)
from hc_orchestration.reporting.templating import environment
from hc_orchestration.scoring.gates import Verdict

_SIGNIFICANT = 0.05
_WEB_ADDRESS = re.compile(r"https?://[A-Za-z0-9\[][^\s\\<>\"'`\x00-\x20\x7f]*", re.IGNORECASE)
_SMALLEST_P = 0.001
_UNDEFINED = "\N{EN DASH}"
_TICKS = 4


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear or logarithmic axis in percent of the width of its plot."""

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Where a value lies, in percent, kept inside the plot."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        share = (self._scaled(value) - low) / (high - low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


@dataclass(frozen=True, slots=True)
class Headline:
    """What a reader must know first.

    Attributes:
        mode: The mode that the leader is told in: strict, or exact where strict does not apply.
        trusted: Whether the lead over the second is beyond chance; None when it was not tested.
    """

    leader: ReportedModel | None
    second: ReportedModel | None
    mode: str
    lead: PairDifference | None
    trusted: bool | None
    verdicts: tuple[tuple[Verdict, int], ...]


@dataclass(frozen=True, slots=True)
class ForestRow:
    """A model's F1 under one heading of the forest plot."""

    model: ReportedModel
    f1: Score
    gold: int | None


@dataclass(frozen=True, slots=True)
class ForestGroup:
    """All models under `All labels` or one label."""

    name: str
    rows: tuple[ForestRow, ...]


@dataclass(frozen=True, slots=True)
class SliceRow:
    """One slice and its F1 per model, in the order of the models."""

    slice: SliceScores
    cells: tuple[SliceScores | None, ...]


def render_report(data: ReportData) -> str:
    """The report as the text of an HTML file.

    Everything in the data is text: names and notes are escaped, a link is an anchor only when it is
    an http or https address, and the page's policy allows no script and no load. The same data give
    the same bytes.
    """
    templates = environment()
    templates.filters |= {
        "number": number,
        "points": points,
        "p_value": p_value,
        "count": "{:,}".format,
        "short": lambda digest: digest[:12],
    }
    style = templates.get_template("report.css").render()
    headline = headline_of(data)
    return (
        templates.get_template("report.html.j2").render(
            data=data,
            style_digest=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            headline=headline,
            f1_of=f1_of,
            forest=forest(data),
            f1_axis=f1_axis(data),
            fast=[model for model in data.models if model.notes_per_second],
            speed_axis=speed_axis(data.models),
            metrics=list(dict.fromkeys(pair.metric for pair in data.differences)),
            difference=lambda metric, row, column: difference(data, metric, row, column),
            clear=clear,
            slice_tables={mode: slice_rows(data, mode) for mode in _modes_of_slices(data)},
            web_address=lambda url: _WEB_ADDRESS.fullmatch(url) is not None,
        )
        + "\n"
    )


def headline_of(data: ReportData) -> Headline:
    """The leader, its lead over the second and whether to trust it, and the gates' verdicts."""
    leader = data.models[0] if data.models else None
    second = data.models[1] if len(data.models) > 1 else None
    mode = "strict"
    if leader and _only_exact(leader):
        mode = "exact"
    lead = difference(data, f"{mode}.f1", leader.key, second.key) if leader and second else None
    verdicts = [gate.verdict for model in data.models for gate in model.gates]
    return Headline(
        leader=leader,
        second=second,
        mode=mode,
        lead=lead,
        trusted=_trusted(lead) if lead else None,
        verdicts=tuple((each, verdicts.count(each)) for each in Verdict if each in verdicts),
    )


def clear(pair: PairDifference) -> bool | None:
    """Whether a difference is beyond chance: adjusted p below 0.05; None when there is no p.

    An interval that includes 0 contradicts it, and makes it unclear.
    """
    if pair.p_holm is None or pair.difference is None:
        return None
    interval = pair.interval
    if interval is not None and interval.low <= 0 <= interval.high:
        return False
    return pair.p_holm < _SIGNIFICANT


def f1_of(model: ReportedModel, mode: str) -> Score:
    """A model's micro F1 in a mode; not applicable when it has none."""
    found = (s.f1 for s in model.scores if s.mode == mode and s.average == "micro")
    return next(found, NOT_APPLICABLE)


def difference(data: ReportData, metric: str, row: str, column: str) -> PairDifference | None:
    """Row minus column, turned round when it is stored the other way."""
    for pair in data.differences:
        if pair.metric != metric:
            continue
        if (pair.first, pair.second) == (row, column):
            return pair
        if (pair.first, pair.second) == (column, row):
            return _turned(pair)
    return None


def forest(data: ReportData) -> list[ForestGroup]:
    """Strict F1 of all labels, then of each label of the corpus, for each model."""
    groups = [
        ForestGroup(
            "All labels",
            tuple(
                ForestRow(model, f1_of(model, "strict"), sum(s.gold for s in data.corpus.gold))
                for model in data.models
            ),
        )
    ]
    for support in data.corpus.gold:
        rows = [
            ForestRow(model, _label_f1(model, support.label), support.gold) for model in data.models
        ]
        groups.append(ForestGroup(support.label, tuple(rows)))
    return groups


def f1_axis(data: ReportData) -> Axis:
    """An axis of tenths that holds every strict F1 and exact F1 that is plotted, and its ends."""
    scores = [row.f1 for group in forest(data) for row in group.rows]
    scores += [f1_of(model, "exact") for model in data.models]
    values = [value for score in scores for value in _extent(score)]
    low = math.floor(min(values, default=0.0) * 10) / 10
    high = math.ceil(max(values, default=1.0) * 10) / 10
    if high - low < 2 / 10:
        low, high = max(0.0, low - 1 / 10), min(1.0, high + 1 / 10)
    ticks = tuple(round(low + (high - low) * step / _TICKS, 3) for step in range(_TICKS + 1))
    return Axis(round(low, 3), round(high, 3), ticks)


def speed_axis(models: Iterable[ReportedModel]) -> Axis:
    """A logarithmic axis of whole decades that holds every model's notes per second."""
    speeds = [model.notes_per_second for model in models if model.notes_per_second]
    first = math.floor(math.log10(min(speeds, default=1.0)))
    last = math.ceil(math.log10(max(speeds, default=10.0)))
    last = max(last, first + 1)
    return Axis(10.0**first, 10.0**last, tuple(10.0**e for e in range(first, last + 1)), True)  # noqa: FBT003


def slice_rows(data: ReportData, mode: str) -> list[SliceRow]:
    """One row per slice that any model has in a mode, in the order they are first named."""
    by_model = [
        {(s.attribute, s.value): s for s in model.slices if s.mode == mode} for model in data.models
    ]
    named = {name: each for slices in reversed(by_model) for name, each in slices.items()}
    order = dict.fromkeys(name for slices in by_model for name in slices)
    rows = (SliceRow(named[name], tuple(slices.get(name) for slices in by_model)) for name in order)
    return sorted(rows, key=lambda row: row.slice.attribute)


def number(value: float | None) -> str:
    """A score with three decimals; undefined is a dash."""
    return _UNDEFINED if value is None else f"{value:.3f}"


def points(value: float | None) -> str:
    """A difference of scores with its sign; undefined is a dash."""
    if value is None:
        return _UNDEFINED
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def p_value(value: float | None) -> str:
    """A p-value with its relation sign; undefined is a dash."""
    if value is None:
        return _UNDEFINED
    return f"< {_SMALLEST_P}" if value < _SMALLEST_P else f"= {value:.3f}"


def _only_exact(model: ReportedModel) -> bool:
    return f1_of(model, "strict").value is None and f1_of(model, "exact").value is not None


def _trusted(lead: PairDifference) -> bool | None:
    """A lead must be beyond chance and in the leader's favour."""
    return clear(lead) and (lead.difference or 0.0) > 0


def _turned(pair: PairDifference) -> PairDifference:
    interval = pair.interval and Interval(-pair.interval.high, -pair.interval.low)
    value = None if pair.difference is None else -pair.difference
    return replace(pair, first=pair.second, second=pair.first, difference=value, interval=interval)


def _label_f1(model: ReportedModel, label: str) -> Score:
    found = (s.f1 for s in model.labels if s.mode == "strict" and s.label == label)
    missing = UNDEFINED if f1_of(model, "strict").applicable else NOT_APPLICABLE
    return next(found, missing)


def _extent(score: Score) -> Sequence[float]:
    if score.value is None:
        return ()
    if score.interval is None:
        return (score.value,)
    return (score.interval.low, score.value, score.interval.high)


def _modes_of_slices(data: ReportData) -> list[str]:
    return list(dict.fromkeys(s.mode for model in data.models for s in model.slices))
