"""Tracking components in chains of callables, in spaCy, and in a stand-in of HealthChain."""

import gc
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc

from hc_orchestration.errors import TrackingError
from hc_orchestration.tracking.components import (
    MLFlowComponent,
    MLFlowEndRunComponent,
    MLFlowStartRunComponent,
)
from hc_orchestration.tracking.open_runs import runs_here
from hc_orchestration.tracking.tracker import MLFlowTracker
from hc_orchestration_tests.tracking.test_tracker import Store, set_up_store


@pytest.fixture
def store(tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return set_up_store(tmp_path, empty_mlflow, monkeypatch)


class Annotations:
    """Stands for HealthChain's `document.nlp`."""

    def __init__(self, text: str) -> None:
        self._words = text.split()

    def get_tokens(self) -> list[str]:
        return self._words

    def get_entities(self) -> list[dict[str, Any]]:
        return [{"text": w, "label": "DISEASE"} for w in self._words if w in {"asthma", "gout"}]


@dataclass
class Problems:
    """Stands for HealthChain's `document.fhir`."""

    problem_list: list[str] = field(default_factory=list)


class Document:
    """Stands for HealthChain's Document."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.nlp = Annotations(text)
        self.fhir = Problems([word for word in text.split() if word == "asthma"])


class Pipeline:
    """Stands for HealthChain's Pipeline: nodes in the order of their adding, first and last."""

    def __init__(self) -> None:
        self._nodes: list[tuple[int, str | None, Callable[[Any], Any]]] = []

    def add_node(
        self, component: Callable[[Any], Any], stage: str | None = None, position: str | None = None
    ) -> None:
        rank = {"first": 0, None: 1, "last": 2}[position]
        self._nodes.append((rank, stage, component))

    def build(self) -> Callable[[Any], Any]:
        nodes = [node for _, _, node in sorted(self._nodes, key=lambda node: node[0])]

        def run(data: Any) -> Any:
            for node in nodes:
                data = node(data)
            return data

        return run


def pipeline(*nodes: Callable[[Any], Any]) -> Callable[[Any], Any]:
    made = Pipeline()
    for node in nodes:
        made.add_node(node)
    return made.build()


def with_lifecycle(tracker: MLFlowTracker, *nodes: Callable[[Any], Any]) -> Callable[[Any], Any]:
    made = Pipeline()
    made.add_node(MLFlowEndRunComponent(tracker), position="last")
    for node in nodes:
        made.add_node(node, stage="middle")
    made.add_node(MLFlowStartRunComponent(tracker, "batch", {"stage": "x"}), position="first")
    return made.build()


def same(data: Any) -> Any:
    return data


def failing(data: Any) -> Any:
    if "bad" in getattr(data, "text", data):
        raise ValueError(*["not this one"])
    return data


# Metrics


def test_counts_of_a_document_go_into_the_current_run_step_by_step(store: Store) -> None:
    tracker = store.tracker()
    nlp = pipeline(MLFlowComponent(tracker, prefix="ner"))
    document = Document("asthma and gout")
    with tracker.start_run():
        assert nlp(document) is document
        nlp(Document("well"))

    run = store.run()
    assert store.points(run, "ner.call_count") == [(1, 1), (2, 2)]
    assert store.points(run, "ner.token_count") == [(1, 3), (2, 1)]
    assert store.points(run, "ner.entity_count") == [(1, 2), (2, 0)]
    assert store.points(run, "ner.condition_count") == [(1, 1), (2, 0)]
    (_, one), (_, two) = store.points(run, "ner.elapsed_seconds")
    assert 0 <= one <= two
    assert len(run.data.metrics) == 5


def test_a_second_run_counts_from_one_again(store: Store) -> None:
    tracker = store.tracker()
    component = MLFlowComponent(tracker)
    for name in ("a", "b"):
        with tracker.start_run(name):
            component("text")
            component("text")

    assert [store.points(run, "pipeline.call_count") for run in store.runs()] == [
        [(1, 1), (2, 2)],
        [(1, 1), (2, 2)],
    ]


def test_what_the_data_does_not_have_is_not_zero(store: Store) -> None:
    tracker = store.tracker()
    with tracker.start_run():
        MLFlowComponent(tracker)("text")
        MLFlowComponent(tracker, False, False, prefix="bare")(Document("gout"))  # noqa: FBT003

    assert store.run().data.metrics.keys() == {
        "pipeline.call_count",
        "pipeline.elapsed_seconds",
        "bare.call_count",
    }


def test_a_reset_counts_anew_in_the_same_run(store: Store) -> None:
    tracker = store.tracker()
    component = MLFlowComponent(tracker, track_timing=False)
    with tracker.start_run():
        component("text")
        component.reset()
        component("text")
    points = store.points(store.run(), "pipeline.call_count")
    assert set(points) == {(1, 1)}  # MLflow keeps one point or two, as the milliseconds fall


def test_params_of_the_pipeline_get_the_prefix(store: Store) -> None:
    tracker = store.tracker()
    component = MLFlowComponent(tracker, prefix="ner")
    with pytest.raises(TrackingError, match="no run"):
        component.log_pipeline_params({"model": "x"})
    with tracker.start_run():
        component.log_pipeline_params({"model": "x"})
    assert store.run().data.params == {"ner.model": "x"}


def test_without_a_run_a_component_does_nothing(store: Store) -> None:
    tracker = store.tracker()
    assert pipeline(MLFlowComponent(tracker), MLFlowEndRunComponent(tracker))("text") == "text"
    assert store.runs() == []


def test_extractors_that_raise_are_named_once_and_the_others_logged(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(document: Document) -> float:
        raise ValueError(document.text)

    tracker = store.tracker()
    component = MLFlowComponent(
        tracker,
        track_timing=False,
        metric_extractors={
            "broken": broken,
            "length": lambda document: len(document.text),
            "nothing": lambda _: None,
            "no_number": lambda document: document.text,
            "condition_count": lambda _: 7,
        },
    )
    with tracker.start_run():
        component(Document("asthma"))
        component(Document("gout"))

    run = store.run()
    assert store.points(run, "pipeline.length") == [(1, 6), (2, 4)]
    assert run.data.metrics["pipeline.condition_count"] == 7
    assert not {"pipeline.broken", "pipeline.nothing", "pipeline.no_number"} & set(run.data.metrics)
    assert [record.getMessage() for record in caplog.records] == [
        "metric extractor broken raised ValueError; its metric is missing",
        "metric extractor no_number raised ValueError; its metric is missing",
    ]


def test_components_are_pickled_for_worker_processes(store: Store) -> None:
    tracker = store.tracker()
    tracker.get_experiment_id()
    parts = [
        MLFlowComponent(tracker),
        MLFlowStartRunComponent(tracker, "r"),
        MLFlowEndRunComponent(tracker),
    ]
    copies = pickle.loads(pickle.dumps(parts))  # noqa: S301 - our own
    for text in ("one", "two"):
        copies[2](copies[0](copies[1](text)))
    assert [run.data.metrics["pipeline.call_count"] for run in store.runs()] == [1, 1]


# A run for each document


@pytest.mark.parametrize("make", [str, Document], ids=["text", "document"])
def test_each_document_is_a_complete_run(store: Store, make: Callable[[str], Any]) -> None:
    tracker = store.tracker()
    seen: list[str | None] = []

    def own_metric(data: Any) -> Any:
        tracker.log_metric("own", 1)
        seen.append(tracker.get_run_id())
        return data

    nlp = with_lifecycle(tracker, own_metric, MLFlowComponent(tracker, prefix="ner"))
    with tracker.start_run("all") as parent:
        for text in ("gout", "asthma", "well"):
            nlp(make(text))
        parent.log_metric("still", 1)
        assert runs_here() == (parent,)

    first, *batches = store.runs()
    assert first.data.metrics == {"still": 1.0}
    assert [run.info.run_id for run in batches if run.info.run_id in seen] == [
        run.info.run_id for run in batches
    ]
    assert len(batches) == 3
    for run in batches:
        assert (run.info.run_name, run.info.status) == ("batch", "FINISHED")
        assert run.data.tags["stage"] == "x"
        assert run.data.tags["mlflow.parentRunId"] == parent.run_id
        assert store.points(run, "ner.call_count") == [(1, 1)]
        assert run.data.metrics["own"] == 1


def test_a_component_in_between_may_replace_the_data(store: Store) -> None:
    """The first object is gone before the end, which is not the end of its run."""
    tracker = store.tracker()
    nlp = with_lifecycle(
        tracker, lambda old: Document(old.text), MLFlowComponent(tracker), lambda old: old.text
    )
    assert nlp(Document("gout")) == "gout"
    gc.collect()

    run = store.run()
    assert (run.info.status, run.data.metrics["pipeline.entity_count"]) == ("FINISHED", 1)


def test_a_pipeline_in_a_pipeline_has_runs_of_its_own(store: Store) -> None:
    tracker = store.tracker()
    inner = with_lifecycle(tracker, MLFlowComponent(tracker, prefix="inner"))
    outer = with_lifecycle(tracker, inner, MLFlowComponent(tracker, prefix="outer"))
    outer(Document("gout"))
    outer("gout")

    runs = store.runs()
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    by_prefix = {
        prefix: [run for run in runs if f"{prefix}.call_count" in run.data.metrics]
        for prefix in ("inner", "outer")
    }
    parents = {run.data.tags.get("mlflow.parentRunId") for run in by_prefix["inner"]}
    assert parents == {run.info.run_id for run in by_prefix["outer"]}


@pytest.mark.parametrize("make", [str, Document], ids=["text", "document"])
def test_a_run_left_open_is_abandoned_when_the_next_one_starts(
    store: Store, make: Callable[[str], Any]
) -> None:
    nlp = with_lifecycle(store.tracker(), failing)
    bad, good = make("bad"), make("good")
    with pytest.raises(ValueError, match="not this one"):
        nlp(bad)
    assert store.run().info.status == "RUNNING"
    nlp(good)

    by_status = {run.info.status: run for run in store.runs()}
    assert by_status.keys() == {"FAILED", "FINISHED"}
    assert by_status["FAILED"].data.tags["error.class"] == "Abandoned"
    assert "mlflow.parentRunId" not in by_status["FINISHED"].data.tags
    assert runs_here() == ()


def attempt(nlp: Callable[[str], Any], text: str) -> None:
    try:
        nlp(text)
    except ValueError:
        return


def test_a_run_left_open_is_abandoned_when_its_document_is_no_more(store: Store) -> None:
    nlp = with_lifecycle(store.tracker(), failing)
    attempt(lambda text: nlp(Document(text)), "bad")
    gc.collect()

    assert store.run().info.status == "FAILED"
    assert store.run().data.tags["error.class"] == "Abandoned"
    assert runs_here() == ()


# spaCy


def rule_pipeline() -> Language:
    nlp = spacy.blank("en")
    ruler: Any = nlp.add_pipe("entity_ruler")
    ruler.add_patterns(
        [
            {"label": "DISEASE", "pattern": "asthma"},
            {"label": "DISEASE", "pattern": "gout"},
        ]
    )
    return nlp


def spacy_with_lifecycle(store: Store) -> Language:
    where = {"tracking_uri": store.uri, "experiment_name": "e"}
    nlp = rule_pipeline()
    nlp.add_pipe("mlflow_start_run", first=True, config={**where, "run_name": "doc"})
    nlp.add_pipe("mlflow_component", config={**where, "prefix": "ner"})
    nlp.add_pipe("mlflow_end_run", last=True, config=where)
    return nlp


class InBatches:
    """A component of spaCy that holds documents back, as statistical ones do."""

    def __call__(self, doc: Doc) -> Doc:
        return doc

    def pipe(self, docs: Any, batch_size: int = 10) -> Any:
        for batch in spacy.util.minibatch(docs, batch_size):
            yield from batch


Language.component("hc_test_in_batches", func=same)
Language.factory("hc_test_batches", func=lambda nlp, name: InBatches())  # noqa: ARG005

TEXTS = ["asthma and gout", "gout", "well now", "asthma", "gout or asthma or gout"]
ENTITIES = [2, 1, 0, 1, 3]


def counts(store: Store) -> list[tuple[str, float, float]]:
    return sorted(
        (run.info.status, run.data.metrics["ner.call_count"], run.data.metrics["ner.entity_count"])
        for run in store.runs()
    )


@pytest.mark.parametrize("way", ["call", "pipe"])
def test_each_doc_of_spacy_is_a_complete_run(store: Store, way: str) -> None:
    nlp = spacy_with_lifecycle(store)
    nlp.add_pipe("hc_test_batches", after="mlflow_start_run")
    docs = list(nlp.pipe(TEXTS, batch_size=2)) if way == "pipe" else [nlp(t) for t in TEXTS]

    assert [len(doc.ents) for doc in docs] == ENTITIES
    assert [doc.user_data for doc in docs] == [{}] * 5
    assert counts(store) == [("FINISHED", 1, n) for n in sorted(ENTITIES)]
    assert runs_here() == ()


def test_docs_of_spacy_go_into_the_current_run_of_the_experiment(store: Store) -> None:
    nlp = rule_pipeline()
    nlp.add_pipe("mlflow_component", config={"tracking_uri": store.uri, "experiment_name": "e"})
    with store.tracker().start_run():
        for _ in nlp.pipe(TEXTS):
            pass

    points = store.points(store.run(), "pipeline.entity_count")
    assert points == list(enumerate(ENTITIES, start=1))
    assert store.points(store.run(), "pipeline.token_count")[0] == (1, 3)


def test_extractors_are_named_in_the_configuration(store: Store, tmp_path: Path) -> None:
    @spacy.registry.misc("hc_test.longest.v1")
    def make_longest() -> Callable[[Doc], float]:
        return lambda doc: max(len(token) for token in doc)

    extractors = {"longest": {"@misc": "hc_test.longest.v1"}}
    where = {"tracking_uri": store.uri, "experiment_name": "e"}
    nlp = spacy.blank("en")
    nlp.add_pipe("mlflow_start_run", config=where)
    nlp.add_pipe(
        "mlflow_component", config={**where, "prefix": "ner", "metric_extractors": extractors}
    )
    nlp.add_pipe("mlflow_end_run", config=where)
    nlp.to_disk(tmp_path / "saved")
    spacy.load(tmp_path / "saved")("gout or asthma")

    assert store.run().data.metrics["ner.longest"] == 6


def test_a_doc_that_fails_in_spacy_is_abandoned_and_the_others_are_not(store: Store) -> None:
    nlp = spacy_with_lifecycle(store)
    Language.component("hc_test_failing", func=failing)
    nlp.add_pipe("hc_test_failing", after="mlflow_start_run")
    skipped: list[str] = []

    def skip(_name: str, _part: Any, docs: Sequence[Doc], error: Exception) -> None:
        skipped.append(type(error).__name__)
        assert len(docs) == 1

    nlp.set_error_handler(skip)
    done = [doc.text for doc in nlp.pipe(["gout", "bad", "asthma"])]
    gc.collect()

    assert (done, skipped) == (["gout", "asthma"], ["ValueError"])
    statuses = [run.info.status for run in store.runs()]
    assert sorted(statuses) == ["FAILED", "FINISHED", "FINISHED"]


def test_a_doc_that_raises_is_abandoned_when_it_is_gone(store: Store) -> None:
    nlp = spacy_with_lifecycle(store)
    Language.component("hc_test_failing", func=failing)
    nlp.add_pipe("hc_test_failing", after="mlflow_start_run")
    attempt(nlp, "bad")
    gc.collect()

    assert store.run().info.status == "FAILED"
    assert store.run().data.tags["error.class"] == "Abandoned"


def test_a_doc_with_an_open_run_can_still_be_saved(store: Store) -> None:
    nlp = rule_pipeline()
    start, end = MLFlowStartRunComponent(store.tracker()), MLFlowEndRunComponent(store.tracker())
    doc = start(nlp("gout"))
    copy = Doc(nlp.vocab).from_bytes(doc.to_bytes())
    assert copy.text == "gout"
    end(doc)
    assert store.run().info.status == "FINISHED"
