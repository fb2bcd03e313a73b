"""A corpus and a team's model in a folder, and a program that extracts from them."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from hc_orchestration.corpora.ingest import Ingestion
from hc_orchestration.corpora.sources import CorpusSource
from hc_orchestration.extraction.corpus import ExtractionOutcome, extract_corpus
from hc_orchestration.models.catalogue import load_catalogue
from hc_orchestration.models.store import InstalledModel, installed_model
from hc_orchestration.storage.corpus import CorpusTables
from hc_orchestration.storage.delta import DeltaStore
from hc_orchestration.storage.entities import EntityTables
from hc_orchestration.study import ExtractionSettings

LONG_WORDS = """\
import re, time

WORD = re.compile(r"[A-Za-z]{8,}")

class LongWords:
    def __init__(self, options):
        self.pause = options.get("pause", 0.0)

    def extract(self, texts):
        return [self.words(text) for text in texts]

    def words(self, text):
        time.sleep(self.pause)
        return [(m.start(), m.end(), m[0][0].upper()) for m in WORD.finditer(text)]
"""


class Deployment:
    """Notes by id, and one team model `words-1`, whose module and options may be given."""

    key = "words-1"

    def __init__(self, folder: Path) -> None:
        """Use what is in the folder."""
        self.folder = folder
        store = DeltaStore(str(folder / "tables"), folder / "locks")
        self.corpus = CorpusTables(store)
        self.entities = EntityTables(store, self.corpus)

    def store(self, notes: Mapping[str, str]) -> int:
        """Put the notes into the notes table; returns its version."""
        lines = [json.dumps({"note_id": name, "text": text}) for name, text in notes.items()]
        file = self.folder / "notes.jsonl"
        file.write_text("\n".join(lines), encoding="utf-8")
        source = CorpusSource(name="ehr", path=str(file), format="jsonl")
        return self.corpus.ingest(lambda: Ingestion([source], ["A"])).version

    def model(self, module: str = LONG_WORDS, **options: float) -> InstalledModel:
        """The model, its module as given."""
        (self.folder / "words.py").write_text(module, encoding="utf-8")
        entry = {"name": "words", "version": "1", "loader": "words:LongWords", "options": options}
        (self.folder / "models.yaml").write_text(json.dumps({"models": [entry]}), encoding="utf-8")
        return self.installed()

    def installed(self) -> InstalledModel:
        """The model as it was written."""
        catalogue = load_catalogue(self.folder / "models.yaml")
        return installed_model(catalogue.entry(self.key), self.folder / "models")

    def extract(
        self, model: InstalledModel, processes: int | str, **settings: str | None
    ) -> ExtractionOutcome:
        """Extract what is missing, by the local engine if not told otherwise."""
        told = {"processes": processes, **settings}
        version = self.corpus.required().version
        return extract_corpus(
            model,
            version,
            self.entities,
            self.folder / "locks",
            ExtractionSettings.model_validate(told),
        )

    def rows(self, model: InstalledModel) -> pl.DataFrame:
        """Every row of the model, however often it stands there."""
        version = self.corpus.required().version
        rows = self.entities.of_corpus(self.key, model.fingerprint, version, None)
        return rows.sort("note_id").collect()


if __name__ == "__main__":
    from hc_orchestration.extraction import commits

    commits._SHORTEST_S = 0.1  # so that even a short life leaves something behind
    deployment = Deployment(Path(sys.argv[1]))
    told_engine = (sys.argv[3:] or ["local"])[0]
    deployment.extract(deployment.installed(), int(sys.argv[2]), engine=told_engine)
