"""The model: packed and padded agree, the future and other users stay out of sight."""

import pytest
import torch
from torch import Tensor

from footfall.errors import InputError
from footfall_training.model import SequenceModel
from footfall_training.options import ModelConfig

CONFIG = ModelConfig(num_items=30, num_actions=3, width=16, num_heads=4, max_length=12)


def model() -> SequenceModel:
    torch.manual_seed(0)
    return SequenceModel(CONFIG).eval()


def events(*lengths: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    total = sum(lengths)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return (
        torch.randint(1, 31, (total,)),
        torch.randint(1, 4, (total,)),
        torch.randint(0, 40, (total,)),
        offsets,
    )


def test_packed_and_padded_histories_give_the_same_states() -> None:
    item, action, gap, offsets = events(5, 1, 12)
    packed = model().encode(item, action, gap, offsets)
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        one = slice(start, end)
        padded = [torch.nn.functional.pad(x[one], (0, 12 - (end - start)))[None] for x in (item, action, gap)]
        alone = model().encode_padded(*padded)[0, : end - start]
        torch.testing.assert_close(packed[one], alone, atol=1e-5, rtol=1e-5)


def test_an_event_changes_no_state_before_it_and_none_of_another_user() -> None:
    item, action, gap, offsets = events(6, 4)
    before = model().encode(item, action, gap, offsets)
    item[3] = item[3] % 30 + 1
    after = model().encode(item, action, gap, offsets)
    unchanged = [0, 1, 2, 6, 7, 8, 9]
    assert torch.equal(before[unchanged], after[unchanged])
    assert not torch.allclose(before[3:6], after[3:6])


@pytest.mark.parametrize("which", [0, 1, 2])
def test_item_action_and_gap_each_matter(which: int) -> None:
    columns = list(events(4))
    before = model().encode(*columns)
    columns[which] = columns[which].clone()
    columns[which][0] = columns[which][0] % 3 + 1 if which else columns[which][0] % 30 + 1
    assert not torch.allclose(before, model().encode(*columns))


def test_the_padding_row_of_the_item_table_is_zero() -> None:
    assert model().item_table()[0].abs().sum() == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"width": 15, "num_heads": 2}, "not a multiple"),
        ({"num_items": 0}, "num_items is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, int], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        ModelConfig(**{"num_items": 30, "num_actions": 3, **change})


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(TypeError, match="num_layer"):
        ModelConfig(num_items=3, num_actions=1, num_layer=2)  # type: ignore[call-arg]
