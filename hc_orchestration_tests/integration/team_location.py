"""The code location, its sensors asked every 2 s, not every 30 or 60: for tests that wait for them.

Those that no test waits for keep their pace.
"""

from hc_orchestration.definitions import defs

__all__ = ["defs"]

for sensor in defs.sensors or ():
    if sensor.name not in {"alerts", "mlflow_sync", "close_canceled_evaluation"}:
        sensor._min_interval = 2  # type: ignore[union-attr]
