"""The seams of an encoder: a family is one file and one line of the registry, and the same in every layout."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import onnxruntime
import pytest
import torch
from other_encoders import OTHERS, BothSidesEncoder
from torch import nn

from footfall.contract import ENGINE_INPUTS, HEADS, engine_outputs
from footfall.errors import InputError
from footfall.history import ModelInput, pad
from footfall_data.dataset import Dataset
from footfall_engines.batch import NOBODY
from footfall_engines.history_encoder import HistoryEncoder
from footfall_export.to_onnx import write_onnx
from footfall_models.config import ModelConfig, Positions
from footfall_models.encoders.bsarec import low_pass
from footfall_models.encoders.gru4rec import Gru4recEncoder
from footfall_models.graph import RankerGraph
from footfall_models.inputs import PackedInputs
from footfall_models.layouts.packed import PackedLayout
from footfall_models.layouts.padded import PaddedLayout
from footfall_models.model import SequenceModel
from footfall_models.registry import ENCODERS, EncoderName, find_encoder
from footfall_training.objectives import NEXT_ITEM, find_objective
from footfall_training.options import TrainOptions
from footfall_training.train import Trainer

CPU = torch.device("cpu")
LENGTHS = (3, 1, 0, 6)
every_family = pytest.mark.parametrize("family", [*get_args(EncoderName), *OTHERS])
every_count = pytest.mark.parametrize("positions", get_args(Positions))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, place in OTHERS.items():
        monkeypatch.setitem(ENCODERS, cast(EncoderName, name), place)


def history(lengths: tuple[int, ...]) -> ModelInput:
    """Every user's events are the first of the same ones, but for the last one's wait."""
    random = np.random.default_rng(0)
    most = random.integers((1, 1, 0, 0, 1, 1), (31, 4, 40, 40, 500, 500), (12, 6)).astype(np.int32)
    most[:, 4] = most[:, 4].cumsum()
    most[:, 5] += most[:, 4]
    users = [most[:length].copy() for length in lengths]
    for events in users:
        events[-1:, [3, 5]] = 7, 9_000 + len(events)
    columns = np.concatenate(users).T
    return ModelInput.of(columns, np.cumsum([0, *lengths]))


def model(family: str, positions: Positions = "first") -> SequenceModel:
    torch.manual_seed(0)
    config = ModelConfig(
        num_items=30,
        num_actions=3,
        width=16,
        max_length=12,
        encoder=cast(EncoderName, family),
        positions=positions,
        input_norm=True,
    )
    made = SequenceModel(config).eval()
    for name, parameter in made.named_parameters():
        if name.endswith("_bias") or name in ("wait_embedding.weight", "position_embedding.weight"):
            torch.nn.init.normal_(parameter)
    return made


def packed(values: torch.Tensor) -> torch.Tensor:
    """[users, length, ...] -> [events, ...] of LENGTHS."""
    return torch.cat([row[:length] for row, length in zip(values, LENGTHS, strict=True)])


def layouts() -> tuple[PackedLayout, PaddedLayout]:
    inputs = PackedInputs.of(history(LENGTHS), CPU)
    return PackedLayout(inputs, "reference", 12), PaddedLayout(
        torch.zeros(4, 6, 2, dtype=torch.int32), torch.tensor(LENGTHS).unsqueeze(1)
    )


def test_a_scan_runs_the_cell_along_each_history_alone() -> None:
    torch.manual_seed(0)
    cell, tokens = nn.GRUCell(5, 7), torch.randn(4, 6, 5, requires_grad=True)
    state, states = torch.zeros(4, 7), []
    for place in range(6):
        state = cell(tokens[:, place], state)
        states.append(state)
    expected = torch.stack(states, 1)
    packed_layout, padded_layout = layouts()
    got = packed_layout.scan(0, cell, packed(tokens), 7)
    torch.testing.assert_close(got, packed(expected))
    (gradient,) = torch.autograd.grad(got.square().sum(), tokens)
    (expected_gradient,) = torch.autograd.grad(packed(expected).square().sum(), tokens)
    torch.testing.assert_close(gradient, expected_gradient)
    with torch.no_grad():
        torch.testing.assert_close(padded_layout.scan(0, cell, tokens, 7), expected)


@pytest.mark.parametrize("distance", [0, 1, 2, 6, -1, -2, -6])
def test_a_shift_reads_the_same_history_and_zeros_beyond_it(distance: int) -> None:
    tokens = torch.randn(4, 6, 5)
    expected = torch.zeros(4, 6, 5)
    for user, length in enumerate(LENGTHS):
        for place in range(length):
            if 0 <= place - distance < length:
                expected[user, place] = tokens[user, place - distance]
    packed_layout, padded_layout = layouts()
    torch.testing.assert_close(packed_layout.shift(packed(tokens), distance), packed(expected))
    torch.testing.assert_close(packed(padded_layout.shift(tokens, distance)), packed(expected))


@pytest.mark.parametrize("weight", [[1.0, 0, 0, 0, 0, 0], [0.5, -2.0, 0, 3.0, 0, 1.0]])
def test_a_filter_weighs_the_past_of_the_same_history_by_distance(weight: list[float]) -> None:
    tokens, by_distance = torch.randn(4, 6, 5, requires_grad=True), torch.tensor(weight)
    expected = torch.stack(
        [
            sum((by_distance[back] * tokens[:, place - back] for back in range(place + 1)), torch.zeros(4, 5))
            for place in range(6)
        ],
        1,
    )
    packed_layout, padded_layout = layouts()
    got = packed_layout.filter(packed(tokens), by_distance)
    torch.testing.assert_close(got, packed(expected))
    torch.testing.assert_close(packed(padded_layout.filter(tokens, by_distance)), packed(expected))
    (gradient,) = torch.autograd.grad(got.square().sum(), tokens)
    (expected_gradient,) = torch.autograd.grad(packed(expected).square().sum(), tokens)
    torch.testing.assert_close(gradient, expected_gradient)
    last = [0, 1, 3]  # the users with a history
    lasts = torch.stack([expected[user, LENGTHS[user] - 1] for user in last])
    inputs = PackedInputs.of(history(LENGTHS), CPU)
    narrow = PackedLayout(inputs, "reference", 12, last_only=True).narrow()
    torch.testing.assert_close(narrow.filter(packed(tokens), by_distance)[last], lasts)
    narrow_padded = replace(padded_layout, last_only=True).narrow()
    torch.testing.assert_close(narrow_padded.filter(tokens, by_distance)[last].squeeze(1), lasts)


def test_positions_count_from_the_first_event_or_back_from_the_last() -> None:
    packed_layout, padded_layout = layouts()
    assert packed_layout.positions("first").tolist() == [0, 1, 2, 0, 0, 1, 2, 3, 4, 5]
    assert packed_layout.positions("last").tolist() == [2, 1, 0, 0, 5, 4, 3, 2, 1, 0]
    assert padded_layout.positions("first").tolist() == [0, 1, 2, 3, 4, 5]
    back = padded_layout.positions("last")
    assert packed(back).tolist() == [2, 1, 0, 0, 5, 4, 3, 2, 1, 0]
    assert back.min() == 0, "padding has a row of the table, too"


@every_family
@every_count
def test_what_training_is_told_of_last_events_is_what_a_server_says(
    family: str, positions: Positions
) -> None:
    made, inputs = model(family, positions), PackedInputs.of(history((3, 1, 12, 6)), CPU)
    made.wait_is_known[:] = True
    every = made.encode(inputs, "reference")[inputs.offsets[1:] - 1]
    trained = made.encode(inputs, "reference", last_only=True)
    torch.testing.assert_close(trained, every, atol=1e-4, rtol=1e-4)
    weights = list(made.blocks.parameters())
    gradients = [torch.autograd.grad(states.sin().sum(), weights) for states in (trained, every)]
    for of_trained, of_every in zip(*gradients, strict=True):
        torch.testing.assert_close(of_trained, of_every, atol=2e-3, rtol=1e-3)
    with torch.inference_mode():
        torch.testing.assert_close(made.states(inputs, "reference"), every, atol=1e-4, rtol=1e-4)


# An export takes 10 s: make test has the family with a seam of its own and the one with operators of its own.
@pytest.mark.parametrize(
    ("family", "positions"),
    [
        ("softmax", "last"),
        ("bsarec", "last"),
        pytest.param("gru4rec", "first", marks=pytest.mark.slow),
        pytest.param("nextitnet", "last", marks=pytest.mark.slow),
        pytest.param("both sides", "first", marks=pytest.mark.slow),
    ],
)
def test_onnx_gives_the_states_of_packed_histories_of_any_length(
    family: str, positions: Positions, tmp_path: Path
) -> None:
    made = model(family, positions)
    lengths = (3, 1, 12, 6)
    events = history(lengths)
    inputs = PackedInputs.of(events, CPU)
    expected = made.encode(inputs, "reference")[inputs.offsets[1:] - 1]
    write_onnx(RankerGraph(made, 5), tmp_path / "model.onnx", target="onnxruntime")
    columns = [pad(column, events.offsets, 12) for column in events.columns]
    none = np.zeros((4, 1), np.int32)
    values = [*columns, np.array(lengths, np.int32)[:, None], none, none]
    given = {tensor.name: value for tensor, value in zip(ENGINE_INPUTS, values, strict=True)}
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    outputs = session.run(None, given)
    named: dict[str, Any] = dict(zip([tensor.name for tensor in engine_outputs(HEADS)], outputs, strict=True))
    np.testing.assert_allclose(named["user_vector"], expected.detach(), atol=1e-4)


@pytest.mark.parametrize(
    ("family", "positions", "spared"),
    [
        ("gru4rec", "first", 2 + 2 + 1),
        ("gru4rec", "last", 0),
        ("softmax", "last", 0),
        ("bsarec", "first", 0),
        ("nextitnet", "first", 0),
    ],
)
def test_a_cache_keeps_what_the_model_says_and_changes_no_state(
    family: str, positions: Positions, spared: int
) -> None:
    graph = RankerGraph(model(family, positions), 5).eval()
    cached, plain = (HistoryEncoder(graph, CPU, "reference", size) for size in (1 << 12, 0))
    users = (b"anna", b"bert", NOBODY)
    with torch.inference_mode():
        cached.states(history((3, 1, 2)), users)
        assert cached.cached_events == 0
        for lengths in ((3, 2, 1), (4, 2, 6)):
            states = cached.states(history(lengths), users)
            torch.testing.assert_close(states, plain.states(history(lengths), users), atol=1e-5, rtol=1e-5)
    # First anna unchanged and bert one event on, then anna one event on and bert unchanged: all but the last event.
    assert cached.cached_events == spared


@pytest.mark.parametrize("name", get_args(EncoderName))
def test_every_family_is_found_by_its_name(name: EncoderName) -> None:
    assert find_encoder(name).__name__.lower() == f"{name}encoder"
    assert set(get_args(EncoderName)) | set(OTHERS) == set(ENCODERS)


def test_an_objective_refuses_an_encoder_that_would_read_the_answer() -> None:
    assert find_objective("next_item", Gru4recEncoder) is NEXT_ITEM
    assert find_objective("prefixes", BothSidesEncoder).tells == "last event"
    sentence = "next_item trains encoders that see past; BothSidesEncoder sees both sides"
    with pytest.raises(InputError, match=sentence):
        find_objective("next_item", BothSidesEncoder)


def test_positions_counted_back_are_refused_where_they_would_tell_what_follows() -> None:
    assert find_objective("prefixes", Gru4recEncoder, "last").tells == "last event"
    with pytest.raises(InputError, match="which a server never knows; train with --objective prefixes"):
        find_objective("next_item", Gru4recEncoder, "last")


def test_a_prefix_tells_what_a_server_is_asked(dataset: Dataset, tmp_path: Path) -> None:
    config = ModelConfig(
        len(dataset.items), len(dataset.actions), width=16, max_length=6, dropout=0.0, positions="last"
    )
    trainer = Trainer(dataset, tmp_path, config, TrainOptions(objective="prefixes"))
    trainer.model.eval()
    batch = next(trainer.windows.epoch(4, seed=0, epoch=0))
    assert len(batch.next_item) == 4 < len(batch.inputs.item)
    with torch.no_grad():
        scores = trainer.model.states(batch.inputs, "reference") @ trainer.model.item_table().T
        expected = nn.functional.cross_entropy(scores, batch.next_item)
        torch.testing.assert_close(trainer.losses(batch)["item"], expected)


def test_a_family_without_feed_forward_layers_refuses_their_width() -> None:
    with pytest.raises(InputError, match="feed_forward is 4, but encoder gru4rec has no such layers"):
        ModelConfig(10, 1, encoder="gru4rec", feed_forward=4)


def test_the_low_pass_is_the_fourier_transforms_cut_off() -> None:
    tokens = torch.randn(50)
    spectrum = torch.fft.rfft(tokens)
    spectrum[3:] = 0
    circular = low_pass(50)[(torch.arange(50).unsqueeze(1) - torch.arange(50)) % 50]
    torch.testing.assert_close(circular @ tokens, torch.fft.irfft(spectrum, 50), atol=1e-5, rtol=1e-5)
    assert low_pass(1).tolist() == [1.0]
