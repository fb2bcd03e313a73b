"""The study's gates as checks: they never block, since a bad model's evaluation is a good one."""

from collections.abc import Iterator, Sequence

import dagster as dg

from hc_orchestration.resources.withholding import words_withheld
from hc_orchestration.resources.workspace import WorkspaceResource
from hc_orchestration.study import Gate

MINIMUM_STEP = "minimum_gates"
REGRESSION_STEP = "regression_gates"


def gate_checks(
    gates: Sequence[Gate], models: dg.PartitionsDefinition[str]
) -> list[dg.AssetChecksDefinition]:
    """`minimum` gates on each partition of evaluation_metrics, `regression` ones on the comparison.

    Gates are read with the code location, as partitions are; the study file decides which checks
    there are, the record what they say.
    """
    minimum = [gate for gate in gates if gate.minimum is not None]
    regression = [gate for gate in gates if gate.regression is not None]
    checks = []
    if minimum:
        checks.append(_minimum_checks(minimum, models))
    if regression:
        checks.append(_regression_checks(regression))
    return checks


def _minimum_checks(
    gates: Sequence[Gate], models: dg.PartitionsDefinition[str]
) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=MINIMUM_STEP,
        specs=[
            dg.AssetCheckSpec(
                gate.check,
                asset="evaluation_metrics",
                partitions_def=models,
                description=f"{gate.score} is at least {gate.minimum:g}.",
            )
            for gate in gates
        ],
    )
    def minimum_gates(
        context: dg.AssetCheckExecutionContext, workspace: WorkspaceResource
    ) -> Iterator[dg.AssetCheckResult]:
        from hc_orchestration.resources.gating import (
            gate_check,
            minimum_results_of_run,
            unknown_gate,
        )

        with words_withheld():
            results = minimum_results_of_run(
                workspace.open(), context.instance, context.run, context.partition_key
            )
        for gate in gates:
            found = results.get(gate.check)
            if found is None:
                yield unknown_gate(gate.check)
            else:
                yield gate_check(gate.check, [found.verdict], found.sentence)

    return minimum_gates


def _regression_checks(gates: Sequence[Gate]) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=REGRESSION_STEP,
        specs=[
            dg.AssetCheckSpec(
                gate.check,
                asset="model_comparison",
                description=(
                    f"{gate.score} of no model is behind the champion's by more than "
                    f"{gate.regression:g}."
                ),
            )
            for gate in gates
        ],
    )
    def regression_gates(workspace: WorkspaceResource) -> Iterator[dg.AssetCheckResult]:
        from hc_orchestration.resources.gating import gate_check, regression_results_of_latest

        with words_withheld():
            results = regression_results_of_latest(workspace.open())
        for gate in gates:
            found = results.get(gate.check, [])
            said = " ".join(sentence for _, sentence in found)
            nothing = "There is no champion yet, or no model to hold against it."
            yield gate_check(gate.check, [verdict for verdict, _ in found], said or nothing)

    return regression_gates
