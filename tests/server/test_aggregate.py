from __future__ import annotations

import itertools

import numpy as np
import pytest
from flwr.app import MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from protocols.codec import encode_request
from protocols.errors import WorkError
from protocols.messages import HelloRequest
from server.aggregate import WeightedMean

RNG = np.random.default_rng(0)
WEIGHTS = [3_000.0, 1_000.0, 250_000.0, 7_000.0]
UPDATES = [
    {"a": RNG.normal(size=(5, 4)).astype(np.float32), "b": RNG.normal(size=7).astype(np.float32)} for _ in WEIGHTS
]


def mean(updates, weights):
    result = WeightedMean()
    for update, weight in zip(updates, weights, strict=True):
        result.add(update, weight)
    return result.result()


def test_average_equals_that_of_numpy():
    result = mean(UPDATES, WEIGHTS)
    for name in ("a", "b"):
        expected = np.average([u[name].astype(np.float64) for u in UPDATES], axis=0, weights=WEIGHTS)
        assert result[name].dtype == np.float32
        np.testing.assert_allclose(result[name], expected, rtol=1e-6)


def test_average_equals_that_of_flower():
    replies = []
    for update, weight in zip(UPDATES, WEIGHTS, strict=True):
        arrays = encode_request(HelloRequest(), update)["weights"]
        replies.append(RecordDict({"arrays": arrays, "metrics": MetricRecord({"n": weight})}))
    expected = aggregate_arrayrecords(replies, "n")

    result = mean(UPDATES, WEIGHTS)

    for name in ("a", "b"):
        np.testing.assert_allclose(result[name], expected[name].numpy(), rtol=1e-6, atol=1e-6)


def test_order_of_arrival_does_not_change_the_average():
    first = mean(UPDATES, WEIGHTS)
    for order in itertools.permutations(range(4)):
        other = mean([UPDATES[i] for i in order], [WEIGHTS[i] for i in order])
        for name in first:
            np.testing.assert_allclose(other[name], first[name], rtol=0, atol=1e-7)


def test_many_small_updates_are_summed_without_float32_losses():
    one = {"w": np.array([1.0], np.float32)}
    tiny = {"w": np.array([1e-8], np.float32)}
    result = mean([one, *[tiny] * 999], [1.0] * 1_000)
    assert result["w"][0] == pytest.approx((1 + 999e-8) / 1_000, rel=1e-6)
    assert result["w"][0] != np.float32(1 / 1_000)


def test_one_update_is_its_own_average_and_stays_untouched():
    update = {"w": np.array([1.5, -2.0], np.float32)}
    result = mean([update], [123.0])
    assert result["w"].tolist() == [1.5, -2.0]
    result["w"][0] = 9.0
    assert update["w"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weight_that_is_not_positive_and_finite_is_refused(weight):
    average = WeightedMean()
    average.add(UPDATES[0], 2.0)
    with pytest.raises(ValueError, match="not positive and finite"):
        average.add(UPDATES[1], weight)
    np.testing.assert_allclose(average.result()["a"], UPDATES[0]["a"], rtol=1e-6)  # as if it had not been there


def test_update_with_other_arrays_is_refused():
    average = WeightedMean()
    average.add(UPDATES[0], 1.0)
    for other in ({"a": UPDATES[0]["a"]}, {**UPDATES[0], "c": UPDATES[0]["a"]}):
        with pytest.raises(ValueError, match="other arrays"):
            average.add(other, 1.0)


def test_average_of_nothing_is_a_work_error():
    with pytest.raises(WorkError, match="no update to average"):
        WeightedMean().result()
