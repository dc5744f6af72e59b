"""An objective beside the next item: it shows what the seam is for, and is nobody's to train with."""

from dataclasses import replace

import numpy as np

from footfall.contract import PADDING_INDEX, UNKNOWN_GAP
from footfall.history import Histories, as_model_input
from footfall_models.appending import MASK_INDEX
from footfall_models.config import Appends
from footfall_models.encoders.encoder import Sees
from footfall_training.objectives import Examples, Tells

SHARE = 0.2


class HiddenEvents:
    """As BERT4Rec (Sun et al., arXiv 1904.06690): of each window the last event, and others by chance, are hidden."""

    tells: Tells = "every event"
    encoders: tuple[Sees, ...] = ("past", "both sides")
    appends: Appends = "mask"

    def examples(self, windows: Histories, random: np.random.Generator) -> Examples:
        last = windows.offsets[1:] - 1
        inputs = as_model_input(windows, windows.time[last])
        hidden = random.random(windows.num_events) < SHARE
        hidden[last] = True
        place = np.flatnonzero(hidden)
        shown = replace(
            inputs,
            item=np.where(hidden, np.int32(MASK_INDEX), inputs.item),
            action=np.where(hidden, np.int32(PADDING_INDEX), inputs.action),
            wait=np.where(hidden, np.int32(UNKNOWN_GAP), inputs.wait),
            next_time=np.where(hidden, inputs.time, inputs.next_time),
        )
        return Examples(shown, windows.item[place], windows.action[place], place)
