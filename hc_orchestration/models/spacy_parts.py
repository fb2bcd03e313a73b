"""spaCy parts that our shipped models need; importing this module registers them with spaCy."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from spacy.tokenizer import Tokenizer
from spacy.util import (
    compile_infix_regex,
    compile_prefix_regex,
    compile_suffix_regex,
    registry,
)

from hc_orchestration.models import (  # noqa: F401 - each registers its factory with spaCy
    document_consistency,
    lexicon_tagger,
    ner_vote,
)

if TYPE_CHECKING:
    from spacy.language import Language

_SEPARATOR = r"[-\u2013\u2014/+()\[\]{}]"  # hyphen, en and em dash, slash, plus, brackets


def make_clinical_tokenizer() -> Callable[["Language"], Tokenizer]:
    """The tokenizer of the pipeline's language, which also splits at every - / + and bracket.

    Clinical text glues mentions to their neighbours ("drug-induced", "N/V", "K(+)"); a mention
    that is only a part of a token cannot be predicted. spaCy's special cases ("e.g.", "don't")
    and its rules for URLs stay as they are.

    Returns:
        What spaCy calls with the new pipeline to get its tokenizer, at training and at load.
    """

    def make_tokenizer(nlp: "Language") -> Tokenizer:
        defaults = nlp.Defaults
        return Tokenizer(
            nlp.vocab,
            rules=defaults.tokenizer_exceptions,
            prefix_search=compile_prefix_regex([*(defaults.prefixes or ()), _SEPARATOR]).search,
            suffix_search=compile_suffix_regex([*(defaults.suffixes or ()), _SEPARATOR]).search,
            infix_finditer=compile_infix_regex([*(defaults.infixes or ()), _SEPARATOR]).finditer,
            token_match=defaults.token_match,
            url_match=defaults.url_match,
        )

    return make_tokenizer


registry.tokenizers("hc_orchestration.ClinicalTokenizer.v1", func=make_clinical_tokenizer)
