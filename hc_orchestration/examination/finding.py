"""Something that `hc doctor` found, with the command that mends it."""

from dataclasses import dataclass

REPAIR = "hc doctor --repair"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        subject: What it is about: a run, an evaluation, a folder, a store.
        problem: What is wrong with it.
        remedy: The command that mends it, or what to do where no command can.
        mended: Whether this examination mended it.
    """

    subject: str
    problem: str
    remedy: str
    mended: bool = False
