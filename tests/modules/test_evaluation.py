"""Scoring without anything that trains."""

import pytest
import torch

from fna_lightning.modules import EvaluationModule
from fna_lightning.tasks import AccuracyMetric, ClassificationTask


def test_scores_are_those_of_the_predictions(adaptation):
    network, data = adaptation.train().network, adaptation.data()
    module = EvaluationModule(network, ClassificationTask())
    adaptation.trainer().validate(module, data, verbose=False)
    hits = []
    with torch.no_grad():
        for batch in data.val_dataloader():
            hits += (network.eval()(batch.images).argmax(dim=1) == batch.labels).tolist()
    assert len(hits) == 8
    assert module.scores == {"accuracy": pytest.approx(sum(hits) / 8)}
    assert module.progress == {"accuracy": module.scores["accuracy"]}


def test_a_module_that_trains_scores_alike_before_its_first_step(adaptation):
    scores = []
    for module in (adaptation.train(), EvaluationModule(adaptation.train().network, ClassificationTask())):
        adaptation.trainer().validate(module, adaptation.data(), verbose=False)
        scores.append(module.scores)
    assert scores[0] == scores[1]
    assert set(scores[0]) == {"accuracy"}


def test_nothing_but_the_network_is_kept(adaptation):
    network = adaptation.train().network
    module = EvaluationModule(network, ClassificationTask())
    assert list(module.state_dict()) == [f"network.{name}" for name in network.state_dict()]


def test_tasks_without_classes_of_their_own_add_no_scores_and_no_file(tmp_path):
    metric = AccuracyMetric(3)
    (tmp_path / "run").mkdir()
    metric.save_results(tmp_path / "run")
    assert metric.class_scores() == {}
    assert list((tmp_path / "run").iterdir()) == []
