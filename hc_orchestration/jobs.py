"""The jobs.

Corpus and comparison stand by themselves: in one job with a model's chain they would run once for
each model.
"""

import dagster as dg

REFRESH_CORPUS = "refresh_corpus"
EVALUATE_MODEL = "evaluate_model"
COMPARE_MODELS = "compare_models"

refresh_corpus = dg.define_asset_job(
    REFRESH_CORPUS,
    selection=dg.AssetSelection.assets("notes_corpus"),
    description="Read the study's sources into the notes table.",
)
evaluate_model = dg.define_asset_job(
    EVALUATE_MODEL,
    selection=dg.AssetSelection.groups("evaluation"),
    description="Evaluate one model on the stored corpus: files, entities, metrics, Provenance.",
)
compare_models = dg.define_asset_job(
    COMPARE_MODELS,
    selection=dg.AssetSelection.assets("model_comparison"),
    description="Rank every model's evaluation of the stored corpus.",
)
JOBS = (refresh_corpus, evaluate_model, compare_models)
