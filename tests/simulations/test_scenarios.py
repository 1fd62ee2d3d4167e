"""Every scenario is complete: its model can be built, its map is there, its arms are the ones it promises."""

from __future__ import annotations

import pytest

from modeling.sizes import SIZES
from protocols.errors import UsageError
from protocols.messages import TrainRequest
from simulations.assignment import SiteMap
from simulations.scenarios import SCENARIOS, Scenario, scenario

ALL = list(SCENARIOS.values())


@pytest.mark.parametrize("chosen", ALL, ids=list(SCENARIOS))
def test_a_scenario_fits_its_model_and_the_wire(chosen: Scenario) -> None:
    assert scenario(chosen.name) is chosen
    assert chosen.summary.endswith((".", "?"))
    assert chosen.recipe.row_length <= SIZES[chosen.size].context
    assert chosen.recipe.warmup_steps < chosen.rounds * chosen.recipe.steps
    for arm in chosen.arms:
        TrainRequest(study=chosen.name, round=1, rounds=chosen.rounds, corpus=arm.corpus, recipe=chosen.recipe)


@pytest.mark.parametrize("chosen", ALL, ids=list(SCENARIOS))
def test_a_scenario_names_no_arm_twice_and_has_a_federated_one(chosen: Scenario) -> None:
    assert len(set(chosen.arms)) == len(chosen.arms)
    assert "federated" in {arm.trainer for arm in chosen.arms}


def test_the_paper_compares_every_trainer_on_every_corpus() -> None:
    arms = {(arm.trainer, arm.corpus) for arm in scenario("paper").arms}
    corpora = ("real", "synthetic", "real+synthetic", "real-repeated")
    assert arms == {(trainer, corpus) for trainer in ("site", "federated", "pooled") for corpus in corpora}


def test_the_map_of_five_hospitals_gives_each_label_to_one_of_them() -> None:
    name = scenario("five-hospitals").site_map
    assert name is not None
    site_map = SiteMap.load(name)
    assert len(site_map.hospitals) == 5
    labels = [label for labels in site_map.hospitals.values() for label in labels]
    assert len(labels) == len(set(labels))
    held_out = {label for labels in site_map.hold_out.values() for label in labels}
    assert held_out and not held_out & set(labels)


def test_an_unknown_scenario_is_wrong_usage_and_the_known_ones_are_named() -> None:
    with pytest.raises(UsageError) as caught:
        scenario("moon")
    assert caught.value.exit_status == 2
    assert all(name in str(caught.value) for name in SCENARIOS)


def test_an_unknown_map_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="site map"):
        SiteMap.load("nowhere")
