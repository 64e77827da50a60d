"""Figures agree with hand counts, with scipy's loops and with planted answers; their intervals cover what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from ddm_framework.online.perturbations import leave_one_out
from ddm_framework.truth.agreement import (
    Agreement,
    agreement_interval,
    bootstrap_interval,
    cluster_lds,
    cluster_lds_interval,
    displacement_cosine,
    empirical_error_agreement,
    judge,
    leave_one_out_spearman,
    recovered_share,
    recovered_share_interval,
    sampled_spearman_interval,
    top_overlap,
)

TRUTH = torch.tensor([[0.0, 1.0, 5.0, 2.0], [4.0, 0.0, 0.0, 0.0], [1.0, 3.0, 3.0, 1.0]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def masks(num_networks: int, num_clusters: int, deleted: int, seed: int = 0) -> Tensor:
    """Rows that delete so many clusters each."""
    order = torch.rand(num_networks, num_clusters, generator=seeded(seed)).argsort(1)
    return torch.ones(num_networks, num_clusters).scatter(1, order[:, :deleted], 0)


def additive(effect: Tensor, perturbations: Tensor) -> Tensor:
    """Behaviours (R, N) of networks in which effects add up, from a target's behaviour of 7."""
    return 7 + (1 - perturbations.double()) @ effect.T


def test_chosen_clusters_lie_between_floor_and_ceiling() -> None:
    judged = judge(TRUTH, torch.tensor([3, 0, 2]))
    assert judged.chosen.tolist() == [2, 4, 3]
    assert judged.random.tolist() == [2, 1, 2]
    assert judged.oracle.tolist() == [5, 4, 3]
    assert recovered_share(judged) == pytest.approx((3 - 5 / 3) / (4 - 5 / 3))


def test_rank_counts_the_clusters_strictly_above() -> None:
    judged = judge(TRUTH, torch.tensor([3, 2, 1]))
    assert judged.rank.tolist() == [2, 2, 1]
    assert judged.random_rank.tolist() == [2.5, 1.75, 2]
    assert judge(TRUTH, TRUTH.argmax(1)).rank.tolist() == [1, 1, 1]


def test_share_is_a_ratio_of_means_and_not_a_mean_of_ratios() -> None:
    truth = torch.tensor([[0.0, 100.0], [0.0, 0.01]])
    assert recovered_share(judge(truth, torch.tensor([1, 0]))) == pytest.approx((50 - 0.005) / (50 + 0.005))


@given(st.integers(1, 30), st.integers(2, 20), st.integers(0, 10**6))
@examples(max_examples=50, deadline=None)
def test_oracle_recovers_all_and_random_choices_recover_nothing(queries: int, clusters: int, seed: int) -> None:
    truth = normal(queries, clusters, seed=seed)
    assert recovered_share(judge(truth, truth.argmax(1))) == 1
    assert recovered_share(judge(truth, truth.argmin(1))) < 0
    every = [judge(truth, torch.full((queries,), cluster)) for cluster in range(clusters)]
    assert sum(map(recovered_share, every)) / clusters == pytest.approx(0, abs=1e-12)
    assert torch.stack([each.rank for each in every]).mean(0).tolist() == [(clusters + 1) / 2] * queries


@given(st.floats(1e-6, 1e6), st.floats(-100, 100))
@examples(max_examples=30, deadline=None)
def test_share_and_rank_have_no_unit(scale: float, shift: float) -> None:
    truth, chosen = normal(8, 5), torch.arange(8) % 5
    judged, changed = judge(truth, chosen), judge(scale * truth + shift, chosen)
    assert recovered_share(changed) == pytest.approx(recovered_share(judged), rel=1e-6)
    assert torch.equal(changed.rank, judged.rank)


def test_share_without_room_is_refused() -> None:
    judged = judge(torch.full((3, 7), 0.1), torch.tensor([1, 2, 3]))
    assert judged.rank.tolist() == [1, 1, 1]
    for ask in (recovered_share, lambda judged: recovered_share_interval(judged, seeded())):
        with pytest.raises(ValueError, match="for every query all are equal by the truth"):
            ask(judged)


def test_top_clusters_are_counted_and_ties_with_the_last_are_among_them() -> None:
    ranking = torch.tensor([[2, 0, 1, 3], [1, 2, 3, 0], [1, 0, 2, 3]])
    assert top_overlap(ranking, TRUTH, 1).tolist() == [1, 0, 1]
    assert top_overlap(ranking, TRUTH, 2).tolist() == [0.5, 1, 0.5]
    assert top_overlap(ranking[:, :3], TRUTH, 3).tolist() == pytest.approx([2 / 3, 1, 1])
    assert top_overlap(ranking, TRUTH, 4).tolist() == [1, 1, 1]


@pytest.mark.parametrize("k", [1, 3, 9])
def test_overlap_of_a_random_ranking_is_its_size_over_the_clusters(k: int) -> None:
    truth, ranking = normal(4000, 10), torch.rand(4000, 10, generator=seeded(1)).argsort(1)
    assert top_overlap(ranking, truth, k).mean() == pytest.approx(k / 10, abs=0.02)
    assert top_overlap(truth.argsort(1, descending=True), truth, k).tolist() == [1] * 4000


@given(st.integers(1, 6), st.integers(2, 12), st.integers(1, 5), st.integers(0, 10**6))
@examples(max_examples=60, deadline=None)
def test_rank_correlations_agree_with_scipy(queries: int, clusters: int, levels: int, seed: int) -> None:
    random = seeded(seed)
    effect, truth = (torch.randint(levels, (queries, clusters), generator=random).double() for _ in range(2))
    found = leave_one_out_spearman(effect, truth)
    assert found.dtype == torch.float64
    for query in range(queries):
        constant = effect[query].unique().numel() == 1 or truth[query].unique().numel() == 1
        wanted = 0.0 if constant else stats.spearmanr(effect[query], truth[query]).statistic
        assert found[query].item() == pytest.approx(wanted, abs=1e-12)


def test_rank_correlation_by_hand() -> None:
    found = leave_one_out_spearman(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[10.0, 30.0, 20.0, 40.0]]))
    assert found.item() == pytest.approx(1 - 6 * 2 / (4 * 15))


def test_rank_correlation_knows_neither_scale_nor_constant() -> None:
    effect = normal(5, 9)
    assert leave_one_out_spearman(effect, 1e-9 * effect.exp() + 3).tolist() == pytest.approx([1] * 5)
    assert leave_one_out_spearman(effect, -effect).tolist() == pytest.approx([-1] * 5)
    assert leave_one_out_spearman(torch.full((5, 9), 0.1), effect).tolist() == [0] * 5


@given(st.integers(1, 8), st.integers(2, 20), st.integers(0, 10**6))
@examples(max_examples=30, deadline=None)
def test_additive_truth_has_a_score_of_one(queries: int, clusters: int, seed: int) -> None:
    effect, rows = normal(queries, clusters, seed=seed), leave_one_out(clusters)
    assert cluster_lds(effect, additive(effect, rows), rows).tolist() == pytest.approx([1] * queries)
    assert cluster_lds(-effect, additive(effect, rows), rows).tolist() == pytest.approx([-1] * queries)


def test_effects_of_something_else_have_a_score_near_zero() -> None:
    rows = masks(40, 30, 6)
    found = cluster_lds(normal(400, 30, seed=2), additive(normal(400, 30, seed=1), rows), rows)
    assert found.mean().abs() < 0.03
    noise = cluster_lds(normal(400, 30, seed=2), normal(40, 400, seed=1), rows)
    assert noise.mean().abs() < 0.03
    assert noise.std() == pytest.approx(1 / 39**0.5, abs=0.02)


def test_score_agrees_with_the_loop() -> None:
    effect, rows, behaviours = normal(6, 10), masks(15, 10, 3), normal(15, 6, seed=3)
    found = cluster_lds(effect.float(), behaviours.float(), rows.bool())
    assert found.dtype == torch.float64
    for query in range(6):
        sums = [sum(effect[query, k].float().item() for k in range(10) if row[k] == 0) for row in rows]
        assert found[query].item() == pytest.approx(stats.spearmanr(sums, behaviours[:, query]).statistic, abs=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e-9, 1e9])
def test_constant_effects_have_no_score_whatever_the_order_of_summation(value: float) -> None:
    assert cluster_lds(torch.full((3, 97), value), normal(40, 3), masks(40, 97, 20)).tolist() == [0, 0, 0]


def test_sums_that_are_equal_are_ties_whatever_the_order_of_summation() -> None:
    rows = masks(60, 90, 30)
    effect = torch.tensor([0.1, 0.7, 0.3], dtype=torch.float64).repeat_interleave(30)[None]
    deleted = (1 - rows).unflatten(1, (3, 30)).sum(2).long()
    tenths = deleted @ torch.tensor([1, 7, 3])
    behaviours = normal(60, 1)
    wanted = stats.spearmanr(tenths, behaviours[:, 0]).statistic
    assert cluster_lds(effect, behaviours, rows).item() == pytest.approx(wanted, abs=1e-12)


def test_behaviour_that_never_changes_has_no_score() -> None:
    assert cluster_lds(normal(1, 9), torch.full((20, 1), 0.3), masks(20, 9, 2)).tolist() == [0]


def test_cosines_of_displacements() -> None:
    true = torch.tensor([[1.0, 0.0], [1.0, 0.0], [3.0, 4.0], [3.0, 4.0], [1.0, 2.0]])
    estimated = torch.tensor([[0.0, 2.0], [-5.0, 0.0], [6.0, 8.0], [1.0, 0.0], [0.0, 0.0]])
    found = displacement_cosine(estimated, true)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([0, -1, 1, 0.6, 0])
    assert displacement_cosine(1e-30 * estimated.double(), 1e-30 * true.double()).tolist() == pytest.approx(
        found.tolist()
    )


def test_agreement_on_the_empirical_error_is_scipys() -> None:
    estimated, exact = normal(12), normal(12, seed=1)
    wanted = stats.pearsonr(estimated, exact).statistic, stats.spearmanr(estimated, exact).statistic
    assert empirical_error_agreement(estimated, exact) == pytest.approx(wanted, abs=1e-12)
    assert empirical_error_agreement(1e-12 * estimated, exact) == pytest.approx(wanted, abs=1e-12)


def test_agreement_on_the_empirical_error_in_closed_form() -> None:
    exact = normal(9)
    assert empirical_error_agreement(2 * exact + 1, exact) == pytest.approx((1, 1))
    assert empirical_error_agreement(-exact, exact) == pytest.approx((-1, -1))
    bent = empirical_error_agreement(exact.exp(), exact)
    assert bent.spearman == pytest.approx(1)
    assert 0 < bent.pearson < 1
    assert empirical_error_agreement(torch.full((9,), 0.1), exact) == Agreement(0, 0)


def test_the_interval_of_an_agreement_holds_it_and_is_a_point_where_it_is_perfect() -> None:
    random = torch.Generator().manual_seed(0)
    exact = torch.randn(40, generator=random)
    estimated = exact + torch.randn(40, generator=random)
    agreed = empirical_error_agreement(estimated, exact)
    for figure, (low, high) in zip(agreed, agreement_interval(estimated, exact, random), strict=True):
        assert -1 <= low < figure < high <= 1
        assert 0.1 < high - low < 0.8
    assert agreement_interval(exact, exact, random) == (pytest.approx((1, 1)), pytest.approx((1, 1)))


def test_interval_of_a_mean_is_scipys() -> None:
    values = normal(40).exp()
    wanted = stats.bootstrap((values.numpy(),), np.mean, method="percentile", n_resamples=20000, rng=0)
    found = bootstrap_interval(values, seeded(), resamples=20000)
    assert found == pytest.approx(tuple(wanted.confidence_interval), abs=0.02)


def test_interval_of_a_mean_is_the_normal_one_for_many_queries() -> None:
    values = normal(2000)
    low, high = bootstrap_interval(values, seeded(), resamples=4000)
    wanted = stats.norm.interval(0.95, values.mean().item(), values.std().item() / 2000**0.5)
    assert (low, high) == pytest.approx(wanted, abs=0.003)


def test_intervals_are_drawn_from_the_generator_and_widen_with_the_level() -> None:
    values = normal(50)
    first = bootstrap_interval(values, seeded())
    torch.manual_seed(9)
    assert bootstrap_interval(values, seeded()) == first
    assert bootstrap_interval(values, seeded(1)) != first
    narrow = bootstrap_interval(values, seeded(), level=0.5)
    assert first[0] < narrow[0] < narrow[1] < first[1]


def coverage(interval: Callable[[int], tuple[float, float]], wanted: float, times: int) -> float:
    """Share of simulated data sets whose interval holds the true value."""
    found = [interval(seed) for seed in range(times)]
    return sum(low <= wanted <= high for low, high in found) / times


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_of_a_mean_covers_what_it_says(level: float) -> None:
    def interval(seed: int) -> tuple[float, float]:
        values = -torch.rand(100, generator=seeded(seed), dtype=torch.float64).log()
        return bootstrap_interval(values, seeded(seed + 10**6), level, resamples=300)

    assert coverage(interval, 1, 1000) == pytest.approx(level, abs=0.04)


def test_interval_of_the_share_covers_what_it_says() -> None:
    """The truth has one cluster of weight u² and nine of none; the method finds it 6 times in 10, whatever u."""

    def interval(seed: int) -> tuple[float, float]:
        random = seeded(seed)
        truth = torch.zeros(80, 10, dtype=torch.float64)
        truth[:, 0] = torch.rand(80, generator=random, dtype=torch.float64).square()
        chosen = (torch.rand(80, generator=random) > 0.6).long()
        return recovered_share_interval(judge(truth, chosen), random, resamples=500)

    assert coverage(interval, (0.6 - 0.1) / 0.9, 300) == pytest.approx(0.95, abs=0.04)


def test_share_draws_gain_and_room_together() -> None:
    truth = normal(20, 6).exp()
    assert recovered_share_interval(judge(truth, truth.argmax(1)), seeded()) == (1, 1)


def test_resamples_without_room_are_left_out() -> None:
    truth = torch.tensor([[0.0, 1.0], [0.5, 0.5]])
    assert recovered_share_interval(judge(truth, torch.tensor([1, 0])), seeded()) == (1, 1)


def noisy_world(num_queries: int, num_networks: int, noise: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Estimated effects, behaviours and perturbations; noise of a network is partly shared by all queries."""
    effect, rows = normal(num_queries, 30, seed=seed), masks(num_networks, 30, 6, seed)
    shared, own = normal(num_networks, 1, seed=seed + 10**6), normal(num_networks, num_queries, seed=seed + 2 * 10**6)
    behaviours = additive(effect, rows) + noise * (shared + own)
    return effect + 0.3 * normal(num_queries, 30, seed=seed + 3 * 10**6), behaviours, rows


@pytest.mark.parametrize("noise", [0.05, 1.0])
def test_interval_of_the_score_covers_what_it_says(noise: float) -> None:
    """With little noise, the ties of networks drawn twice would alone push the interval below the measured score."""

    def interval(seed: int) -> tuple[float, float]:
        return cluster_lds_interval(*noisy_world(30, 20, noise, seed), seeded(seed), resamples=100)

    wanted = torch.stack([cluster_lds(*noisy_world(200, 20, noise, seed)).mean() for seed in range(500, 700)]).mean()
    assert coverage(interval, wanted.item(), 80) >= 0.9


def test_interval_of_the_score_is_as_wide_as_scores_scatter() -> None:
    spread = torch.stack([cluster_lds(*noisy_world(120, 40, 1.5, seed)).mean() for seed in range(500, 700)]).std()
    intervals = [cluster_lds_interval(*noisy_world(120, 40, 1.5, s), seeded(s), resamples=100) for s in range(8)]
    width = sum(high - low for low, high in intervals) / len(intervals)
    assert 0.9 < width / (2 * stats.norm.ppf(0.975) * spread) < 1.4


def test_interval_of_the_score_holds_the_score_and_is_wider_than_that_of_queries_alone() -> None:
    world = noisy_world(60, 25, 1.0, 0)
    score = cluster_lds(*world)
    low, high = cluster_lds_interval(*world, seeded())
    alone = bootstrap_interval(score, seeded())
    assert low < score.mean() < high
    assert high - low > 1.3 * (alone[1] - alone[0])
    assert cluster_lds_interval(*world, seeded()) == (low, high)
    assert cluster_lds_interval(*world, seeded(1)) != (low, high)


def test_networks_drawn_twice_tie_on_both_sides() -> None:
    effect, rows = normal(10, 12), masks(20, 12, 4)
    assert cluster_lds_interval(effect, additive(effect, rows), rows, seeded()) == pytest.approx((1, 1))
    assert cluster_lds_interval(-effect, additive(effect, rows), rows, seeded()) == pytest.approx((-1, -1))


def test_interval_of_one_query_resamples_its_networks() -> None:
    low, high = cluster_lds_interval(*noisy_world(1, 20, 1.0, 0), seeded())
    assert -1 <= low < high <= 1


FINITE: dict[str, tuple[Callable[..., Any], dict[str, Tensor]]] = {
    "judge": (lambda truth: judge(truth, torch.zeros(3, dtype=torch.int64)), {"truth": normal(3, 4)}),
    "top_overlap": (lambda truth: top_overlap(truth.argsort(1), truth, 2), {"truth": normal(3, 4)}),
    "spearman": (leave_one_out_spearman, {"effect": normal(3, 4), "true_effect": normal(3, 4)}),
    "lds": (
        cluster_lds,
        {"effect": normal(3, 4), "behaviours": normal(5, 3), "perturbations": leave_one_out(4)},
    ),
    "lds_interval": (
        lambda **given: cluster_lds_interval(**given, generator=seeded()),
        {"effect": normal(3, 4), "behaviours": normal(5, 3), "perturbations": leave_one_out(4)},
    ),
    "cosine": (displacement_cosine, {"estimated": normal(3, 4), "true": normal(3, 4)}),
    "empirical_error": (empirical_error_agreement, {"estimated": normal(4), "exact": normal(4)}),
    "interval": (lambda values: bootstrap_interval(values, seeded()), {"values": normal(4)}),
}
ARGUMENTS = [(figure, name) for figure, (_, arguments) in FINITE.items() for name in arguments]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("figure", "name"), ARGUMENTS)
def test_what_is_not_finite_is_refused(figure: str, name: str, value: float) -> None:
    ask, arguments = FINITE[figure]
    ask(**arguments)
    spoilt = arguments[name].clone()
    spoilt.view(-1)[1] = value
    with pytest.raises(ValueError, match=f"^{name} holds NaN or infinity$"):
        ask(**{**arguments, name: spoilt})


@pytest.mark.parametrize(("figure", "name"), ARGUMENTS)
def test_wrong_or_empty_shapes_are_refused(figure: str, name: str) -> None:
    ask, arguments = FINITE[figure]
    with pytest.raises(ValueError, match=f"^{name} must have shape"):
        ask(**{**arguments, name: arguments[name][None]})
    if len(arguments) > 1:
        with pytest.raises(ValueError, match=r"must have shape \(.*\) with . = .*; its shape is \("):
            ask(**{**arguments, name: torch.cat([arguments[name], arguments[name]])})
    else:
        with pytest.raises(ValueError, match=f"^{name} is empty"):
            ask(**{**arguments, name: arguments[name][:0]})


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: judge(TRUTH, torch.tensor([0, 1])), r"chosen must name clusters for 3 queries; its shape is \(2, 1\)"),
        (lambda: judge(TRUTH, torch.tensor([0, 1, 4])), "chosen must lie between 0 and 3; it holds 0 to 4"),
        (lambda: judge(TRUTH, torch.tensor([0, -1, 2])), "chosen must lie between 0 and 3; it holds -1 to 2"),
        (lambda: judge(TRUTH, torch.tensor([0.0, 1.0, 2.0])), r"chosen must be int64; it is torch\.float32"),
        (lambda: top_overlap(TRUTH.argsort(1), TRUTH, 0), "k must be between 1 and 4, the number of clusters; it is 0"),
        (lambda: top_overlap(TRUTH.argsort(1), TRUTH, 5), "k must be between 1 and 4, the number of clusters; it is 5"),
        (lambda: top_overlap(TRUTH.argsort(1)[:, :2], TRUTH, 3), r"ranking must name .* its shape is \(3, 2\)"),
        (lambda: top_overlap(torch.zeros(3, 4).long(), TRUTH, 2), "ranking names a cluster twice for one query"),
        (lambda: leave_one_out_spearman(normal(3, 1), normal(3, 1)), "at least two clusters are needed; there is 1"),
        (lambda: empirical_error_agreement(normal(1), normal(1)), "at least two clusters are needed; there is 1"),
        (lambda: cluster_lds(normal(3, 4), normal(1, 3), torch.ones(1, 4)), "at least two retrained networks"),
        (lambda: cluster_lds(normal(3, 4), normal(5, 3), normal(5, 4)), r"perturbations must be 0 \(the cluster is"),
        (lambda: bootstrap_interval(normal(1), seeded()), "at least two queries are needed; there is 1"),
        (lambda: bootstrap_interval(normal(5), seeded(), 1.0), r"level must be between 0 and 1; it is 1\.0"),
        (lambda: bootstrap_interval(normal(5), seeded(), 95), "level must be between 0 and 1; it is 95"),
        (lambda: bootstrap_interval(normal(5), seeded(), resamples=0), "resamples must be at least 1; it is 0"),
        (
            lambda: cluster_lds_interval(*noisy_world(3, 5, 1.0, 0), seeded(), 0.0),
            r"level must be between 0 and 1; it is 0\.0",
        ),
    ],
)
def test_questions_that_make_no_sense_are_refused(ask: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()


@pytest.mark.parametrize("count", [3, 8, 20])
@pytest.mark.parametrize("strength", [0.2, 0.8])
def test_the_interval_of_a_sample_covers_the_correlation_over_all_clusters(count: int, strength: float) -> None:
    """A hundred clusters, of which half of every effect is common to all queries; a random sample is retrained."""
    random, covered, draws = torch.Generator().manual_seed(count), 0, 60

    def part() -> Tensor:
        common, own = torch.randn(1, 100, generator=random), torch.randn(15, 100, generator=random)
        return (common + own).double()

    for _ in range(draws):
        true = part()
        estimated = strength * true + (1 - strength**2) ** 0.5 * part()
        sampled = torch.randperm(100, generator=random)[:count]
        low, high = sampled_spearman_interval(estimated[:, sampled], true[:, sampled])
        covered += low <= float(leave_one_out_spearman(estimated, true).mean()) <= high
    assert covered / draws >= 0.89  # 0.95 less two standard errors of sixty draws


def test_a_few_clusters_say_nothing_and_many_say_more() -> None:
    random = torch.Generator().manual_seed(0)
    true = torch.randn(30, 40, generator=random).double()
    effect = true + torch.randn(30, 40, generator=random).double()
    assert sampled_spearman_interval(effect[:, :4], true[:, :4]) == (-1, 1)
    widths = [high - low for low, high in (sampled_spearman_interval(effect[:, :n], true[:, :n]) for n in (5, 8, 40))]
    assert widths == sorted(widths, reverse=True)
    assert sampled_spearman_interval(true, true) == pytest.approx((0.999, 0.999))
