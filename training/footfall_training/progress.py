"""Progress of a training run: a bar for people, TensorBoard scalars for later."""

import threading
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from footfall.quiet import is_quiet

SCALARS_EVERY = 20


class TrainingProgress:
    """Shows epoch, loss, events/s, time left; counts `events`, the targets trained on, and `seconds` of training."""

    def __init__(self, folder: Path, num_epochs: int, num_batches: int, batches_done: int) -> None:
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=batches_done)
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/" + str(num_epochs)),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[rate]} events/s"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(
            "", total=num_epochs * num_batches, completed=batches_done, epoch=1, loss="-", rate="-"
        )
        self.events = 0
        self.seconds = 0.0

    def __enter__(self) -> "TrainingProgress":
        threading.excepthook = _say_nothing_of_the_disk
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        try:
            self._writer.close()
        finally:
            threading.excepthook = threading.__excepthook__

    def start_batch(self) -> None:
        self._began = time.perf_counter()

    def batch(
        self, epoch: int, step: int, events: int, losses: dict[str, Tensor], learning_rate: float
    ) -> None:
        """One batch of `events` targets is done; `losses` are scalars still on the device."""
        first = not self.events
        self.seconds += time.perf_counter() - self._began
        self.events += events
        self._bar.advance(self._task)
        if step % SCALARS_EVERY and not first:
            return
        rate = self.events / self.seconds
        for name, loss in losses.items():
            self._writer.add_scalar(f"train/{name}", loss.item(), step)
        self._writer.add_scalar("train/events_per_second", rate, step)
        self._writer.add_scalar("train/learning_rate", learning_rate, step)
        self._bar.update(self._task, epoch=epoch + 1, loss=f"{sum(losses.values()):.3f}", rate=f"{rate:,.0f}")

    def validation(self, epoch: int, step: int, metrics: dict[str, float]) -> None:
        """`epoch`: how many are done."""
        for name, value in metrics.items():
            self._writer.add_scalar(f"validation/{name.replace('@', '_at_')}", value, step)
        if is_quiet():
            return
        self._bar.console.print(f"epoch {epoch}: validation NDCG@10 {metrics['ndcg@10']:.4f}")


def _say_nothing_of_the_disk(args: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread raises a full disk again in `batch` or on closing: its own traceback says no more."""
    if not issubclass(args.exc_type, OSError):
        threading.__excepthook__(args)
