from __future__ import annotations

import pytest

from everbell.testing.sim.__main__ import main
from everbell.testing.sim.scenario import draw, simulate

SEEDS, GROUP = 200, 20


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, SEEDS + 1, GROUP))
def test_all_promises_hold_in_simulated_clusters(first):
    broken = {}
    for seed in range(first, first + GROUP):
        result = simulate(draw(seed, minutes=1.5))
        if result.violations:
            broken[f"make sim SEED={seed} ARGS='--minutes 1.5'"] = result.violations[:5]
    assert not broken


@pytest.mark.parametrize("seed", [2, 6, 9])
def test_the_same_seed_is_the_same_history(seed):
    digests = {simulate(draw(seed, minutes=1)).history.digest() for _ in range(2)}
    assert len(digests) == 1


def test_both_stores_tell_the_same_story():
    """The store is below chance and time: which one it is must not change what happens."""
    stories = [simulate(draw(5, store=store, minutes=1)) for store in ("memory", "sqlite")]
    assert stories[0].history.digest() == stories[1].history.digest()


def test_another_seed_is_another_history():
    one, two = (simulate(draw(seed, minutes=0.5)).history.digest() for seed in (1, 2))
    assert one != two


def test_the_command_prints_the_verdict_and_how_to_repeat_it(capsys):
    assert main(["--seed", "7", "--minutes", "0.5"]) == 0
    shown = capsys.readouterr().out
    assert "all promises kept" in shown
    assert "make sim SEED=7" in shown
    assert main(["--seeds", "1-2", "--minutes", "0.2"]) == 0
    assert "2 seeds, 0 with violations" in capsys.readouterr().out
