"""The seams of an encoder: a recurrent and a convolutional family are one file and one line of the registry each."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import onnxruntime
import pytest
import torch
from other_encoders import OTHERS, BothSidesEncoder, RecurrentEncoder
from torch import nn

from footfall.contract import ENGINE_INPUTS, HEADS, engine_outputs
from footfall.errors import InputError
from footfall.history import Histories, ModelInput, pad
from footfall_data.dataset import Dataset
from footfall_engines.batch import NOBODY
from footfall_engines.history_encoder import HistoryEncoder
from footfall_export.to_onnx import write_onnx
from footfall_models.config import Appends, ModelConfig
from footfall_models.encoders.encoder import Sees
from footfall_models.graph import RankerGraph
from footfall_models.inputs import PackedInputs
from footfall_models.layouts.packed import PackedLayout
from footfall_models.layouts.padded import PaddedLayout
from footfall_models.model import SequenceModel
from footfall_models.registry import ENCODERS, EncoderName, find_encoder
from footfall_training.objectives import NEXT_ITEM, Examples, find_objective
from footfall_training.options import TrainOptions
from footfall_training.train import Trainer

CPU = torch.device("cpu")
LENGTHS = (3, 1, 0, 6)
every_family = pytest.mark.parametrize("family", OTHERS)


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


def model(family: str) -> SequenceModel:
    torch.manual_seed(0)
    config = ModelConfig(
        num_items=30, num_actions=3, width=16, max_length=12, encoder=cast(EncoderName, family)
    )
    made = SequenceModel(config).eval()
    torch.nn.init.normal_(made.wait_embedding.weight)
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


@every_family
def test_onnx_gives_the_states_of_packed_histories_of_any_length(family: str, tmp_path: Path) -> None:
    made = model(family)
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


@pytest.mark.parametrize(("family", "spared"), [("recurrent", 2 + 2 + 1), ("convolutional", 0)])
def test_a_cache_keeps_what_the_encoder_says_and_changes_no_state(family: str, spared: int) -> None:
    graph = RankerGraph(model(family), 5).eval()
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
    assert find_objective("next_item", RecurrentEncoder) is NEXT_ITEM
    sentence = "next_item trains encoders that see past; BothSidesEncoder sees both sides"
    with pytest.raises(InputError, match=sentence):
        find_objective("next_item", BothSidesEncoder)


def test_an_objective_may_score_some_states_alone(dataset: Dataset, tmp_path: Path) -> None:
    class LastItem:
        """Of each window, the last event alone."""

        encoders: tuple[Sees, ...] = ("past",)
        appends: Appends = "nothing"

        def examples(self, windows: Histories, random: np.random.Generator) -> Examples:
            every = NEXT_ITEM.examples(windows, random)
            last = every.inputs.offsets[1:] - 1
            return Examples(every.inputs, every.item[last], every.action[last], last)

    config = ModelConfig(len(dataset.items), len(dataset.actions), width=16, max_length=6, dropout=0.0)
    trainer = Trainer(dataset, tmp_path, config, TrainOptions())
    batch = next(replace(trainer.windows, objective=LastItem()).epoch(4, seed=0, epoch=0))
    assert len(batch.next_item) == 4 < len(batch.inputs.item)
    states = trainer.model.encode(batch.inputs, "reference")[batch.inputs.offsets[1:] - 1]
    scores = states @ trainer.model.item_table().T
    expected = nn.functional.cross_entropy(scores, batch.next_item)
    torch.testing.assert_close(trainer.losses(batch)["item"], expected)
