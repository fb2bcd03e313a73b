"""Transformers: windows, merged mentions, and tiny networks with random weights."""

import itertools

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hc_orchestration.models.catalogue import ModelEntry, ModelSource
from hc_orchestration.models.loaders import NerModel, load_model
from hc_orchestration.models.loaders.transformer import Word, merged_spans, windows
from hc_orchestration.models.store import InstalledModel
from hc_orchestration_tests.models.tiny_models import save_transformer

TAGS = ("O", "DISEASE", "B-DISEASE", "I-DISEASE", "L-DISEASE", "U-DISEASE", "B-DRUG", "I-DRUG")


@settings(deadline=None)
@given(st.integers(0, 3000), st.integers(2, 512), st.data())
def test_every_token_is_decided_by_exactly_one_window(
    tokens: int, size: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, size // 2))
    made = list(windows(tokens, size, overlap))
    decided = [token for window in made for token in range(window.first, window.last)]
    assert decided == list(range(tokens))
    assert all(w.start <= w.first <= w.last <= w.end <= w.start + size for w in made)


def test_schemes_are_merged() -> None:
    text = "chronic gout , flu"
    words = [
        Word(0, 7, "B-D", 0.5),
        Word(8, 12, "I-D", 1.0),
        Word(13, 14, "O", 1.0),
        Word(15, 18, "U-D", 0.5),
    ]
    assert merged_spans(text, words) == [(0, 12, "D", 0.75), (15, 18, "D", 0.5)]


@settings(deadline=None)
@given(st.text(max_size=60), st.data())
def test_merged_mentions_slice_any_text_in_order_and_without_blank_ends(
    text: str, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    pieces = list(itertools.pairwise(cuts))
    tags = data.draw(st.lists(st.sampled_from(TAGS), min_size=len(pieces), max_size=len(pieces)))
    words = [Word(*piece, tag, 0.5) for piece, tag in zip(pieces, tags, strict=True)]
    found = merged_spans(text, words)
    assert_spans_lie_in(text, [(span[0], span[1]) for span in found])
    told = {
        position for word in words if word.tag != "O" for position in range(word.start, word.end)
    }
    assert {position for span in found for position in (span[0], span[1] - 1)} <= told
    assert all(span[2] in {"DISEASE", "DRUG"} and span[3:] == (0.5,) for span in found)


def assert_spans_lie_in(text: str, spans: list[tuple[int, int]]) -> None:
    """Every span is a piece of the text, not empty, without blanks at its ends, after the last."""
    for start, end in spans:
        assert 0 <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


@pytest.fixture(scope="module", params=[False, True], ids=["word pieces", "bytes"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NerModel:
    pytest.importorskip("torch", reason="torch is not installed (extra transformers)")
    folder = save_transformer(tmp_path_factory.mktemp("tiny"), byte_level=request.param)
    entry = ModelEntry(
        name="tiny", version="1", loader="transformers", source=ModelSource(path=str(folder))
    )
    return load_model(InstalledModel(entry, folder, (), "f" * 64))


def test_labels_are_told_without_their_scheme(tiny: NerModel) -> None:
    assert tiny.labels == ("DISEASE",)


UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
CLINICAL = st.text(
    "gout fever.,\u00e9e\u0301\u4e2d\U0001f637\u200d\ufeff\u00a0\r\n\t\x00\u0130\u00df",
    max_size=200,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(UNICODE | CLINICAL, max_size=3))
@example(["", " ", "\U0001f637 e\u0301tat gout \u4e2d\u6587", "the patient has gout. " * 60])
@example(["\u4e2d" * 100, "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 30, "\u0130\ufb01" * 50])
def test_offsets_of_a_real_network_slice_any_text(tiny: NerModel, texts: list[str]) -> None:
    found = tiny.extract(texts)
    assert len(found) == len(texts)
    for text, spans in zip(texts, found, strict=True):
        assert_spans_lie_in(text, [(span[0], span[1]) for span in spans])
        assert {label for _, _, label, *_ in spans} <= {"DISEASE"}
        assert all(0 < score <= 1 for *_, score in spans if isinstance(score, float))


def test_texts_are_read_alone_whatever_stands_beside_them(tiny: NerModel) -> None:
    texts = ["gout and fever. " * 40, "Well.", "", "asthma, \u4e2d\u6587 gout " * 7]
    alone = [tiny.extract([text])[0] for text in texts]
    for one, other in zip(tiny.extract(texts), alone, strict=True):
        assert [span[:3] for span in one] == [span[:3] for span in other]
    assert alone[0]
