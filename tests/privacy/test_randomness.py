from __future__ import annotations

import ast
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from tests_support import REPOSITORY, source_files

from privacy.randomness import SecureRandom


def test_normal_deviates_are_normal():
    deviates = SecureRandom.from_system().normal(200_001)
    assert deviates.shape == (200_001,)
    assert stats.kstest(deviates, "norm").pvalue > 1e-6
    assert abs(np.corrcoef(deviates[:-1], deviates[1:])[0, 1]) < 0.02


def test_uniform_numbers_never_are_zero_and_fill_the_interval():
    numbers = SecureRandom.from_system().uniform(200_000)
    assert 0 < numbers.min() < 1e-3
    assert 0.999 < numbers.max() <= 1
    assert stats.kstest(numbers, "uniform").pvalue > 1e-6


def test_stream_goes_on_and_never_repeats():
    random = SecureRandom.from_system()
    first, second = random.normal(1_000), random.normal(1_000)
    assert not np.intersect1d(first, second).size


def test_large_draws_are_as_good_as_small_ones():
    key = bytes(range(32))
    whole = SecureRandom(key).normal(2**20 + 10)
    assert not np.intersect1d(whole[: 2**20], whole[2**20 :]).size  # the second block goes on with the stream
    assert np.array_equal(SecureRandom(key).normal(2**20 + 10), whole)


def test_two_processes_with_the_same_experiment_seed_draw_different_noise():
    program = (
        "import random, numpy, torch\n"
        "random.seed(0); numpy.random.seed(0); torch.manual_seed(0)\n"
        "from privacy.randomness import SecureRandom\n"
        "print(SecureRandom.from_system().normal(3).tolist())\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(printed) == 2


@pytest.mark.parametrize("size", [0, 1, 2])
def test_small_draws(size):
    assert SecureRandom.from_system().normal(size).shape == (size,)


def test_no_module_gives_a_key_of_its_own():
    """A key that the program knows is a seed. Only ``from_system`` may make a stream in code that ships."""
    for path in source_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            assert not (isinstance(called, ast.Name) and called.id == "SecureRandom"), path
