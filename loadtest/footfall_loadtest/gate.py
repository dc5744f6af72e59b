"""Gate: whether what a load test measured is good enough."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from footfall.errors import InputError
from footfall.flag import Flag


@dataclass(frozen=True)
class Gate:
    """None: no limit."""

    p99_ms: Annotated[float | None, Flag("Fail where a protocol's p99 is above.")] = None
    max_error_rate: Annotated[float, Flag("Fail where a larger share of the requests fail.")] = 0.0
    min_rate: Annotated[
        float | None, Flag("Fail where less than this share of the intended rate was answered well, in time.")
    ] = None

    def __post_init__(self) -> None:
        for name, share in (("max error rate", self.max_error_rate), ("min rate", self.min_rate)):
            if share is not None and not 0 <= share <= 1:
                raise InputError(f"{name} is {share:g}, it must be in 0..1")

    def check(self, report: Mapping[str, Any]) -> None:
        """Raises InputError, which ends the command with an error, where a limit is passed or nothing was asked."""
        for protocol, one in report["protocols"].items():
            if not one["requests"]:
                raise InputError(f"the load test made no request at all over {protocol}")
        for swap in report["swaps"]:
            if swap["error"]:
                raise InputError(f"the swap failed: {swap['error']}")
        total = report["total"]
        if (rate := total["failures"] / total["requests"]) > self.max_error_rate:
            kinds = ", ".join(f"{count} {kind}" for kind, count in report["failures"].items())
            raise InputError(
                f"{total['failures']} of {total['requests']} requests failed, {rate:.2%}, at most"
                f" {self.max_error_rate:.2%} may: {kinds}"
            )
        for protocol, one in report["protocols"].items():
            if self.p99_ms is not None and one["p99_ms"] > self.p99_ms:
                raise InputError(
                    f"p99 over {protocol} is {one['p99_ms']:.1f} ms, at most {self.p99_ms:g} ms may be"
                )
        share = total["requests_per_second"] / report["intended_per_second"]
        if self.min_rate is not None and share < self.min_rate:
            raise InputError(
                f"{total['requests_per_second']:.1f} requests a second were answered well, {share:.1%} of the"
                f" {report['intended_per_second']:.1f} intended; at least {self.min_rate:.1%} must be"
            )
