"""What engines yield: the entities of some notes, or why there are none."""

from dataclasses import dataclass

from hc_orchestration.models.predictions import PackedEntities


@dataclass(frozen=True, slots=True)
class Unprocessed:
    """A note that the model has no entities for, and why.

    Attributes:
        reason: "raised RuntimeError", "ended its process (signal 9)"; never words of the note.
    """

    note_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Extracted:
    """The rows of a batch; a note stands in exactly one of the two.

    Attributes:
        characters: Of all its notes.
    """

    entities: PackedEntities
    characters: int
    unprocessed: tuple[Unprocessed, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The model cannot be loaded or broke its contract, in words that are safe to show."""

    message: str
