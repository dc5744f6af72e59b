"""The encoder of the torch engine: what it keeps of returning users changes no state, and never grows stale."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from footfall.history import ModelInput
from footfall_engines.batch import NOBODY
from footfall_engines.captured_passes import pad_inputs
from footfall_engines.history_encoder import HistoryEncoder
from footfall_engines.storage import PagedStorage, page_bytes
from footfall_kernels.decode_attention.paged_cache import PagedCache
from footfall_kernels.implementations import ImplementationName
from footfall_models.config import ModelConfig
from footfall_models.graph import RankerGraph
from footfall_models.inputs import PackedInputs
from footfall_models.layouts.layout import Layout
from footfall_models.model import SequenceModel
from footfall_models.registry import EncoderName

CONFIG = ModelConfig(num_items=50, num_actions=3, width=64, num_heads=2, max_length=200)
CPU = torch.device("cpu")
ENCODERS: tuple[EncoderName, ...] = ("softmax", "hstu")
Row = tuple[bytes, int, int]
"""A user's name, seed of the history, and its events."""


def encoder(
    kind: EncoderName = "hstu",
    pages: int = 40,
    implementation: ImplementationName = "reference",
    device: torch.device = CPU,
) -> HistoryEncoder:
    torch.manual_seed(0)
    config = replace(CONFIG, encoder=kind)
    model = SequenceModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("_bias", "wait_embedding.weight")):  # these tables start at 0
                parameter.normal_()
    graph = RankerGraph(model, 10).eval().to(device)
    num_bytes = pages * config.num_layers * page_bytes(config, torch.float32)
    return HistoryEncoder(graph, device, implementation, num_bytes)


def history(rows: list[Row], now: int) -> ModelInput:
    """A history of a seed and n events begins with that of the same seed and fewer, but for the last one's wait.

    now: seconds after a history's last event.
    """
    columns = []
    for _, seed, length in rows:
        random = np.random.default_rng(seed)
        events = random.integers((1, 1, 0, 1), (51, 4, 40, 500), (CONFIG.max_length, 4))[:length]
        time = events[:, 3].cumsum()
        wait, next_time = np.roll(events[:, 2], -1), np.roll(time, -1)
        wait[-1:], next_time[-1:] = now.bit_length() + 1, time[-1:] + now
        columns.append(np.stack([*events.T[:3], wait, time, next_time]).astype(np.int32))
    offsets = np.cumsum([0, *(length for _, _, length in rows)])
    return ModelInput.of(np.concatenate(columns, axis=1), offsets.astype(np.int64))


def states(encoder: HistoryEncoder, rows: list[Row], now: int = 600) -> Tensor:
    with torch.inference_mode():
        return encoder.states(history(rows, now), [user for user, _, _ in rows])


def caches(encoder: HistoryEncoder) -> list[PagedCache]:
    """Every layer's, of an encoder that keeps keys and values."""
    assert isinstance(encoder.cache.storage, PagedStorage)
    return encoder.cache.storage.layers


def check(cached: HistoryEncoder, plain: HistoryEncoder, rows: list[Row], now: int = 600) -> None:
    torch.testing.assert_close(states(cached, rows, now), states(plain, rows, now), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("implementation", ["reference", "triton"])
@pytest.mark.parametrize("kind", ENCODERS)
def test_returning_users_get_the_states_of_a_whole_pass(
    kind: EncoderName, implementation: ImplementationName
) -> None:
    cached, plain = encoder(kind, implementation=implementation), encoder(kind, pages=0)
    check(cached, plain, [(b"anna", 1, 70), (b"bert", 2, 3), (NOBODY, 3, 5), (b"cleo", 4, 0)])
    assert len(cached.cache) == 2
    # Some come back with more events, one with the same, one is new.
    check(cached, plain, [(b"bert", 2, 5), (b"anna", 1, 75), (b"dora", 5, 64)])
    check(cached, plain, [(b"dora", 5, 64), (b"anna", 1, 130), (b"bert", 2, 6)])


def test_what_is_kept_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    cached = encoder()
    states(cached, [(b"anna", 1, 70)])
    encoded: list[int] = []
    model = cached._graph.model
    real = model.encode_in

    def encode_in(layout: Layout, item: Tensor, *rest: Tensor) -> Tensor:
        encoded.append(len(item))
        return real(layout, item, *rest)

    monkeypatch.setattr(model, "encode_in", encode_in)
    states(cached, [(b"anna", 1, 73)])
    states(cached, [(b"anna", 1, 73)])
    assert encoded == [4, 1]  # the last event before waits for another one now, and so is encoded again


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_unchanged_history_asked_about_later_gets_the_state_of_later(kind: EncoderName) -> None:
    cached, plain = encoder(kind), encoder(kind, pages=0)
    rows: list[Row] = [(b"anna", 1, 70), (b"bert", 2, 1)]
    check(cached, plain, rows, now=5)
    check(cached, plain, rows, now=90_000)
    assert not torch.allclose(states(cached, rows, now=5), states(cached, rows, now=90_000), atol=1e-2)
    assert cached.cached_events == 3 * 69


@pytest.mark.parametrize(
    "second", [(b"anna", 7, 80), (b"anna", 1, 69), (b"anna", 1, 0)], ids=["another past", "shorter", "empty"]
)
def test_a_history_that_does_not_continue_the_kept_one_is_encoded_anew(second: Row) -> None:
    cached, plain = encoder(), encoder(pages=0)
    check(cached, plain, [(b"anna", 1, 70)])
    check(cached, plain, [second])
    check(cached, plain, [(b"anna", 1, 71)])


def test_one_user_twice_in_a_batch_is_answered_twice() -> None:
    cached, plain = encoder(), encoder(pages=0)
    check(cached, plain, [(b"anna", 1, 70), (b"anna", 1, 72)])
    check(cached, plain, [(b"anna", 1, 73), (b"anna", 1, 70), (b"anna", 2, 9)])


def test_the_least_recently_used_make_room_and_memory_stays_bounded() -> None:
    cached = encoder(pages=3)
    for user, seed in ((b"anna", 1), (b"bert", 2), (b"cleo", 3)):
        states(cached, [(user, seed, 10)])
    states(cached, [(b"anna", 1, 11)])
    states(cached, [(b"dora", 4, 10)])
    assert set(cached.cache._users) == {b"anna", b"cleo", b"dora"}
    states(cached, [(b"emil", 5, 150)])
    assert set(cached.cache._users) == {b"emil"}
    assert all(layer.k.shape[0] == 3 for layer in caches(cached))


def test_a_user_too_long_for_the_cache_is_still_answered() -> None:
    check(encoder(pages=1), encoder(pages=0), [(b"anna", 1, 150), (b"bert", 2, 7)])


def test_a_pass_that_fails_leaves_nothing_half_written(monkeypatch: pytest.MonkeyPatch) -> None:
    cached, plain = encoder(pages=4), encoder(pages=0)
    check(cached, plain, [(b"anna", 1, 70)])
    last = cached._graph.model.blocks[-1]
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="no memory"):
        patch.setattr(last, "forward", lambda *_: (_ for _ in ()).throw(RuntimeError("no memory")))
        states(cached, [(b"anna", 1, 72), (b"bert", 2, 5)])
    assert len(cached.cache) == 0
    assert [len(layer.free) for layer in caches(cached)] == [4, 4]
    check(cached, plain, [(b"anna", 1, 73), (b"bert", 2, 6)])


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_batch_padded_to_the_size_of_a_graph_has_the_same_states(
    kind: EncoderName,
) -> None:
    plain = encoder(kind, pages=0, implementation="triton")
    inputs = PackedInputs.of(history([(NOBODY, 1, 70), (NOBODY, 2, 1), (NOBODY, 3, 33)], 60), CPU)
    padded = pad_inputs(inputs)
    assert (len(padded.item), len(padded.time), len(padded.offsets)) == (256, 256, 9)
    with torch.inference_mode():
        expected, kept = plain._pass_over(inputs)
        got, kept_padded = plain._pass_over(padded)
    events = len(inputs.item)
    torch.testing.assert_close(got[: len(expected)], expected, atol=1e-4, rtol=1e-4)
    for (key, value), (padded_key, padded_value) in zip(kept, kept_padded, strict=True):
        torch.testing.assert_close(padded_key[:events], key, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(padded_value[:events], value, atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ENCODERS)
def test_graphs_replay_what_the_pass_computes(kind: EncoderName) -> None:
    plain = encoder(kind, pages=0)
    captured = encoder(kind, implementation="triton", device=torch.device("cuda"))
    for rows in (
        [(b"anna", 1, 70), (b"bert", 2, 3)],
        [(b"cleo", 3, 9)],
        [(b"anna", 1, 75), (b"dora", 4, 60)],
    ):
        torch.testing.assert_close(states(captured, rows).cpu(), states(plain, rows), atol=1e-3, rtol=1e-3)


visits = st.lists(
    st.lists(
        st.tuples(st.sampled_from([b"a", b"b", b"c", NOBODY]), st.integers(1, 2), st.integers(0, 140)),
        min_size=1,
        max_size=4,
    ),
    min_size=1,
    max_size=6,
)
nows = st.sampled_from([0, 5, 90_000])


@given(batches=visits, now=nows, pages=st.integers(0, 6), kind=st.sampled_from(ENCODERS))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_whatever_comes_in_whatever_order_the_states_are_those_of_a_whole_pass(
    batches: list[list[Row]], now: int, pages: int, kind: EncoderName
) -> None:
    cached, plain = encoder(kind, pages), encoder(kind, pages=0)
    for number, rows in enumerate(batches):
        check(cached, plain, rows, now * number)
    held = {page for pages in caches(cached)[0].pages for page in pages}
    assert len(held) + len(caches(cached)[0].free) == pages
