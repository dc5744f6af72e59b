"""The plain graph: what a careful engineer exports of the same checkpoint, without what Footfall's export adds.

Every position goes through every layer, the last state is taken, the catalogue is scored, seen items are masked, and
the longest list is cut out by topk.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from footfall_models.model import SequenceModel

INPUTS = (
    "history_item",
    "history_action",
    "history_gap",
    "history_wait",
    "history_time",
    "history_next_time",
    "history_length",
    "excluded_index",
)
OUTPUTS = ("index", "score", "probability")
MAX_TOP_K = 100


class PlainGraph(nn.Module):
    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        item: Tensor,
        action: Tensor,
        gap: Tensor,
        wait: Tensor,
        time: Tensor,
        next_time: Tensor,
        length: Tensor,
        excluded: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """int32 [users, events] each, length [users, 1], excluded [users, any] -> OUTPUTS, the lists [users, k]."""
        times = torch.stack([time, next_time], dim=-1)
        hidden = self.model.encode_padded(item.long(), action.long(), gap.long(), wait.long(), times, length)
        place = (length.long() - 1).unsqueeze(2).expand(-1, -1, hidden.shape[2])
        state = hidden.gather(1, place).squeeze(1)
        score = state @ self.model.item_table().T
        score = score.scatter(1, excluded.long(), -torch.inf)
        score[:, 0] = -torch.inf
        best = score.topk(min(MAX_TOP_K, score.shape[1] - 1), dim=1)
        return best.indices.int(), best.values, self.model.head("action").describe(state)


def write_plain_graph(model: SequenceModel, path: Path) -> None:
    """As ONNX, batch and lengths free."""
    one, many = torch.export.Dim.DYNAMIC, torch.export.Dim.DYNAMIC
    example = [torch.ones(3, 1 if name == "history_length" else 5, dtype=torch.int32) for name in INPUTS]
    shapes = tuple({0: one} if name == "history_length" else {0: one, 1: many} for name in INPUTS)
    program = torch.onnx.export(
        PlainGraph(model).eval(),
        tuple(example),
        dynamo=True,
        dynamic_shapes=shapes,
        opset_version=20,
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        verbose=False,
    )
    assert program is not None
    program.save(str(path), external_data=False)
