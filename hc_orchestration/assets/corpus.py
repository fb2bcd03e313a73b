"""notes_corpus: the notes of the study, in a job of its own because it has no partitions."""

import dagster as dg

from hc_orchestration.assets.columns import NOTES, table_metadata
from hc_orchestration.resources.withholding import words_withheld
from hc_orchestration.resources.workspace import WorkspaceResource

OWNERS = ["team:clinical-nlp"]


@dg.asset(
    group_name="corpus",
    metadata=table_metadata("notes", NOTES),
    kinds={"deltalake", "polars"},
    owners=OWNERS,
    code_version="1",
    description=(
        "One row per note, with gold spans where the source has them. "
        "Records that cannot be used are in quarantine with a reason, never silently left out."
    ),
)
def notes_corpus(workspace: WorkspaceResource) -> dg.MaterializeResult[None]:
    """Read the study's sources; an unchanged corpus makes no new table version."""
    from hc_orchestration.reporting.metadata import corpus_metadata

    with words_withheld():
        opened = workspace.open()
        corpus = opened.corpus.ingest(opened.new_ingestion)
    return dg.MaterializeResult(
        metadata=corpus_metadata(corpus), data_version=dg.DataVersion(corpus.digest)
    )
