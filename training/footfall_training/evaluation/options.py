"""EvaluateOptions: what `footfall evaluate` asks and where it computes. Light, so that the command's help is too."""

from dataclasses import dataclass
from typing import Annotated, get_args

from footfall.errors import check_choice
from footfall.flag import Flag
from footfall_data.dataset import SPLIT_NAMES, SplitName
from footfall_kernels.implementations import ImplementationName
from footfall_models.config import check_device_name
from footfall_training.evaluation.ranking import Part


@dataclass(frozen=True)
class EvaluateOptions:
    """split None: the checkpoint's. implementation None: the device's (see footfall_models.device)."""

    split: Annotated[
        SplitName | None, Flag("How events are held out; left out: as the checkpoint was trained.")
    ] = None
    part: Annotated[Part, Flag("Which held-out event.")] = "test"
    keep_seen: Annotated[bool, Flag("Rank items of the history too.")] = False
    device: Annotated[str, Flag("cpu, cuda or cuda:N.")] = "cpu"
    implementation: Annotated[
        ImplementationName | None,
        Flag("Of the kernels; by default triton on cuda, reference (plain torch) on cpu."),
    ] = None

    def __post_init__(self) -> None:
        if self.split is not None:
            check_choice("split", self.split, SPLIT_NAMES)
        check_choice("part", self.part, get_args(Part))
        check_device_name(self.device)
        if self.implementation is not None:
            check_choice("implementation", self.implementation, get_args(ImplementationName))
