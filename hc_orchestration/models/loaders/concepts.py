"""scispaCy's linker over the file of a knowledge base; importing this registers it with spaCy.

scispaCy looks for the aliases nearest to a mention in an approximate index that it loads together
with a pickled vectorizer. Here the vectorizer is fitted anew, with its settings, and the index is
exact: nothing is unpickled, and a mention has the same concepts in every run.
"""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scispacy.candidate_generation import CandidateGenerator
from scispacy.linking import EntityLinker
from scispacy.linking_utils import Entity, KnowledgeBase
from sklearn.feature_extraction.text import TfidfVectorizer
from spacy.language import Language

from hc_orchestration.errors import ModelError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Nearest = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]
"""The numbers of aliases, and their distances from the mention."""

FACTORY = "hc_orchestration_linker"
_LARGE = 100_000
_RARE = 10
_MENTIONS_AT_ONCE = 64


class AliasIndex:
    """The aliases of a knowledge base, and which of them are nearest to a mention by cosine."""

    def __init__(self, vectors: "csr_matrix") -> None:
        """Keep rows of length 1, one an alias."""
        self._by_ngram = vectors.T.tocsr()

    def knnQueryBatch(  # noqa: N802 - nmslib's name, which scispaCy calls
        self, mentions: "csr_matrix", k: int
    ) -> list[Nearest]:
        """For each mention the numbers of its `k` nearest aliases, nearest first, and distances."""
        found: list[Nearest] = []
        for begin in range(0, mentions.shape[0], _MENTIONS_AT_ONCE):
            near = (mentions[begin : begin + _MENTIONS_AT_ONCE] @ self._by_ngram).tocsr()
            for row in range(near.shape[0]):
                own = slice(near.indptr[row], near.indptr[row + 1])
                aliases, cosines = near.indices[own], near.data[own]
                if len(cosines) > k:  # sorting a few is faster than sorting all
                    near_enough = cosines >= np.partition(cosines, -k)[-k]
                    aliases, cosines = aliases[near_enough], cosines[near_enough]
                best = np.lexsort((aliases, -cosines))[:k]
                found.append((aliases[best], 1.0 - cosines[best]))
        return found


@Language.factory(FACTORY)
def make_linker(nlp: Language, name: str, knowledge_base: str) -> EntityLinker:
    """The linker over a file of concepts, JSON Lines as scispaCy publishes them.

    Raises:
        ModelError: The file cannot be read or holds no concept.
    """
    concepts = KnowledgeBase(_entities(knowledge_base))
    aliases = list(concepts.alias_to_cuis)
    vectorizer = TfidfVectorizer(
        analyzer="char_wb",
        ngram_range=(3, 3),
        min_df=_RARE if len(aliases) >= _LARGE else 1,  # scispaCy's 10 would empty a small one
        dtype=np.float32,
    )
    vectors = vectorizer.fit_transform(aliases).tocsr()
    generator = CandidateGenerator(AliasIndex(vectors), vectorizer, aliases, concepts)
    return EntityLinker(nlp, name, candidate_generator=generator)


def _entities(file: str) -> list[Entity]:
    try:
        with open(file, encoding="utf-8") as lines:  # noqa: PTH123 - a long file, line by line
            found = [_entity(json.loads(line)) for line in lines if line.strip()]
    except (OSError, ValueError, TypeError, KeyError) as error:
        message = (
            f"{file} cannot be read as a knowledge base ({type(error).__name__}). It is JSON "
            "Lines of concept_id, canonical_name, aliases, types, definition."
        )
        raise ModelError(message) from None
    if not found:
        message = f"{file} holds no concept."
        raise ModelError(message)
    return found


def _entity(line: dict[str, Any]) -> Entity:
    return Entity(
        concept_id=str(line["concept_id"]),
        canonical_name=str(line["canonical_name"]),
        aliases=[str(alias) for alias in line["aliases"]],
        types=list(line.get("types") or ()),
        definition=line.get("definition"),
    )
