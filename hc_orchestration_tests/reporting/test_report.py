"""The report shows what is known, says what is not, and lets nothing in the data become markup."""

import itertools
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from hc_orchestration.reporting.report import clear, difference, headline_of, render_report
from hc_orchestration.reporting.report_data import (
    UNDEFINED,
    Interval,
    Link,
    MissingModel,
    PairDifference,
    ReportData,
    SliceScores,
)
from hc_orchestration_tests.reporting.report_example import KEYS, NOTE, full_report, model

HOSTILE = "<img src=x onerror=alert(1)>"
LOADING = {"src", "srcset", "data", "poster", "action", "formaction", "background", "xlink:href"}


class Page(HTMLParser):
    """The elements and the text of a page, without its style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def one_model() -> ReportData:
    only = replace(full_report().models[0], labels=(), slices=(), gates=(), facts=(), links=())
    only = replace(only, errors=None, notes_per_second=None, provenance_digest=None)
    return replace(
        full_report(), models=(only,), differences=(), missing=(), withheld_slices=0, method=()
    )


def test_first_screen_tells_leader_lead_trust_gates_and_what_is_missing() -> None:
    text = Page(render_report(full_report())).text
    result = text[: text.index("Leaderboard")]
    assert f"{KEYS[0]} leads: strict F1 0.894 (95 % interval 0.874\N{EN DASH}0.914)" in result
    assert f"Yes +0.033 over {KEYS[1]}, 95 % interval +0.019 to +0.047" in result
    assert "1 of 4 failed" in result
    assert "3 models med7-3.0, broken-0.1, away-1.0" in result


def test_one_model_and_nothing_else_is_a_whole_report() -> None:
    text = Page(render_report(one_model())).text
    assert "is the only model compared" in text
    assert "Nothing to compare with" in text
    assert "No gates" in text
    assert "Differences between models" not in text


def test_only_missing_models_are_named_with_their_reasons_and_none_leads() -> None:
    data = replace(
        full_report(), models=(), differences=(), missing=(MissingModel("broken-0.1", "no files"),)
    )
    text = Page(render_report(data)).text
    assert "No model could be compared." in text
    assert "broken-0.1 : no files" in text
    assert "0.000" not in text


def test_models_that_are_not_installed_are_named_without_a_reason_each() -> None:
    text = Page(render_report(full_report())).text
    assert "Not installed here: away-1.0." in text
    assert "away-1.0 is not installed" not in text


def test_undefined_is_a_dash_and_not_applicable_says_so() -> None:
    text = Page(render_report(full_report())).text
    assert "PROCEDURE strict \N{EN DASH} \N{EN DASH} \N{EN DASH} 0 0" in text
    assert "strict micro n/a n/a n/a" in text
    assert " None " not in text.replace("None of them", "")


def test_lone_undefined_scores_draw_no_point() -> None:
    data = one_model()
    scores = tuple(replace(each, f1=UNDEFINED) for each in data.models[0].scores)
    data = replace(data, models=(replace(data.models[0], scores=scores),))
    assert not Page(render_report(data)).all("circle")


def test_withheld_slices_are_counted_and_show_no_number() -> None:
    text = Page(render_report(full_report())).text
    assert "1 slice was withheld" in text
    assert "note_type discharge withheld withheld withheld withheld withheld n/a" in text


def test_withheld_slice_cannot_carry_a_number() -> None:
    with pytest.raises(ValueError, match="withheld, but carries numbers"):
        SliceScores("note_type", "discharge", "strict", UNDEFINED, 4, None, withheld=True)


def test_names_in_any_script_are_kept() -> None:
    named = replace(one_model(), study="Étude \N{EN DASH} 臨床 ΔΨ")
    assert "<h1>Étude \N{EN DASH} 臨床 ΔΨ</h1>" in render_report(named)


def test_markup_in_any_name_stays_text() -> None:
    data = full_report()
    hostile = replace(
        data.models[0],
        key=HOSTILE,
        labels=tuple(replace(each, label=HOSTILE) for each in data.models[0].labels),
    )
    gold = tuple(replace(each, label=HOSTILE) for each in data.corpus.gold)
    missing = (MissingModel(HOSTILE, HOSTILE),)
    data = replace(
        data,
        study=HOSTILE,
        corpus=replace(data.corpus, gold=gold),
        models=(hostile, *data.models[1:]),
        missing=missing,
    )
    page = Page(render_report(data))
    assert not page.all("img")
    assert not page.all("script")
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    assert HOSTILE in page.text


def test_nothing_is_loaded_from_anywhere() -> None:
    page = Page(render_report(full_report()))
    assert not page.all("link")
    assert not page.all("script")
    assert not [a for _, attributes in page.elements for a in attributes if a in LOADING]
    assert "url(" not in render_report(full_report())
    assert "@import" not in render_report(full_report())
    given = {link.url for each in full_report().models for link in each.links}
    outward = {a["href"] for a in page.all("a") if not str(a["href"]).startswith("#")}
    assert outward == given


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "data:text/html,x",
     "//evil.example/x", "https://a.example/ x", "java\nscript:alert(1)", "http:evil"],
)  # fmt: skip
def test_other_schemes_are_shown_but_are_no_anchor(url: str) -> None:
    data = one_model()
    data = replace(data, models=(replace(data.models[0], links=(Link("Run", url),)),))
    page = Page(render_report(data))
    assert [a for a in page.all("a") if not str(a["href"]).startswith("#")] == []
    assert " ".join(url.split()) in page.text


def test_anchors_within_the_page_lead_somewhere() -> None:
    for data in (full_report(), one_model()):
        page = Page(render_report(data))
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        inward = [str(a["href"])[1:] for a in page.all("a") if str(a["href"]).startswith("#")]
        assert set(inward) <= set(ids)


def test_headings_descend_one_level_at_a_time_and_tables_are_labelled() -> None:
    page = Page(render_report(full_report()))
    levels = [int(tag[1]) for tag, _ in page.elements if tag in {"h1", "h2", "h3", "h4"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all("scope" in attributes for attributes in page.all("th"))


def test_same_data_give_the_same_bytes() -> None:
    assert render_report(full_report()) == render_report(full_report())


def test_note_text_appears_only_when_the_study_allows_it() -> None:
    word = NOTE.split()[2]
    assert word in Page(render_report(full_report(note_text_allowed=True))).text
    assert word not in render_report(full_report(note_text_allowed=False))


def test_report_says_it_is_no_medical_device() -> None:
    assert "Not a medical device." in Page(render_report(one_model())).text


def pair(p_holm: float | None, low: float, high: float) -> PairDifference:
    return PairDifference("a", "b", "strict.f1", 0.03, Interval(low, high), p_holm, p_holm)


@pytest.mark.parametrize(
    ("tested", "expected"),
    [
        (pair(0.01, 0.01, 0.05), True),
        (pair(0.06, 0.01, 0.05), False),
        (pair(0.01, -0.01, 0.05), False),
        (pair(None, 0.01, 0.05), None),
    ],
)
def test_difference_is_clear_when_p_and_interval_agree(
    *, tested: PairDifference, expected: bool | None
) -> None:
    assert clear(tested) is expected


def test_difference_turned_round_changes_sign_and_swaps_its_interval() -> None:
    data = replace(full_report(), differences=(pair(0.01, 0.01, 0.05),))
    turned = difference(data, "strict.f1", "b", "a")
    assert turned is not None
    assert turned.difference == -0.03
    assert turned.interval == Interval(-0.05, -0.01)


def test_untyped_leader_is_told_in_exact() -> None:
    data = replace(full_report(), models=(full_report().models[3],))
    assert headline_of(data).mode == "exact"


def test_lead_that_was_not_tested_is_not_called_trusted() -> None:
    data = replace(
        full_report(), models=(model(1, "a", 0.9, None), model(2, "b", 0.8, None)), differences=()
    )
    assert "Not tested" in Page(render_report(data)).text


def test_clear_difference_against_the_leader_is_no_lead_to_trust() -> None:
    first, second = (
        replace(each, key=key) for each, key in zip(full_report().models[:2], "ba", strict=True)
    )
    data = replace(full_report(), models=(first, second), differences=(pair(0.01, 0.01, 0.05),))
    assert headline_of(data).trusted is False
