"""RetryBudget: keeps the retries of many calls from adding to the overload they wait for."""

TOKENS = 256.0
"""Half of them may be spent at once: a burst of so many refusals is all tried again."""
PER_ANSWER = 0.1


class RetryBudget:
    """Of one client, as gRPC's retry throttling (gRFC A6): a refusal takes a token, an answer gives a tenth of one,
    and nothing is tried again below half of all.

    At three times what a server can answer, that is one attempt a call in place of four. Threads may lose a token to
    each other, which harms nobody.
    """

    def __init__(self) -> None:
        self._tokens = TOKENS

    def answered(self) -> None:
        self._tokens = min(self._tokens + PER_ANSWER, TOKENS)

    def refused(self) -> bool:
        """Whether the refused call may be tried again."""
        self._tokens = max(self._tokens - 1.0, 0.0)
        return self._tokens >= TOKENS / 2
