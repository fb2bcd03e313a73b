"""The independent judge of FHIR R4: HL7's definitions, Medplum and fhirpath.js, on Node."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from hc_orchestration_tests.node import node_command


class Judge:
    """A running judge; it loads the definitions once, which takes a second."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def findings(self, resource: dict[str, Any]) -> list[str]:
        """What is wrong with a resource, as `where: what (rule)`."""
        reader, writer = self._process.stdout, self._process.stdin
        assert reader is not None
        assert writer is not None
        writer.write(json.dumps(resource) + "\n")
        writer.flush()
        answer = reader.readline()
        assert answer, "the judge ended"
        return [f"{one['where']}: {one['says']} ({one['rule']})" for one in json.loads(answer)]


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    """A judge for the tests of a module."""
    with subprocess.Popen(
        node_command("judge.mjs"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Judge(process)
        process.kill()
