"""A step of a loss that draws: it computes what a pass over the whole item table would, and makes none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from other_objectives import HiddenEvents
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from footfall_data.dataset import Dataset
from footfall_models.appending import MASK_INDEX
from footfall_models.config import ModelConfig
from footfall_training.batches import Batch
from footfall_training.optimizers import RowwiseAdagrad
from footfall_training.options import TrainOptions
from footfall_training.touched import Touched
from footfall_training.train import Trainer

OPTIONS = TrainOptions(batch_size=2, loss="sampled", num_negatives=8, warmup_steps=0, max_grad_norm=0.01)


def trainer_of(dataset: Dataset, folder: Path, options: TrainOptions = OPTIONS) -> Trainer:
    config = ModelConfig(len(dataset.items), len(dataset.actions), width=16, max_length=10, dropout=0.0)
    trainer = Trainer(dataset, folder, config, options)
    trainer.model.eval()  # waits are not hidden
    return trainer


def batches(trainer: Trainer, count: int) -> list[Batch]:
    epoch = trainer.windows.epoch(trainer.options.batch_size, seed=0, epoch=0)
    return [next(epoch) for _ in range(count)]


def test_a_step_touches_the_items_of_its_batch_and_draw_and_finds_them_again(
    dataset: Dataset, tmp_path: Path
) -> None:
    trainer = trainer_of(dataset, tmp_path)
    (batch,) = batches(trainer, 1)
    torch.manual_seed(3)
    touched = Touched.by(batch, trainer._negatives)
    torch.manual_seed(3)
    assert trainer._negatives is not None
    draw = trainer._negatives.draw()
    rows = touched.rows
    assert rows is not None and touched.negative is not None and touched.log_q is not None
    for place, item in (
        (touched.read, batch.inputs.item),
        (touched.target, batch.next_item),
        (touched.negative, draw),
    ):
        assert torch.equal(rows[place], item)
        assert (place > 0).all()
    every = torch.cat([torch.zeros(1), batch.inputs.item, batch.next_item, draw])
    assert rows.tolist() == sorted(set(every.int().tolist()))
    assert torch.equal(touched.log_q, trainer._negatives.log_expected[rows])


def test_hidden_events_stay_hidden(dataset: Dataset, tmp_path: Path) -> None:
    trainer = trainer_of(dataset, tmp_path)
    events = replace(trainer.windows, objective=HiddenEvents())
    batch = next(events.epoch(2, seed=0, epoch=0))
    touched = Touched.by(batch, trainer._negatives)
    assert torch.equal(touched.read == MASK_INDEX, batch.inputs.item == MASK_INDEX)
    shown = batch.inputs.item != MASK_INDEX
    assert touched.rows is not None and 0 < shown.sum() < len(shown)
    assert torch.equal(touched.rows[touched.read[shown]], batch.inputs.item[shown])
    assert touched.rows[0] == 0


def test_the_loss_and_its_gradients_are_those_over_the_whole_table(dataset: Dataset, tmp_path: Path) -> None:
    trainer = trainer_of(dataset, tmp_path)
    (batch,) = batches(trainer, 1)
    torch.manual_seed(3)
    loss = trainer.losses(batch)["item"]
    loss.backward()  # type: ignore[no-untyped-call]
    ids = trainer.model.item_ids()
    assert ids.grad is not None and ids.grad.is_sparse
    found = ids.grad.to_dense()

    torch.manual_seed(3)
    assert trainer._negatives is not None
    draw, log_q = trainer._negatives.draw(), trainer._negatives.log_expected
    whole = ids.detach().clone().requires_grad_()
    table = functional.normalize(whole, dim=1)
    states = trainer.model.encode(batch.inputs, "reference", table)
    others = states @ table[draw].T - log_q[draw]
    others = others.masked_fill(draw == batch.next_item[:, None], -torch.inf)
    own = (states * table[batch.next_item]).sum(1, keepdim=True)
    expected = functional.cross_entropy(torch.cat([own, others], 1), torch.zeros_like(batch.next_item))
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(found, whole.grad)


class Long(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each operation that has to do with a tensor as long as the catalogue."""

    def __init__(self, lengths: tuple[int, ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._lengths = lengths
        self.met: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, made)):
            if isinstance(tensor, Tensor) and not tensor.is_sparse and self._is_long(tensor):
                self.met.add(func._schema.name.removeprefix("aten::"))
        return made

    def _is_long(self, tensor: Tensor) -> bool:
        return tensor.dim() > 0 and tensor.shape[0] in self._lengths


def test_no_operation_of_a_step_passes_over_the_table(dataset: Dataset, tmp_path: Path) -> None:
    items = len(dataset.items)
    for loss, passes in (("sampled", False), ("full", True)):
        trainer = trainer_of(dataset, tmp_path, replace(OPTIONS, loss=loss))  # type: ignore[arg-type]
        first, second = batches(trainer, 2)
        trainer.step(first)
        with Long((items, items + 1)) as long:
            trainer.step(second)
        # These read or write the rows they are told, `searchsorted` about log2(items) of the sums of negatives.
        by_row = {"embedding", "index", "index_add_", "searchsorted", "select", "detach", "view"}
        assert bool(long.met - by_row) == passes, long.met
        assert ("index_add_" in long.met) != passes


def test_rows_that_a_step_does_not_touch_stay_bit_for_bit(dataset: Dataset, tmp_path: Path) -> None:
    trainer = trainer_of(dataset, tmp_path)
    (batch,) = batches(trainer, 1)
    before = trainer.model.item_ids().detach().clone()
    torch.manual_seed(3)
    rows = Touched.by(batch, trainer._negatives).rows
    torch.manual_seed(3)
    trainer.step(batch)
    changed = (trainer.model.item_ids() != before).any(dim=1)
    assert rows is not None
    assert changed.nonzero().flatten().tolist() == rows[1:].tolist()  # padding stays 0


def test_gradients_are_clipped_together_over_the_rows_and_the_rest(dataset: Dataset, tmp_path: Path) -> None:
    trainer = trainer_of(dataset, tmp_path)
    trainer.step(batches(trainer, 1)[0])
    gradients = [parameter.grad for parameter in trainer.model.parameters()]
    assert sum(gradient.is_sparse for gradient in gradients if gradient is not None) == 1
    squares = [gradient.to_dense().square().sum() for gradient in gradients if gradient is not None]
    norm = torch.stack(squares).sum().sqrt()
    assert norm == pytest.approx(OPTIONS.max_grad_norm, rel=1e-3)


def test_rowwise_adagrad_is_its_definition() -> None:
    torch.manual_seed(0)
    table = torch.nn.Parameter(torch.randn(6, 4))
    expected, sums = table.detach().double().clone(), torch.zeros(6).double()
    optimizer = RowwiseAdagrad([table], lr=0.3)
    for rows in ([1, 4], [4, 5, 0], [1, 4]):
        gradient = torch.randn(len(rows), 4)
        table.grad = torch.sparse_coo_tensor(
            torch.tensor([rows]), gradient, table.shape, check_invariants=True
        )
        optimizer.step()
        for row, values in zip(rows, gradient.double(), strict=True):
            sums[row] += values.square().mean()
            expected[row] -= 0.3 * values / sums[row].sqrt()
    torch.testing.assert_close(table.detach().double(), expected)
    assert torch.equal(sums > 0, torch.tensor([True, True, False, False, True, True]))


def test_a_run_of_sampled_steps_resumes_to_bit_equal_weights(dataset: Dataset, tmp_path: Path) -> None:
    trainer = trainer_of(dataset, tmp_path)
    steps = batches(trainer, 4)
    for batch in steps[:2]:
        trainer.step(batch)
    trainer.save()
    for batch in steps[2:]:
        trainer.step(batch)
    again = trainer_of(dataset, tmp_path)
    for batch in steps[2:]:
        again.step(batch)
    for name, weight in trainer.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name]), name
