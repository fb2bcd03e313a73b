"""Offsets that count something other than code points are converted, or the note is refused."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hc_orchestration.corpora.offsets import OffsetUnit, converted, width
from hc_orchestration.corpora.raw import RawSpan
from hc_orchestration.corpora.sources import Format
from hc_orchestration_tests.corpora.formats import Reading, surfaces, write

EMOJI = "Mask 😷😷 and naïve flu"


def written(folder: Path, form: Format, text: str, word: str, start: int) -> Reading:
    """A note with one mention, quoted, at the offset given."""
    length = len(word)
    end = start + length
    mention = f"{start}\t{end}\t{word}\tDISEASE\tD1"
    files = {
        "brat": {
            "n.txt": text.encode(),
            "n.ann": f"T1\tDISEASE {start} {end}\t{word}\n".encode(),
        },
        "pubtator": {"n.pubtator": f"1|t|{text}\n1|a|\n1\t{mention}\n".encode()},
        "bioc": {
            "n.xml": (
                "<collection><document><id>1</id><passage><offset>0</offset>"
                f"<text>{text}</text><annotation id='1'><infon key='type'>DISEASE</infon>"
                f"<location offset='{start}' length='{length}'/><text>{word}</text></annotation>"
                "</passage></document></collection>"
            )
            .replace("\r", "&#13;")
            .encode()
        },
    }[form]
    return Reading(write(folder, files), form)


QUOTING: tuple[Format, ...] = ("brat", "pubtator", "bioc")


@pytest.mark.parametrize("form", QUOTING)
@pytest.mark.parametrize("unit", ["code_point", "utf16", "utf8"])
def test_offsets_in_other_units_are_converted(tmp_path: Path, form: Format, unit: str) -> None:
    before = EMOJI[: EMOJI.index("flu")]
    start = {
        "code_point": len(before),
        "utf16": len(before.encode("utf-16-le")) // 2,
        "utf8": len(before.encode()),
    }[unit]
    reading = written(tmp_path, form, EMOJI, "flu", start)
    assert surfaces(reading.notes[0]) == [("flu", "DISEASE")]
    assert dict(reading.counts.offsets) == {unit: 1}


@pytest.mark.parametrize("form", ["brat", "bioc"])
@pytest.mark.parametrize(("start", "unit"), [(14, "code_point"), (12, "crlf_as_one")])
def test_windows_line_ends_may_count_two_or_one(
    tmp_path: Path, form: Format, start: int, unit: str
) -> None:
    text = "Seen.\r\nHas.\r\n flu"
    reading = written(tmp_path, form, text, "flu", start)
    assert reading.notes[0].text == text
    assert surfaces(reading.notes[0]) == [("flu", "DISEASE")]
    assert dict(reading.counts.offsets) == {unit: 1}


def test_pubtator_with_windows_line_ends_has_none_in_its_text(tmp_path: Path) -> None:
    content = b"1|t|Flu.\r\n1|a|Gout too.\r\n1\t5\t9\tGout\tDISEASE\tD1\r\n"
    (note,) = Reading(write(tmp_path, {"a.pubtator": content}), "pubtator").notes
    assert note.text == "Flu.\nGout too."
    assert surfaces(note) == [("Gout", "DISEASE")]


@pytest.mark.parametrize("form", QUOTING)
def test_combining_marks_count_as_they_are_written(tmp_path: Path, form: Format) -> None:
    text = unicodedata.normalize("NFD", "café with flu")
    reading = written(tmp_path, form, text, "flu", text.index("flu"))
    assert surfaces(reading.notes[0]) == [("flu", "DISEASE")]


@pytest.mark.parametrize("form", QUOTING)
def test_a_quote_of_other_normal_form_is_refused(tmp_path: Path, form: Format) -> None:
    text = unicodedata.normalize("NFD", "dépression")
    reading = written(tmp_path, form, text, "dépression", 0)
    assert reading.reasons == ["span_text_differs"]


@pytest.mark.parametrize("form", QUOTING)
@pytest.mark.parametrize("shift", [-1, 1])
def test_offsets_that_no_unit_explains_are_refused(
    tmp_path: Path, form: Format, shift: int
) -> None:
    reading = written(tmp_path, form, "Has the flu now", "flu", 8 + shift)
    assert reading.reasons == ["span_text_differs"]


def test_an_offset_inside_a_surrogate_pair_is_no_boundary() -> None:
    assert converted("😷a", [RawSpan(1, 3, "X")], OffsetUnit.UTF16) is None
    assert converted("😷a", [RawSpan(2, 3, "X")], OffsetUnit.UTF16) == [RawSpan(1, 2, "X")]


@given(st.text(alphabet=st.sampled_from("aé\r\n😷ש\u0301"), max_size=12), st.data())
def test_conversion_undoes_counting_in_any_unit(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    for unit in OffsetUnit:
        span = RawSpan(width(text[:start], unit), width(text[:end], unit), "X")
        if unit is OffsetUnit.CRLF_AS_ONE and "\r\n" in text:
            continue  # the place between the two characters has no number of its own
        assert converted(text, [span], unit) == [RawSpan(start, end, "X")]
