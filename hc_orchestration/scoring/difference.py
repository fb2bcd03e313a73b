"""What a paired difference is, apart from how it is computed: who reads one needs no numpy."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Difference:
    """First minus second in one metric.

    Attributes:
        metric: `strict.f1`, `strict.f1.macro`, `strict.f1.label.DISEASE`, …
        first_value: The first model's score; None when undefined.
        difference: None when one of the scores is undefined. `p` likewise.
        ci_low: Lower end of the 95 % interval; None where there is none. `ci_high` likewise.
        p: Of the two-sided paired permutation test.
        p_holm: Adjusted over all pairs of this metric.
        gold: Gold mentions.
        clusters: Clusters that the difference rests on.
        undefined: Share of the resamples in which it is undefined.
        seed: Of the resamples and the permutations of this pair.
    """

    first: str
    second: str
    metric: str
    first_value: float | None
    second_value: float | None
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p: float | None
    p_holm: float | None
    gold: int
    clusters: int
    undefined: float
    resamples: int
    permutations: int
    seed: int

    def reversed(self) -> "Difference":
        """Second minus first."""
        negated = [
            None if value is None else -value
            for value in (self.difference, self.ci_high, self.ci_low)
        ]
        return replace(
            self,
            first=self.second,
            second=self.first,
            first_value=self.second_value,
            second_value=self.first_value,
            difference=negated[0],
            ci_low=negated[1],
            ci_high=negated[2],
        )
