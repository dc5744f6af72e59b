"""Times training batches of RecTools' SASRec; runs under the Python of RecTools' own environment.

Arguments: a CSV of training events (user_id, item_id, datetime), the shape as JSON, and how many batches.
Prints one JSON line: events (targets that are not padding) and seconds of those batches, data loading included.
"""

import json
import logging
import sys
import time
import warnings
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
import torch
from pytorch_lightning import Callback, Trainer  # type: ignore[import-not-found]
from rectools import Columns  # type: ignore[import-not-found]
from rectools.dataset import Dataset  # type: ignore[import-not-found]
from rectools.models import SASRecModel  # type: ignore[import-not-found]

WARM_UP_BATCHES = 3


class Stopwatch(Callback):  # type: ignore[misc]
    """From the end of the last warm-up batch to the end of the last batch."""

    def __init__(self) -> None:
        self.events = 0
        self.began = self.ended = 0.0

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.ended = time.perf_counter()
        if batch_idx < WARM_UP_BATCHES:
            self.began = self.ended
        else:
            self.events += int((batch["y"] != 0).sum())


def main(log: str, shape: dict[str, Any], num_batches: int) -> None:
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    events = pd.read_csv(log, parse_dates=["datetime"])
    events.columns = [Columns.User, Columns.Item, Columns.Datetime]
    events[Columns.Weight] = 1.0
    stopwatch = Stopwatch()

    def trainer() -> Any:
        return Trainer(
            max_steps=WARM_UP_BATCHES + num_batches,
            accelerator="cpu",
            devices=1,
            callbacks=[stopwatch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    model = SASRecModel(
        n_blocks=shape["layers"],
        n_heads=shape["heads"],
        n_factors=shape["width"],
        dropout_rate=shape["dropout"],
        session_max_len=shape["length"],
        batch_size=shape["batch"],
        loss="softmax",
        get_trainer_func=trainer,
    )
    model.fit(Dataset.construct(events))
    # RecTools copies its trainer, and the callback with it, before it trains.
    (used,) = (one for one in model.fit_trainer.callbacks if isinstance(one, Stopwatch))
    seconds = used.ended - used.began
    print(json.dumps({"events": used.events, "seconds": seconds, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]))
