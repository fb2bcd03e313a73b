"""Real models that are made in a moment: transformers of random weights, packaged pipelines."""

import shutil
import tarfile
from pathlib import Path

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,"
LONGEST = 32


def save_transformer(folder: Path, *, byte_level: bool) -> Path:
    """A network of one layer as safetensors, with a fast tokenizer.

    Args:
        folder: Where to.
        byte_level: Tokens are bytes, as in RoBERTa, so that several can stand for one character;
            otherwise pieces of words, as in BERT.
    """
    import torch
    from transformers import BertConfig, BertForTokenClassification

    vocabulary = _save_tokenizer(folder, byte_level=byte_level)
    torch.manual_seed(0)
    tags = {0: "O", 1: "B-DISEASE", 2: "I-DISEASE"}
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=LONGEST,
        id2label=tags,
        label2id={tag: number for number, tag in tags.items()},
        initializer_range=1.0,
    )
    BertForTokenClassification(config).save_pretrained(folder)
    return folder


def _save_tokenizer(folder: Path, *, byte_level: bool) -> int:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    if byte_level:
        words = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
        made = Tokenizer(models.BPE({word: n for n, word in enumerate(words)}, []))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        words = [*special, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
        numbers = {word: n for n, word in enumerate(words)}
        made = Tokenizer(models.WordPiece(numbers, unk_token=special[1]))
        made.normalizer = normalizers.BertNormalizer()
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), special, strict=True))
    PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=LONGEST, **names
    ).save_pretrained(folder)
    return len(words)


def packaged_pipeline(folder: Path, version: str, *words: str) -> Path:
    """An archive of en_core_sci_sm in the layout of `spacy package`, whose ruler finds `words`."""
    import spacy
    from spacy.cli.package import package

    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler", config={"phrase_matcher_attr": "LOWER"})
    ruler.add_patterns([{"label": "ENTITY", "pattern": word} for word in words])
    pipeline, out = folder / f"pipeline-{version}", folder / f"packages-{version}"
    nlp.to_disk(pipeline)
    out.mkdir()
    package(pipeline, out, name="core_sci_sm", version=version, create_sdist=False, silent=True)
    (made,) = out.iterdir()
    archive = folder / f"{made.name}.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(made, made.name)
    shutil.rmtree(out)
    return archive
