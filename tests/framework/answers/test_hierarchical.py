"""Class first, then cluster: the flat search's answer for L + C fine-tunings, where classes are what clusters say."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddm_framework.answers.hierarchical import effects, search, search_each
from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError
from ddm_framework.offline.partition import Partition
from ddm_framework.online.questions import Objective, Queries, Reference, declared
from ddm_framework.plugin.choice import Choice
from ddm_framework.plugin.declarations import objective

INFO = DataInfo((1, 1, 1), 2, (0.5,), (0.25,), ("a", "b"))
EFFECTS = st.integers(2, 5).flatmap(
    lambda num_classes: st.integers(1, 5).flatmap(
        lambda per_class: st.lists(
            st.lists(st.integers(-100, 100), min_size=per_class, max_size=per_class, unique=True),
            min_size=num_classes,
            max_size=num_classes,
        )
    )
)


class Planted:
    """A workspace in which deleting a cluster changes the first logit of query n by a planted amount, (N, L, C).

    The clusters of a class are not neighbours, and the class-wise synset does what its clusters do together.
    """

    def __init__(self, planted: Tensor) -> None:
        num_queries, num_classes, per_class = planted.shape
        self.effects = planted.transpose(1, 2).flatten(1).double()
        self.class_effects = planted.sum(2).double()
        classes = torch.arange(num_classes).repeat(per_class)
        self.partition = Partition(torch.arange(len(classes)), classes)
        self.synset, self.class_synset = range(len(classes)), range(100, 100 + num_classes)
        self.queries = Queries(torch.arange(num_queries).double()[:, None, None, None], None, ("query",) * num_queries)
        self.num_finetunings = 0

    @property
    def class_partition(self) -> Partition:
        return self.partition.class_wise(len(self.class_synset))

    def each_logits(
        self, queries: Queries, rows: Tensor, synset: range, _description: str, partition: Partition
    ) -> Tensor:
        assert rows[0].all()
        assert partition.num_clusters == len(synset)
        self.num_finetunings += int((rows == 0).any(1).sum())
        asked = self.effects if synset is self.synset else self.class_effects
        first = (1 - rows.double()) @ asked[queries.images.flatten().long()].T
        return torch.stack([first, -first], 2) + 1

    def reference(self, queries: Queries) -> Reference:
        return Reference(queries.images, None, torch.ones(len(queries), 2).double(), INFO)


def first_logit(direction: Literal["larger", "smaller"] = "larger", columns: int = 1) -> Objective:
    @objective(more_influential=direction)
    def measure(logits: Tensor, reference: Reference, /) -> Tensor:
        return logits[:, :columns]

    return declared(Choice("objective", "first_logit", {}, measure))


def found_in(planted: Planted, asked: Objective, index: list[int] | None = None) -> Any:
    queries = planted.queries if index is None else planted.queries.take(torch.tensor(index))
    return search(planted, queries, asked)  # type: ignore[arg-type]


CONSISTENT = torch.tensor(
    [[[1, 2, 3], [5, 9, 4], [2, 0, 1], [0, 8, 0]], [[-1, -2, -3], [-1, 0, 0], [-9, -4, 0], [0] * 3]]
)


@pytest.mark.parametrize(("query", "direction"), [(0, "larger"), (1, "smaller")])
def test_finds_the_flat_searchs_cluster_where_class_effects_are_consistent(
    query: int, direction: Literal["larger", "smaller"]
) -> None:
    planted, asked = Planted(CONSISTENT), first_logit(direction)
    found = found_in(planted, asked, [query])
    flat = int(asked.ranking(planted.effects[[query], :, None])[0, 0])
    assert found.cluster == flat
    assert found.label == int(planted.partition.classes[flat])


def test_costs_one_finetuning_a_class_and_one_a_cluster_of_the_class() -> None:
    planted = Planted(CONSISTENT)
    found = found_in(planted, first_logit())
    assert found.num_finetunings == planted.num_finetunings == 4 + 3


@given(EFFECTS, st.sampled_from(["larger", "smaller"]))
@settings(max_examples=40, deadline=None)
def test_finds_the_best_class_and_the_best_cluster_within_it(
    values: list[list[int]], direction: Literal["larger", "smaller"]
) -> None:
    planted, sign = Planted(torch.tensor([values])), 1 if direction == "larger" else -1
    found = found_in(planted, first_logit(direction))
    of_classes = sign * torch.tensor(values).sum(1)
    assert of_classes[found.label] == of_classes.max()
    within = planted.partition.of_class(found.label)
    assert found.cluster in within
    assert sign * planted.effects[0, found.cluster] == (sign * planted.effects[0, within]).max()
    torch.testing.assert_close(found.class_effect, planted.class_effects[0])
    torch.testing.assert_close(found.cluster_effect, planted.effects[0, within])
    assert found.num_finetunings == planted.num_finetunings == len(values) + len(values[0])


def test_a_batch_is_answered_by_the_mean_of_its_effects() -> None:
    planted = Planted(torch.tensor([[[10, 0], [0, 0], [4, 5]], [[-20, 0], [0, 0], [4, 5]]]))
    assert found_in(planted, first_logit(), [0]).label == 0
    both = found_in(planted, first_logit())
    assert both.label == 2
    torch.testing.assert_close(both.class_effect, torch.tensor([-5.0, 0.0, 9.0]).double())
    torch.testing.assert_close(both.cluster_effect, torch.tensor([4.0, 5.0]).double())


def test_a_cluster_of_another_class_is_missed_where_its_class_has_less_effect() -> None:
    planted = Planted(torch.tensor([[[9, -8], [3, 4]]]))
    found = found_in(planted, first_logit())
    assert (found.label, planted.effects[0, found.cluster]) == (1, 4)


def test_effects_are_of_the_chosen_clusters_in_their_order() -> None:
    planted = Planted(CONSISTENT)
    chosen = torch.tensor([7, 2, 11])
    found = effects(planted, planted.queries, first_logit(columns=2), "cluster", chosen)  # type: ignore[arg-type]
    wanted = torch.stack([planted.effects[:, chosen], -planted.effects[:, chosen]], 2)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("level", ["sample", "classes", "", None])
def test_a_level_that_is_not_known_is_refused(level: Any) -> None:
    planted = Planted(CONSISTENT)
    with pytest.raises(DDMError, match=r"level .* is neither of class and cluster"):
        effects(planted, planted.queries, first_logit(), level, torch.tensor([0]))  # type: ignore[arg-type]


def test_several_behaviours_have_no_rank() -> None:
    with pytest.raises(DDMError, match="'first_logit' measures 2 behaviours at once; clusters have no rank"):
        found_in(Planted(CONSISTENT), first_logit(columns=2))


def test_searching_for_each_of_many_is_searching_for_each_alone() -> None:
    planted, asked = Planted(CONSISTENT), first_logit()
    each = search_each(planted, planted.queries, asked, planted.effects[:, :, None])  # type: ignore[arg-type]
    alone = [found_in(planted, asked, [query]) for query in range(2)]
    assert each.label.tolist() == [found.label for found in alone]
    assert each.cluster.tolist() == [found.cluster for found in alone]
    assert each.flat.tolist() == asked.ranking(planted.effects[:, :, None])[:, 0].tolist()
