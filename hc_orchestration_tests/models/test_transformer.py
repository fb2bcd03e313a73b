"""Transformers: windows, merged mentions, and a tiny network with random weights."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hc_orchestration.models.catalogue import ModelEntry, ModelSource
from hc_orchestration.models.loaders import load_model
from hc_orchestration.models.loaders.transformer import Word, merged_spans, windows
from hc_orchestration.models.store import InstalledModel


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


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra transformers)")
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    letters = "abcdefghijklmnopqrstuvwxyz.,"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{c}" for c in letters)]
    vocabulary = {word: number for number, word in enumerate(words)}
    made = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        id2label={0: "O", 1: "B-DISEASE", 2: "I-DISEASE"},
        label2id={"O": 0, "B-DISEASE": 1, "I-DISEASE": 2},
        initializer_range=1.0,
    )
    BertForTokenClassification(config).save_pretrained(folder)
    return folder


def test_offsets_of_a_real_network_slice_any_text(tiny: Path) -> None:
    source = ModelSource(path=str(tiny))
    entry = ModelEntry(name="tiny", version="1", loader="transformers", source=source)
    model = load_model(InstalledModel(entry, tiny, (), "f" * 64))
    assert model.labels == ("DISEASE",)
    texts = ["", "\U0001f637 e\u0301tat gout \u4e2d\u6587", "the patient has gout. " * 60]
    found = model.extract(texts)
    assert found[0] == []
    assert found[2]
    for text, spans in zip(texts, found, strict=True):
        for span in spans:
            mention = text[span[0] : span[1]]
            assert mention
            assert mention == mention.strip()
