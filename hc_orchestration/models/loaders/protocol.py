"""What every loaded model can do, whatever it is made of."""

from collections.abc import Sequence
from typing import Protocol

ModelSpan = (
    tuple[int, int, str]
    | tuple[int, int, str, float | None]
    | tuple[int, int, str, float | None, str | None]
)
"""`(start, end, label)`, then optionally a score, then optionally a concept id."""

CPU = "cpu"


class NerModel(Protocol):
    """Anything that finds mentions in texts.

    Attributes:
        device: Where it computes: "cpu", "cuda:0".
        labels: The labels that it can give; None: it does not tell.
    """

    @property
    def device(self) -> str: ...  # noqa: D102 - see above

    @property
    def labels(self) -> tuple[str, ...] | None: ...  # noqa: D102 - see above

    def extract(self, texts: Sequence[str]) -> list[list[ModelSpan]]:
        """One inner list a text, of `(start, end, label[, score[, concept]])`.

        Offsets are half-open and count code points of the text as given.
        """
        ...
