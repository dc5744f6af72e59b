"""RankerGraph: from padded histories to a ranked list, the one definition that every engine runs."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from footfall.contract import NUM_GAPS, PADDING_INDEX
from footfall_models.model import SequenceModel

BRANCHES = ("catalogue", "popular", "candidates")
"""Kinds of users by the list they get: with a history, without one, with candidates."""


class RankerGraph(nn.Module):
    """A SequenceModel with exclusions, candidates, the list for an empty history and the top k in the graph.

    `precision` is the encoder's; scores, probabilities and the top k are always fp32.
    """

    item_table: Tensor
    listed_bias: Tensor
    popularity: Tensor

    def __init__(self, model: SequenceModel, max_top_k: int, precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.has_own_table = precision != torch.float32  # in fp32 the encoder's serves both
        if self.has_own_table:
            self.register_buffer("item_table", model.item_table().detach().clone())
        # Added to scores, as that costs next to nothing beside the matrix product: -inf for padding and for what is
        # not listed, and what an empty history, whose vector is 0, lists by.
        unlisted = torch.zeros(len(model.item_listed)).masked_fill(~model.item_listed, -torch.inf)
        self.register_buffer("listed_bias", unlisted)
        self.register_buffer("popularity", unlisted + model.item_popularity.float())
        for name in model.config.heads:
            self.register_buffer(f"{name}_prior", model.head(name).prior.detach().float().clone())
        self.model = model.to(precision)
        self.num_items = model.config.num_items
        self.num_actions = model.config.num_actions
        self.heads = model.config.heads
        self.top_k = min(max_top_k, self.num_items)

    def forward(
        self,
        history_item: Tensor,
        history_action: Tensor,
        history_gap: Tensor,
        history_wait: Tensor,
        history_time: Tensor,
        history_next_time: Tensor,
        history_length: Tensor,
        excluded_index: Tensor,
        candidate_index: Tensor,
    ) -> tuple[Tensor, ...]:
        """contract.ENGINE_INPUTS, int32 [users, ...], to contract.engine_outputs."""
        history = (history_item, history_action, history_gap, history_wait, history_time, history_next_time)
        *said, vector, empty = self.read(*history, history_length)
        return (*self.best(vector, empty, excluded_index, candidate_index), *said, vector)

    def read(
        self,
        item: Tensor,
        action: Tensor,
        gap: Tensor,
        wait: Tensor,
        time: Tensor,
        next_time: Tensor,
        length: Tensor,
    ) -> tuple[Tensor, ...]:
        """What `describe` says of padded histories, int32 [users, ...], and who has none: bool [users, 1]."""
        events = self.known_events(item, action, gap, wait)
        state = self.model.states_padded(*events, torch.stack([time, next_time], dim=-1), length)
        empty = length == 0
        return (*self.describe(state, empty), empty)

    def known_events(
        self, item: Tensor, action: Tensor, gap: Tensor, wait: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """int64 indices the model's tables hold, of events laid out in any shape."""
        gap, wait = known(gap, NUM_GAPS - 1), known(wait, NUM_GAPS - 1)
        return known(item, self.num_items), known(action, self.num_actions), gap, wait

    def describe(self, state: Tensor, empty: Tensor) -> tuple[Tensor, ...]:
        """What each head says of states [users, width], and the user vectors; empty bool [users, 1]: no history."""
        said = (
            torch.where(empty, self.get_buffer(f"{name}_prior"), self.model.head(name).describe(state))
            for name in self.heads
        )
        return (*said, torch.where(empty, 0.0, state.float()))

    def best(
        self, vector: Tensor, empty: Tensor, excluded_index: Tensor, candidate_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The top_k items of each user: index int32 and score [users, top_k]."""
        score = self.scores(vector) + torch.where(empty, self.popularity, self.listed_bias)
        return self._best_of(self._only(score, candidate_index), excluded_index)

    def best_of_catalogue(self, vector: Tensor, excluded_index: Tensor) -> tuple[Tensor, Tensor]:
        """`best` of users with a history and without candidates."""
        return self._best_of(self.scores(vector) + self.listed_bias, excluded_index)

    def best_of_popular(self, vector: Tensor, excluded_index: Tensor) -> tuple[Tensor, Tensor]:
        """`best` of users without a history and without candidates."""
        return self._best_of(self.popularity.repeat(vector.shape[0], 1), excluded_index)

    def best_of_candidates(
        self, vector: Tensor, empty: Tensor, excluded_index: Tensor, candidate_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`best` of users with candidates: nothing is as large as the catalogue."""
        item = self._wanted(excluded_index, candidate_index)
        score = torch.matmul(functional.embedding(item, self.scoring_table()), vector.unsqueeze(2)).squeeze(2)
        popularity, bias = (
            table.index_select(0, item.flatten()).view_as(item)
            for table in (self.popularity, self.listed_bias)
        )
        score = score + torch.where(empty, popularity, bias)
        beyond = (0, self.top_k)  # there may be fewer candidates than that
        item_score, place = functional.pad(score, beyond, value=-torch.inf).topk(self.top_k, dim=1)
        return _listed(functional.pad(item, beyond).gather(1, place), item_score), item_score

    def scores(self, vector: Tensor) -> Tensor:
        """Of every item: fp32 [users, num_items + 1]."""
        return functional.linear(vector, self.scoring_table())

    def scoring_table(self) -> Tensor:
        """fp32 [num_items + 1, width]."""
        return self.item_table if self.has_own_table else self.model.item_table()

    def unlisted(self) -> Tensor:
        """The items that are in nobody's list: int32 [any], ascending."""
        items = torch.isneginf(self.listed_bias).nonzero().squeeze(1)
        return items[items > PADDING_INDEX].int()

    def _best_of(self, score: Tensor, excluded_index: Tensor) -> tuple[Tensor, Tensor]:
        """The best of score [users, num_items + 1] but what is excluded."""
        # Scattered: by masks over the catalogue a list takes 14.9 ms instead of 12.4 (ONNX Runtime, 1 core, 8 users,
        # 500,000 items, width 64, the top 100).
        score = score.scatter(1, known(excluded_index, self.num_items), -torch.inf)
        item_score, item_index = score.topk(self.top_k, dim=1)
        return _listed(item_index, item_score), item_score

    def _only(self, score: Tensor, candidate_index: Tensor) -> Tensor:
        """score [users, num_items + 1], but -inf beside a user's candidates, where there are any."""
        candidate = known(candidate_index, self.num_items)
        restricted = (candidate_index != PADDING_INDEX).any(dim=1, keepdim=True)
        return torch.where(restricted, -torch.inf, score).scatter(1, candidate, score.gather(1, candidate))

    def _wanted(self, excluded_index: Tensor, candidate_index: Tensor) -> Tensor:
        """Each user's candidates once, without excluded ones: int64 [users, candidates], PADDING_INDEX behind."""
        excluded, candidate = (known(index, self.num_items) for index in (excluded_index, candidate_index))
        # In order, an item's exclusions stand before its candidacies: all but the first of its entries go, and that
        # too where it is an exclusion.
        entry = torch.cat([2 * excluded, 2 * candidate + 1], dim=1).sort(dim=1).values
        item = entry.div(2, rounding_mode="trunc")
        again = functional.pad(item[:, 1:] == item[:, :-1], (1, 0), value=False)
        dropped = again | (entry % 2 == 0)
        return torch.where(dropped, PADDING_INDEX, item).topk(candidate.shape[1], dim=1).values


class BranchingGraph(nn.Module):
    """A RankerGraph for ONNX Runtime, whose lists footfall_export.branches puts behind an `If` for each kind of user.

    So nothing is computed that nobody asks for: of 1 million items and width 64, 32 candidates take 0.15 ms instead
    of 10.3 and the whole catalogue 8.4 instead of 10.7, for 16 users 30 instead of 46 (1 core). tensorrt_rtx
    1.7 takes no graph with such branches ("Input to IIfConditionalInputLayer must come from outside of the scope").
    """

    def __init__(self, graph: RankerGraph, reading: nn.Module | None = None) -> None:
        """reading: in place of the graph's `read`."""
        super().__init__()
        self.ranker = graph  # an fx module has a graph of its own
        self.reading = reading

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """As RankerGraph; behind its outputs, in the order of BRANCHES, whether anybody is of that kind, bool [], and
        the list, index and score, of every user as if of that kind; then a list of one place for nobody.
        """
        graph, (*history, excluded_index, candidate_index) = self.ranker, inputs
        *said, vector, empty = (self.reading or graph.read)(*history)
        restricted = (candidate_index != PADDING_INDEX).any(dim=1, keepdim=True)
        popular = empty & ~restricted
        users = (~(empty | restricted), popular, restricted)
        # Before the lists, whose branches read these two.
        anybody = [some.any() for some in users]
        score = vector.new_full((vector.shape[0], 1), -torch.inf)
        nobodys = torch.full_like(score, PADDING_INDEX, dtype=torch.int32), score
        lists = (
            graph.best_of_catalogue(vector, excluded_index),
            graph.best_of_popular(vector, excluded_index),
            graph.best_of_candidates(vector, empty, excluded_index, candidate_index),
        )
        best = (
            torch.where(restricted, of_candidates, torch.where(popular, of_popular, of_catalogue))
            for of_catalogue, of_popular, of_candidates in zip(*lists, strict=True)
        )
        branches = ((some, *listed) for some, listed in zip(anybody, lists, strict=True))
        return (*best, *said, vector, *itertools.chain.from_iterable(branches), *nobodys)


def _listed(index: Tensor, score: Tensor) -> Tensor:
    """int32, PADDING_INDEX past the last item that scores."""
    return torch.where(torch.isinf(score), PADDING_INDEX, index).int()


def known(index: Tensor, largest: int) -> Tensor:
    """int64 indices; one outside 1..largest counts as padding."""
    return torch.where((index > PADDING_INDEX) & (index <= largest), index, PADDING_INDEX).long()
