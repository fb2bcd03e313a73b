"""The daemon of `hc ui`, which looks for sensors that are due every second, not every five."""

from dagster._daemon import sensor

from hc_orchestration.daemon import main

if __name__ == "__main__":
    sensor.MIN_INTERVAL_LOOP_TIME = 1
    main()
