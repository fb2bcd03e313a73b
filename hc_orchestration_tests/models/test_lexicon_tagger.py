"""The lexicon tagger: greedy longest matches by letters and digits, kept as hashes."""

from pathlib import Path

import pytest
from spacy.lang.en import English
from spacy.language import Language

from hc_orchestration.models.lexicon_tagger import LexiconTagger, lexicon_key
from hc_orchestration.models.spacy_parts import make_clinical_tokenizer

CLASSES = {"failure": "X", "renalfailure": "C12", "betablocker": "D27", "5fu": "D03"}


def pipeline() -> tuple[Language, LexiconTagger]:
    nlp = English()
    nlp.tokenizer = make_clinical_tokenizer()(nlp)
    tagger = nlp.add_pipe("hc_lexicon_tagger", "lexicon")
    assert isinstance(tagger, LexiconTagger)
    return nlp, tagger


def tags(nlp: Language, text: str) -> list[tuple[str, str]]:
    return [(token.text, token.tag_) for token in nlp(text) if token.tag_]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Beta-blocker", "betablocker"),
        ("5-FU", "5fu"),
        ("K(+)", "k"),
        ("--", ""),
        ("Ménière", "ménière"),
    ],
)
def test_key_is_letters_and_digits_in_lower_case(name: str, key: str) -> None:
    assert lexicon_key(name) == key


def test_longest_entry_wins_and_hyphens_do_not_matter() -> None:
    nlp, tagger = pipeline()
    tagger.fill(CLASSES)
    assert tags(nlp, "Renal failure after a beta blocker, beta-blocker or 5-FU; heart failure") == [
        ("Renal", "B-C12"),
        ("failure", "I-C12"),
        ("beta", "B-D27"),
        ("blocker", "I-D27"),
        ("beta", "B-D27"),
        ("blocker", "I-D27"),
        ("5", "B-D03"),
        ("FU", "I-D03"),
        ("failure", "B-X"),
    ]


def test_entry_longer_than_the_limit_is_not_found() -> None:
    nlp = English()
    tagger = nlp.add_pipe("hc_lexicon_tagger", config={"longest": 1})
    assert isinstance(tagger, LexiconTagger)
    tagger.fill(CLASSES)
    assert tags(nlp, "renal failure") == [("failure", "B-X")]


def test_a_part_of_a_token_is_no_match() -> None:
    nlp, tagger = pipeline()
    tagger.fill(CLASSES)
    assert tags(nlp, "failures renalfailures") == []


def test_entries_survive_the_disk_in_nine_bytes_each(tmp_path: Path) -> None:
    nlp, tagger = pipeline()
    tagger.fill(CLASSES)
    nlp.to_disk(tmp_path)
    assert (tmp_path / "lexicon" / "lexicon.bin").stat().st_size == 9 * len(CLASSES)
    fresh, other = pipeline()
    other.from_disk(tmp_path / "lexicon")
    text = "renal failure and 5-FU"
    assert tags(fresh, text) == tags(nlp, text) != []


def test_entries_survive_bytes() -> None:
    nlp, tagger = pipeline()
    tagger.fill(CLASSES)
    fresh, other = pipeline()
    other.from_bytes(tagger.to_bytes())
    assert len(other) == len(CLASSES)
    assert tags(fresh, "renal failure") == tags(nlp, "renal failure") != []


def test_cut_off_file_is_refused(tmp_path: Path) -> None:
    _, tagger = pipeline()
    tagger.fill(CLASSES)
    tagger.to_disk(tmp_path)
    file = tmp_path / "lexicon.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut off: 35 bytes"):
        tagger.from_disk(tmp_path)
