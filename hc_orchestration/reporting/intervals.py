"""How intervals, p-values and credit are written in one cell of a table."""


def interval(low: object, high: object) -> str | None:
    """Both ends, or None where there is no interval."""
    if not isinstance(low, float) or not isinstance(high, float):
        return None
    return f"{low:.3f} to {high:.3f}"


def probability(p: float | None) -> str | None:
    """A p-value with the digits that 10,000 permutations tell, or None."""
    return None if p is None else f"{p:.4f}"


def halves(credit: float) -> str:
    """Credit, which comes in halves, without rounding."""
    return f"{credit:,.1f}".removesuffix(".0")
