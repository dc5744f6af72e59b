"""The model: packed and padded agree, the future and other users stay out of sight, for both encoders."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from footfall.errors import InputError
from footfall_models.config import ModelConfig
from footfall_models.inputs import PackedInputs
from footfall_models.model import SequenceModel
from footfall_models.registry import EncoderName

CONFIG = ModelConfig(num_items=30, num_actions=3, width=16, num_heads=4, max_length=12)
ENCODERS: tuple[EncoderName, ...] = ("softmax", "hstu")
both_encoders = pytest.mark.parametrize("encoder", ENCODERS)


def model(encoder: EncoderName) -> SequenceModel:
    torch.manual_seed(0)
    made = SequenceModel(replace(CONFIG, encoder=encoder)).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith(("_bias", "wait_embedding.weight")):  # these tables start at 0
                parameter.normal_()
    return made


def events(*lengths: int) -> PackedInputs:
    torch.manual_seed(1)
    total = sum(lengths)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return PackedInputs(
        item=torch.randint(1, 31, (total,)),
        action=torch.randint(1, 4, (total,)),
        gap=torch.randint(0, 40, (total,)),
        wait=torch.randint(0, 40, (total,)),
        position=torch.cat([torch.arange(length) for length in lengths]),
        time=torch.randint(0, 1_000, (total, 2)).flatten().cumsum(0).int().view(-1, 2),
        offsets=offsets,
    )


def encode(inputs: PackedInputs, encoder: EncoderName) -> Tensor:
    return model(encoder).encode(inputs, "reference").detach()


@both_encoders
def test_packed_and_padded_histories_give_the_same_states(encoder: EncoderName) -> None:
    inputs = events(5, 1, 12)
    packed = encode(inputs, encoder)
    for start, end in zip(inputs.offsets[:-1].tolist(), inputs.offsets[1:].tolist(), strict=True):
        one, padding = slice(start, end), 12 - (end - start)
        columns = (inputs.item, inputs.action, inputs.gap, inputs.wait, inputs.time)
        padded = [torch.cat([column[one], column[:padding]])[None] for column in columns]
        padded.append(torch.tensor([[end - start]]))
        alone = model(encoder).encode_padded(*padded)[0, : end - start]
        torch.testing.assert_close(packed[one], alone, atol=1e-4, rtol=1e-5)


@both_encoders
def test_the_states_that_are_asked_for_are_the_last_of_all(encoder: EncoderName) -> None:
    made, inputs = model(encoder), events(5, 1, 12)
    expected = made.encode(inputs, "reference")[inputs.offsets[1:] - 1]
    torch.testing.assert_close(made.states(inputs, "reference"), expected, atol=1e-5, rtol=1e-5)
    lengths = inputs.offsets.diff()
    columns = (inputs.item, inputs.action, inputs.gap, inputs.wait, inputs.time)
    item, action, gap, wait, time = (
        pad_sequence(list(torch.split(column, lengths.tolist())), batch_first=True) for column in columns
    )
    got = made.states_padded(item, action, gap, wait, time, lengths.unsqueeze(1))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-5)


@both_encoders
def test_the_triton_kernels_give_the_references_states_and_gradients(encoder: EncoderName) -> None:
    config = replace(CONFIG, encoder=encoder, width=64, num_heads=2)
    inputs = events(5, 1, 12)
    results = []
    for implementation in ("reference", "triton"):
        torch.manual_seed(0)
        made = SequenceModel(config).eval()
        states = made.encode(inputs, implementation)
        states.square().mean(0)[:7].sum().backward()  # type: ignore[no-untyped-call]
        results.append([states.detach(), *(parameter.grad for parameter in made.parameters())])
    for reference, triton in zip(*results, strict=True):
        torch.testing.assert_close(triton, reference, atol=2e-4, rtol=1e-3)


@both_encoders
def test_an_event_changes_no_state_before_it_and_none_of_another_user(encoder: EncoderName) -> None:
    inputs = events(6, 4)
    before = encode(inputs, encoder)
    inputs.item[3] = inputs.item[3] % 30 + 1
    after = encode(inputs, encoder)
    unchanged = [0, 1, 2, 6, 7, 8, 9]
    torch.testing.assert_close(before[unchanged], after[unchanged], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(before[3:6], after[3:6])


@both_encoders
@pytest.mark.parametrize(("column", "largest"), [("item", 30), ("action", 3), ("gap", 39), ("position", 11)])
def test_every_column_matters(encoder: EncoderName, column: str, largest: int) -> None:
    inputs = events(4)
    values = getattr(inputs, column).clone()
    values[0] = values[0] % largest + 1
    changed = replace(inputs, **{column: values})
    assert not torch.allclose(encode(inputs, encoder), encode(changed, encoder))


def test_hstu_reads_how_far_apart_events_are_and_not_when_they_were() -> None:
    inputs = events(4)
    apart = replace(inputs, time=inputs.time * 100)
    later = replace(inputs, time=inputs.time + 123_456)
    assert not torch.allclose(encode(inputs, "hstu"), encode(apart, "hstu"))
    assert torch.equal(encode(inputs, "hstu"), encode(later, "hstu"))


@both_encoders
def test_the_padding_row_of_the_item_table_is_zero(encoder: EncoderName) -> None:
    assert model(encoder).item_table()[0].abs().sum() == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"width": 15, "num_heads": 2}, "not a multiple"),
        ({"num_items": 0}, "num_items is 0"),
        ({"max_length": 8_193}, "max_length is 8193, a server reads at most 8192 events of a history"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"encoder": "lstm"}, "unknown encoder 'lstm'; there are softmax, hstu"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        ModelConfig(**{"num_items": 30, "num_actions": 3, **change})


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(TypeError, match="num_layer"):
        ModelConfig(num_items=3, num_actions=1, num_layer=2)  # type: ignore[call-arg]


class ByParity(nn.Module):
    """Odd items have one thing in common, even ones another, padding nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(3, CONFIG.width, padding_idx=0)

    def forward(self, item: Tensor) -> Tensor:
        kind = torch.where(item == 0, 0, (item + 1) % 2 + 1)
        return nn.functional.embedding(kind, self.table.weight)


def test_serving_bakes_ids_and_features_into_the_plain_table() -> None:
    made, plain = model("softmax"), model("softmax")
    ids, feature = made.item_table().detach().clone(), ByParity()
    made.for_training(torch.zeros(31, dtype=torch.bool), [feature])
    expected = nn.functional.normalize(ids + feature(torch.arange(31)), dim=1)
    torch.testing.assert_close(made.item_table(), expected)
    made.item_table()[1].sum().backward()  # type: ignore[no-untyped-call]
    assert feature.table.weight.grad is not None and feature.table.weight.grad[1].abs().sum() > 0
    states = made.encode(events(5, 3), "reference").detach()
    few = torch.tensor([0, 4, 9, 30])
    torch.testing.assert_close(made.item_table(few), expected[few])
    made.for_serving()
    assert made.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(made.item_table(), expected)
    torch.testing.assert_close(made.encode(events(5, 3), "reference"), states)
    assert made.item_table()[0].abs().sum() == 0


class OfOne(nn.Module):
    """Tells something of item 5 alone."""

    def forward(self, item: Tensor) -> Tensor:
        return (item == 5).float().unsqueeze(1).expand(-1, CONFIG.width)


def test_listed_are_the_items_that_training_reads_and_those_that_a_feature_describes() -> None:
    read = torch.zeros(31, dtype=torch.bool).index_fill(0, torch.tensor([2, 9]), True)
    for features, listed in (([], [2, 9]), ([OfOne()], [2, 5, 9]), ([ByParity()], list(range(1, 31)))):
        made = model("softmax")
        assert made.item_listed.nonzero().flatten().tolist() == list(range(1, 31))
        made.for_training(read, features)
        made.for_serving()
        assert made.item_listed.nonzero().flatten().tolist() == listed


@both_encoders
def test_a_state_tells_how_long_the_last_event_waited(encoder: EncoderName) -> None:
    inputs = events(5, 12)
    last = inputs.offsets[1:] - 1
    later = replace(inputs, wait=inputs.wait.index_fill(0, last, 30), time=inputs.time.clone())
    later.time[last, 1] += 10**8
    moved = (encode(inputs, encoder) - encode(later, encoder)).abs().amax(1) > 1e-2
    assert moved.nonzero().flatten().tolist() == last.tolist()


@both_encoders
def test_a_wait_that_training_never_met_says_nothing(encoder: EncoderName) -> None:
    inputs = events(5, 12)
    inputs.wait[inputs.wait == 30] = 31
    made = model(encoder)
    made.wait_is_known[30] = False
    last = inputs.offsets[1:] - 1
    states = []
    for wait, seconds in ((30, 10**8), (0, 10**8), (0, 0)):
        asked = replace(inputs, wait=inputs.wait.index_fill(0, last, wait), time=inputs.time.clone())
        asked.time[last, 1] = asked.time[last, 0] + seconds
        states.append(made.encode(asked, "reference"))
    assert torch.equal(states[0], states[1]) and torch.equal(states[1], states[2])


def test_training_hides_a_share_of_the_waits_and_nothing_else_does() -> None:
    made = model("hstu")
    wait, time = torch.full((10_000,), 5), torch.tensor([[0, 9]]).expand(10_000, 2)
    assert torch.equal(made.known_waits(wait, time)[0], wait)
    shown, times = made.train().known_waits(wait, time)
    hidden = shown == 0
    assert 0.13 < hidden.float().mean() < 0.17
    assert torch.equal(times[:, 1], torch.where(hidden, 0, 9))
