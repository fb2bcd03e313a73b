"""`hc promote`: who the champion is."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hc_orchestration.cli.options import Json
from hc_orchestration.cli.output import console, open_workspace, print_json

if TYPE_CHECKING:
    from hc_orchestration.resources.promoting import PromotionOutcome


def promote(
    key: Annotated[str, typer.Argument(help="A key of the catalogue.")],
    force: Annotated[
        str | None,
        typer.Option(help="Why, although its gates do not hold. It goes on record."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a model the champion of the study, if its gates hold now."""
    from hc_orchestration.resources.promoting import PromotionRefusedError
    from hc_orchestration.resources.promoting import promote as promote_model
    from hc_orchestration.resources.workspace import promotion_projection

    workspace = open_workspace()
    projection = promotion_projection(workspace.settings.tracking_uri, workspace)
    try:
        outcome = promote_model(workspace, projection, key, force)
    except PromotionRefusedError as error:
        if not as_json:
            raise
        gates = [asdict(result) for result in error.gates]
        print_json({"model": key, "promoted": False, "error": str(error), "gates": gates})
        raise typer.Exit(1) from None
    if as_json:
        print_json(_document(outcome))
    else:
        _print(outcome)


def _document(outcome: "PromotionOutcome") -> dict[str, Any]:
    promotion = asdict(outcome.promotion)
    return {
        "model": promotion.pop("model_key"),
        "promoted": outcome.made,
        "champion": True,
        "error": None,
        **promotion,
        "mlflow": asdict(outcome.shown) if outcome.shown else None,
    }


def _print(outcome: "PromotionOutcome") -> None:
    out, promotion = console(), outcome.promotion
    before = f", after {promotion.previous}" if promotion.previous else ""
    said = f"is the champion of {promotion.study} now{before}"
    if not outcome.made:
        said = f"is the champion of {promotion.study} already, on this evaluation"
    out.print(f"{promotion.model_key} {said}", markup=False, soft_wrap=True)
    for result in promotion.gates:
        out.print(f"  {result.sentence}", markup=False, soft_wrap=True)
    if promotion.forced_reason:
        out.print(f"  by force: {promotion.forced_reason}", markup=False, soft_wrap=True)
    if outcome.shown:
        out.print(f"MLflow: {outcome.shown.url}", soft_wrap=True)
    else:
        out.print("MLflow could not be told; `hc mlflow sync` does it later.", style="yellow")
