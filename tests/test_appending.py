"""Appending: a model whose objective hides events puts a mask behind a history when it is asked, in every engine."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from conftest import MAX_LENGTH
from other_encoders import OTHERS
from other_objectives import HiddenEvents
from test_encoder_seams import history
from test_replay import ranks, served_answers

from footfall.contract import PADDING_INDEX, UNKNOWN_GAP
from footfall.history import ModelInput, model_input, pad
from footfall.metrics import ranking_metrics
from footfall_data.dataset import Dataset
from footfall_engines.batch import NOBODY, Batch, IndexLists
from footfall_engines.engine import load_engine
from footfall_engines.history_encoder import HistoryEncoder
from footfall_engines.repository import Repository
from footfall_export.export import export
from footfall_export.options import ExportOptions
from footfall_models.appending import MASK_INDEX, append_packed, append_padded
from footfall_models.config import ModelConfig
from footfall_models.graph import RankerGraph
from footfall_models.inputs import PackedInputs
from footfall_models.model import SequenceModel
from footfall_models.registry import ENCODERS, EncoderName
from footfall_training.checkpoint import Checkpoint
from footfall_training.evaluation.evaluation import evaluate
from footfall_training.objectives import OBJECTIVES
from footfall_training.options import ObjectiveName, TrainOptions
from footfall_training.train import train

CPU = torch.device("cpu")
LENGTHS = (3, 1, 12, 2)


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OBJECTIVES, cast(ObjectiveName, "hidden"), HiddenEvents())
        for name, place in OTHERS.items():
            patch.setitem(ENCODERS, cast(EncoderName, name), place)
        yield


def with_masks(events: ModelInput) -> ModelInput:
    """One history after the other: the mask happens when the last event's next one does."""
    columns = np.stack(events.columns)
    parts = []
    for start, end in zip(events.offsets[:-1], events.offsets[1:], strict=True):
        wait, next_time = columns[3, end - 1], columns[5, end - 1]
        mask = [MASK_INDEX, PADDING_INDEX, wait, UNKNOWN_GAP, next_time, next_time]
        parts += [columns[:, start:end], np.array(mask, dtype=np.int32)[:, None]]
    return ModelInput.of(np.concatenate(parts, axis=1), events.offsets + np.arange(len(events.offsets)))


def test_a_mask_is_appended_to_packed_and_to_padded_histories_alike() -> None:
    events = history(LENGTHS)
    expected = with_masks(events)
    got = append_packed(PackedInputs.of(events, CPU))
    for name, tensor in vars(PackedInputs.of(expected, CPU)).items():
        torch.testing.assert_close(vars(got)[name], tensor, msg=name)
    item, action, gap, wait, *times = (
        torch.from_numpy(pad(column, events.offsets, 12)) for column in events.columns
    )
    padded, length = append_padded(
        (item, action, gap, wait, torch.stack(times, -1)), torch.tensor(LENGTHS).unsqueeze(1)
    )
    assert length.flatten().tolist() == [count + 1 for count in LENGTHS]
    columns = (*padded[:4], *padded[4].unbind(-1))
    for column, values in zip(columns, expected.columns, strict=True):
        rows = [row[:count] for row, count in zip(column, length.flatten().tolist(), strict=True)]
        assert torch.cat(rows).tolist() == values.tolist()


@pytest.mark.parametrize("family", ["softmax", "hstu", "gru4rec"])
def test_a_cache_changes_no_state_of_a_model_that_appends(family: str) -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        num_items=30,
        num_actions=3,
        width=16,
        max_length=12,
        encoder=cast(EncoderName, family),
        appends="mask",
    )
    model = SequenceModel(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("_bias", "mask_embedding.weight")):
            torch.nn.init.normal_(parameter)
    cached, plain = (HistoryEncoder(RankerGraph(model, 5), CPU, "reference", size) for size in (1 << 16, 0))
    users = (b"anna", b"bert", NOBODY)
    with torch.inference_mode():
        cached.states(history((3, 1, 2)), users)
        for lengths in ((3, 2, 1), (4, 2, 6), (12, 3, 12)):
            events = history(lengths)
            states = cached.states(events, users)
            torch.testing.assert_close(states, plain.states(events, users), atol=1e-5, rtol=1e-5)
            shown = PackedInputs.of(with_masks(events), CPU)
            slow = model.encode(shown, "reference")[shown.offsets[1:] - 1]
            torch.testing.assert_close(states, slow, atol=1e-5, rtol=1e-5)
    # As without a mask: of anna 2, then of both all but the last event; histories thrice as long are encoded anew.
    assert cached.cached_events == 2 + 2 + 1


@pytest.fixture(scope="module")
def checkpoint(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Of an encoder that sees both sides, trained to tell hidden events."""
    out = tmp_path_factory.mktemp("hidden") / "checkpoint"
    config = ModelConfig(
        len(dataset.items),
        len(dataset.actions),
        width=16,
        max_length=MAX_LENGTH,
        encoder=cast(EncoderName, "both sides"),
    )
    train(
        dataset, out, config, TrainOptions(objective=cast(ObjectiveName, "hidden"), epochs=2, warmup_steps=10)
    )
    return Checkpoint.open(out)


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_an_engine_appends_what_its_checkpoint_says(
    checkpoint: Checkpoint, tmp_path: Path, engine: str
) -> None:
    assert checkpoint.config.appends == "mask"
    made = export(checkpoint.folder, tmp_path / "repository", ExportOptions(engine=engine))
    assert made["parity"]["differences"]["user_vector"] < 1e-4
    samples, model = checkpoint.samples, checkpoint.load_model()
    inputs = model_input(samples.histories, samples.now, MAX_LENGTH)
    assert np.diff(inputs.offsets).max() == MAX_LENGTH, "the longest history must get its mask, too"
    none = IndexLists.of([np.zeros(0, np.int32)] * samples.histories.num_users)
    vector = load_engine(Repository(tmp_path / "repository").version(1)).score(Batch(inputs, none, none))
    with torch.inference_mode():
        asked = model.known_waits(*(getattr(PackedInputs.of(inputs, CPU), name) for name in ("wait", "time")))
        wait, times = (values.numpy().astype(np.int32) for values in asked)
        known = replace(inputs, wait=wait, next_time=times[:, 1])
        shown, bare = PackedInputs.of(with_masks(known), CPU), PackedInputs.of(known, CPU)
        expected, other = (model.encode(of, "reference")[of.offsets[1:] - 1] for of in (shown, bare))
    np.testing.assert_allclose(vector.user_vector, expected, atol=1e-4)
    assert np.abs(vector.user_vector - other.numpy()).max() > 1


def test_a_server_gives_the_metrics_of_evaluate(
    checkpoint: Checkpoint, dataset: Dataset, tmp_path: Path
) -> None:
    answers = served_answers(checkpoint.folder, dataset, tmp_path / "repository")
    expected = evaluate(checkpoint.folder, dataset)["ranking"]["model"]
    assert ranking_metrics(ranks(answers, dataset)) == pytest.approx(expected, abs=1e-6)
