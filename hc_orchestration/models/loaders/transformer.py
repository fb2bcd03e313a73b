"""Token-classification transformers (extra `transformers`): safetensors, windows, exact offsets."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hc_orchestration.errors import ModelError
from hc_orchestration.models.loaders.protocol import CPU, ModelSpan
from hc_orchestration.models.store import InstalledModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

OUTSIDE = "O"
_BATCH = 16
_LONGEST = 512
_BEGINS = ("B", "S", "U")
_ENDS = ("E", "L", "S", "U")
_SHIFTED = ("roberta", "xlm-roberta", "camembert", "longformer")


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens `[start, end)` that the model sees at once, of which it decides `[first, last)`."""

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Word:
    """A piece of the text `[start, end)`, its tag ("B-DISEASE", "O") and the probability of it."""

    start: int
    end: int
    tag: str
    score: float


def windows(tokens: int, size: int, overlap: int) -> Iterator[Window]:
    """Overlapping windows over so many tokens; each token is decided by exactly one.

    Two neighbours are cut in the middle of what they share, so that every token is decided where
    it has context on both sides.
    """
    first = 0
    for start in range(0, max(tokens, 1), size - overlap):
        end = min(start + size, tokens)
        last = tokens if end == tokens else end - overlap // 2
        yield Window(start, end, first, last)
        if end == tokens:
            return
        first = last


def merged_spans(text: str, words: Iterable[Word]) -> list[ModelSpan]:
    """Tagged words in the order of the text as mentions, whatever the scheme (IO, BIO, BILOU).

    A mention goes on while the label stays and no word begins a new one; its score is the mean
    probability of its words. Spaces at its ends are not part of it.
    """
    spans: list[ModelSpan] = []
    open_words: list[Word] = []
    closed = True
    for word in words:
        prefix, label = _split(word.tag)
        same = bool(open_words) and _split(open_words[0].tag)[1] == label
        if closed or not same or prefix in _BEGINS:
            spans += _mention(text, open_words)
            open_words = []
        if label != OUTSIDE:
            open_words.append(word)
        closed = label == OUTSIDE or prefix in _ENDS
    return spans + _mention(text, open_words)


def _split(tag: str) -> tuple[str, str]:
    prefix, dash, label = tag.partition("-")
    if dash and prefix in ("B", "I", "L", "E", "S", "U", "M"):
        return prefix, label
    return "", tag


def _mention(text: str, words: Sequence[Word]) -> list[ModelSpan]:
    if not words:
        return []
    start, end = words[0].start, max(word.end for word in words)
    inner = text[start:end]
    start += len(inner) - len(inner.lstrip())
    end -= len(inner) - len(inner.rstrip())
    if start >= end:
        return []
    score = sum(word.score for word in words) / len(words)
    return [(start, end, _split(words[0].tag)[1], score)]


class TransformerModel:
    """A transformer that tags tokens; the tag of a word is that of its first token."""

    def __init__(
        self, network: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", device: str
    ) -> None:
        """Wrap a network, already on `device`, with its tokenizer."""
        self.device = device
        self._network = network
        self._tokenizer = tokenizer
        self._tags: dict[int, str] = {int(k): v for k, v in network.config.id2label.items()}
        self._before, self._after = _special_ids(tokenizer)
        self._size = _longest_input(network, tokenizer) - len(self._before) - len(self._after)
        self._overlap = self._size // 4

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels without the prefixes of their scheme."""
        return tuple(sorted({_split(tag)[1] for tag in self._tags.values()} - {OUTSIDE}))

    def extract(self, texts: Sequence[str]) -> list[list[ModelSpan]]:
        """See `NerModel.extract`; the score is the mean probability of the mention's words."""
        encoded = [self._tokens(text) for text in texts]
        seen = [
            (number, window)
            for number, (ids, _, _) in enumerate(encoded)
            for window in windows(len(ids), self._size, self._overlap)
            if ids
        ]
        decided: list[list[tuple[int, float]]] = [[] for _ in texts]
        for begin in range(0, len(seen), _BATCH):
            batch = seen[begin : begin + _BATCH]
            inputs = [encoded[number][0][window.start : window.end] for number, window in batch]
            for (number, window), tags in zip(batch, self._tagged(inputs), strict=True):
                own = slice(window.first - window.start, window.last - window.start)
                decided[number] += tags[own]
        return [
            merged_spans(text, self._words(offsets, words, tags))
            for text, (_, offsets, words), tags in zip(texts, encoded, decided, strict=True)
        ]

    def _tokens(self, text: str) -> tuple[list[int], list[tuple[int, int]], Sequence[int | None]]:
        found = self._tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        return found["input_ids"], found["offset_mapping"], found.word_ids()

    def _words(
        self,
        offsets: Sequence[tuple[int, int]],
        words: Sequence[int | None],
        tags: Sequence[tuple[int, float]],
    ) -> list[Word]:
        found: list[Word] = []
        before: int | None = None
        for (start, end), word, (tag, score) in zip(offsets, words, tags, strict=True):
            if found and word is not None and word == before:
                first = found[-1]
                found[-1] = Word(first.start, max(first.end, end), first.tag, first.score)
            else:
                found.append(Word(start, end, self._tags[tag], score))
            before = word
        return found

    def _tagged(self, inputs: Sequence[list[int]]) -> list[list[tuple[int, float]]]:
        """The best tag of every token and its probability."""
        import torch

        framed = [[*self._before, *ids, *self._after] for ids in inputs]
        longest = max(map(len, framed))
        pad = self._tokenizer.pad_token_id or 0
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in framed])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in framed])
        with torch.inference_mode():
            logits: torch.Tensor = self._network(
                input_ids=ids.to(self.device), attention_mask=mask.to(self.device)
            ).logits
            best = logits.float().softmax(-1).max(-1)
        scores, tags = best.values.tolist(), best.indices.tolist()
        begin = len(self._before)
        return [
            list(zip(tags[row][begin : begin + n], scores[row][begin : begin + n], strict=True))
            for row, n in enumerate(map(len, inputs))
        ]


def load_transformer(model: InstalledModel) -> TransformerModel:
    """The network in the model's folder, on the GPU when there is one.

    Raises:
        ModelError: The extra is not installed, or the files are not a whole safetensors model.
    """
    key, folder = model.entry.key, model.location
    if not any(Path(folder).glob("*.safetensors")):
        message = (
            f"model {key}: {folder} holds no .safetensors file. Weights in other forms are pickles "
            "and are not read; convert them with the developer's own tools."
        )
        raise ModelError(message)
    try:
        import torch
        from transformers import AutoModelForTokenClassification, AutoTokenizer
    except ImportError as error:
        message = (
            f"model {key} needs {error.name or 'a package'}, which is not installed. "
            "Install this project with the extra `transformers`."
        )
        raise ModelError(message) from None
    only_local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, **only_local)
        network, told = AutoModelForTokenClassification.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, **only_local
        )
    except Exception as error:  # noqa: BLE001 - whatever the library raises; no note was read yet
        reason = " ".join(str(error).split())[:200]
        message = f"model {key} cannot be loaded from {folder}: {type(error).__name__}: {reason}"
        raise ModelError(message) from None
    missing = sorted(told["missing_keys"])
    if missing:  # transformers would fill them with random numbers
        message = (
            f"model {key}: {folder} lacks weights for {', '.join(missing[:3])}. "
            "It is not a trained token classification model; install the whole one."
        )
        raise ModelError(message)
    if not tokenizer.is_fast:
        message = f"model {key}: its tokenizer gives no offsets. Add a tokenizer.json to {folder}."
        raise ModelError(message)
    device = "cuda:0" if torch.cuda.is_available() else CPU
    return TransformerModel(network.to(device).eval(), tokenizer, device)


def _special_ids(tokenizer: "PreTrainedTokenizerFast") -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text."""
    found = tokenizer("a", return_special_tokens_mask=True)
    ids, special = found["input_ids"], found["special_tokens_mask"]
    before = special.index(0) if 0 in special else len(ids)
    after = special[::-1].index(0) if 0 in special else 0
    return ids[:before], ids[len(ids) - after :]


def _longest_input(network: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast") -> int:
    config = network.config
    positions = getattr(config, "max_position_embeddings", None) or _LONGEST
    if config.model_type in _SHIFTED:  # their positions begin after the one of padding
        positions -= (config.pad_token_id or 0) + 1
    return int(min(positions, tokenizer.model_max_length, _LONGEST))
