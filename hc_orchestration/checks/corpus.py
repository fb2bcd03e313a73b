"""Integrity of the notes table."""

import dagster as dg

from hc_orchestration.assets.corpus import notes_corpus
from hc_orchestration.resources.withholding import words_withheld
from hc_orchestration.resources.workspace import WorkspaceResource


@dg.asset_check(asset=notes_corpus, blocking=True, description="The corpus holds notes.")
def corpus_not_empty(workspace: WorkspaceResource) -> dg.AssetCheckResult:
    """Fail when nothing was stored."""
    with words_withheld():
        corpus = workspace.open().corpus.required()
    return dg.AssetCheckResult(
        passed=corpus.notes > 0,
        description=f"{corpus.notes} notes stored, {corpus.counts['quarantined']} in quarantine",
        metadata={"notes": corpus.notes, "quarantined": corpus.counts["quarantined"]},
    )


@dg.asset_check(asset=notes_corpus, blocking=True, description="No id stands for two notes.")
def note_ids_unique(workspace: WorkspaceResource) -> dg.AssetCheckResult:
    """Fail when the stored table repeats an id."""
    from hc_orchestration.storage.integrity import repeated_ids

    with words_withheld():
        opened = workspace.open()
        repeated = repeated_ids(opened.corpus.notes(opened.corpus.required().version))
    return dg.AssetCheckResult(
        passed=repeated == 0,
        description=f"{repeated} ids stand more than once",
        metadata={"repeated": repeated},
    )


@dg.asset_check(asset=notes_corpus, blocking=True, description="Every gold span lies in its note.")
def gold_offsets_valid(workspace: WorkspaceResource) -> dg.AssetCheckResult:
    """Fail when a gold span is empty, reversed, or reaches over the end of its note."""
    from hc_orchestration.storage.integrity import misplaced_spans

    with words_withheld():
        opened = workspace.open()
        notes = opened.corpus.notes(opened.corpus.required().version)
        misplaced = misplaced_spans(notes, "gold")
    return dg.AssetCheckResult(
        passed=misplaced == 0,
        description=f"{misplaced} gold spans do not lie in their note",
        metadata={"misplaced": misplaced},
    )


@dg.asset_check(
    asset=notes_corpus,
    blocking=True,
    description="No larger part of the records than the study allows is in quarantine.",
)
def quarantine_share_allowed(workspace: WorkspaceResource) -> dg.AssetCheckResult:
    """Fail above the study's `quarantine: {maximum_share: …}`."""
    with words_withheld():
        opened = workspace.open()
        corpus = opened.corpus.required()
        allowed = opened.study.quarantine.maximum_share
    share = corpus.quarantine_share
    limit = "the study sets no limit" if allowed is None else f"{allowed:.2%} allowed"
    return dg.AssetCheckResult(
        passed=allowed is None or share is None or share <= allowed,
        description=f"{'nothing read' if share is None else f'{share:.2%} in quarantine'}, {limit}",
        metadata={
            "quarantined": corpus.counts["quarantined"],
            "read": corpus.counts["read"],
            "reasons": dg.MetadataValue.json(corpus.counts["reasons"]),
        },
    )


CORPUS_CHECKS = (corpus_not_empty, note_ids_unique, gold_offsets_valid, quarantine_share_allowed)
