"""Everything that one deployment has, opened when it is first used: files, tables, records."""

from collections.abc import Sequence
from functools import cached_property

from hc_orchestration.corpora.ingest import Ingestion
from hc_orchestration.corpora.pseudonyms import Pseudonyms
from hc_orchestration.corpora.sources import CorpusSource
from hc_orchestration.home import salt
from hc_orchestration.models.catalogue import Catalogue, load_catalogue
from hc_orchestration.settings import Settings
from hc_orchestration.storage.comparisons import ComparisonTable
from hc_orchestration.storage.corpus import CorpusTables
from hc_orchestration.storage.delta import DeltaStore, delta_store
from hc_orchestration.storage.entities import EntityTables
from hc_orchestration.storage.files import FileStore
from hc_orchestration.storage.materializations import Materializations
from hc_orchestration.storage.metrics import MetricTables
from hc_orchestration.storage.model_files import ModelFileTables
from hc_orchestration.storage.promotions import PromotionTable
from hc_orchestration.storage.purges import PurgeTable
from hc_orchestration.storage.records import Records
from hc_orchestration.study import Study, load_study


class Workspace:
    """The study, the catalogue and the stores that the settings point to."""

    def __init__(self, settings: Settings) -> None:
        """Open nothing yet."""
        self.settings = settings

    @cached_property
    def study(self) -> Study:
        """The study file as it is now."""
        return load_study(self.settings.study)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The model catalogue as it is now."""
        return load_catalogue(self.settings.catalogue)

    def new_ingestion(self, sources: Sequence[CorpusSource] | None = None) -> Ingestion:
        """A pass over the study's corpora, or over other `sources`, as the study says to read them.

        Raises:
            ConfigurationError: The study asks for pseudonyms and the salt cannot be read or made.
        """
        study = self.study
        pseudonyms = self.pseudonyms if study.privacy.pseudonymize_note_ids else None
        read = study.corpora if sources is None else sources
        return Ingestion(read, study.labels, pseudonyms, self._salted, self._purged)

    def _salted(self) -> Pseudonyms:
        return self.pseudonyms

    def _purged(self, note_id: str) -> bool:
        digests = self._purged_notes
        return bool(digests) and self.pseudonyms.of_purged(note_id) in digests

    @cached_property
    def _purged_notes(self) -> frozenset[str]:
        return frozenset(digest for purge in self.purges.all() for digest in purge.notes)

    @cached_property
    def pseudonyms(self) -> Pseudonyms:
        """Digests with the salt of this deployment, which is made when it is first needed."""
        return Pseudonyms(salt(self.settings))

    @cached_property
    def delta(self) -> DeltaStore:
        """The tables as they lie."""
        return delta_store(self.settings.storage, self.settings.locks)

    @cached_property
    def corpus(self) -> CorpusTables:
        """Notes, quarantine, corpus versions."""
        return CorpusTables(self.delta)

    @cached_property
    def entities(self) -> EntityTables:
        """What models found."""
        return EntityTables(self.delta, self.corpus)

    @cached_property
    def model_files(self) -> ModelFileTables:
        """Which files models consist of."""
        return ModelFileTables(self.delta)

    @cached_property
    def metrics(self) -> MetricTables:
        """Scores and note-level counts."""
        return MetricTables(self.delta)

    @cached_property
    def comparisons(self) -> ComparisonTable:
        """Stored comparisons."""
        return ComparisonTable(self.delta)

    @cached_property
    def promotions(self) -> PromotionTable:
        """Who the champion is, and was."""
        return PromotionTable(self.delta)

    @cached_property
    def purges(self) -> PurgeTable:
        """What was deleted on purpose."""
        return PurgeTable(self.delta)

    @cached_property
    def records(self) -> Records:
        """Evaluation records."""
        return Records(self.delta)

    @cached_property
    def materializations(self) -> Materializations:
        """Records of corpora and comparisons."""
        return Materializations(self.delta)

    @cached_property
    def files(self) -> FileStore:
        """Files by digest."""
        return FileStore(self.settings.storage)
