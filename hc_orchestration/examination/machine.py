"""This machine: Python, packages, disk space, and who may read what is ours."""

import shutil
import stat
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from hc_orchestration.errors import HcError
from hc_orchestration.examination.finding import Finding
from hc_orchestration.home import salt
from hc_orchestration.settings import Settings

_FIRST, _BEFORE = (3, 11), (3, 13)
_LEAST_FREE = 1_000_000_000
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_PACKAGE = "hc-orchestration"


def python_findings(running: tuple[int, int] = sys.version_info[:2]) -> list[Finding]:
    """Whether this is a Python that the packages are made for."""
    if _FIRST <= running < _BEFORE:
        return []
    found = ".".join(map(str, running))
    return [
        Finding("Python", f"{found} runs hc; 3.11 or 3.12 is needed", "rm -r .venv; make setup")
    ]


def package_findings(wanted: list[str] | None = None) -> list[Finding]:
    """Packages that are missing, or of a version that this package is not made for."""
    from packaging.requirements import Requirement

    findings = []
    for line in (requires(_PACKAGE) or []) if wanted is None else wanted:
        need = Requirement(line)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(need.name)
        except PackageNotFoundError:
            findings.append(Finding(f"package {need.name}", "is not installed", "make setup"))
            continue
        if not need.specifier.contains(found, prereleases=True):
            problem = f"{found} is installed; {need.specifier} is needed"
            findings.append(Finding(f"package {need.name}", problem, "make setup"))
    return findings


def disk_findings(settings: Settings, least_free: int = _LEAST_FREE) -> list[Finding]:
    """Whether there is room for the next evaluation."""
    free = shutil.disk_usage(settings.home).free
    if free >= least_free:
        return []
    problem = f"{free / 1e9:.1f} GB are free on its disk; keep {least_free / 1e9:.1f} GB"
    return [Finding(f"HC_HOME {settings.home}", problem, "free some space, or move HC_HOME")]


def permission_findings(settings: Settings, *, repair: bool) -> list[Finding]:
    """Folders and keys that other accounts of this machine may read."""
    findings = []
    for path, mode in _private(settings):
        if not _open_to_others(path):
            continue
        if repair:
            path.chmod(mode)
        problem = "can be read by other accounts of this machine"
        findings.append(Finding(str(path), problem, f"chmod {mode:o} {path}", repair))
    return findings


def _open_to_others(path: Path) -> bool:
    return bool(path.stat().st_mode & _OTHERS)


def _private(settings: Settings) -> Iterator[tuple[Path, int]]:
    yield settings.home, 0o700
    tables = None if "://" in settings.storage else Path(settings.storage)
    if tables is not None and tables.is_dir() and not tables.is_relative_to(settings.home):
        yield tables, 0o700
    secrets = settings.home / "secrets"
    if secrets.is_dir():
        yield secrets, 0o700
        yield from ((path, 0o600) for path in sorted(secrets.iterdir()))
    if settings.signing_key is not None and settings.signing_key.is_file():
        yield settings.signing_key, 0o600


def secret_findings(settings: Settings) -> list[Finding]:
    """Secrets that are there but cannot be used: the salt and the signing key."""
    findings = []
    if (settings.home / "secrets" / "salt").exists():
        try:
            salt(settings)
        except HcError as error:
            findings.append(Finding("salt", str(error), "restore it from a backup"))
    key = settings.signing_key
    if key is not None and not (key.is_file() and _open_to_others(key)):
        from hc_orchestration.healthcare.signing import SigningKey

        try:
            SigningKey.read(key)
        except HcError as error:
            remedy = f"hc provenance keygen {key}, or mend HC_SIGNING_KEY"
            findings.append(Finding("signing key", str(error), remedy))
    return findings


def secrets_in_settings(path: Path) -> list[Finding]:
    """A password that was written into dagster.yaml in place of the name of a variable."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if not path.is_file():
        return []
    try:
        document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except YAMLError:
        return [Finding("dagster.yaml", "is not YAML", f"mend {path}")]
    named = ", ".join(sorted(_written_secrets(document)))
    if not named:
        return []
    remedy = f"in {path}, write {{env: NAME_OF_A_VARIABLE}} in its place"
    return [Finding("dagster.yaml", f"holds a secret in plain words: {named}", remedy)]


def _written_secrets(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, str) and str(name) in {"password", "secret", "postgres_url"}:
                yield str(name)
            yield from _written_secrets(item)
    if isinstance(value, list):
        for item in value:
            yield from _written_secrets(item)
