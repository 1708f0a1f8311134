"""When to try again, and when to give up. Pure: the jitter is passed in."""

from __future__ import annotations

from dataclasses import dataclass

from consumers.groups.handler import FailureContext, Park, Retry


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Delays that grow to a bound, and a bound on attempts.

    Attributes:
        attempts_max: deliveries before the work is parked. Five cover about 40 s: a Redis failover, a restarted provider.
        first_s: delay before the second attempt.
        factor: what each further delay is multiplied by.
        longest_s: no delay is longer; the channel stands still meanwhile.
    """

    attempts_max: int = 5
    first_s: float = 0.5
    factor: float = 4.0
    longest_s: float = 30.0

    def delay_s(self, attempt: int, jitter: float) -> float:
        """The delay after this attempt, in seconds. `jitter` in [0, 1) spreads it between half and the whole."""
        whole = min(self.first_s * self.factor ** max(0, attempt - 1), self.longest_s)
        return whole * (0.5 + jitter / 2)

    def decide(self, context: FailureContext, jitter: float, after_s: float | None = None) -> Retry | Park:
        """Retry with its delay, or park once the attempts are used up."""
        if context.attempt >= self.attempts_max:
            return Park(f"{context.reason} (attempt {context.attempt} of {self.attempts_max})")
        return Retry(context.reason, self.delay_s(context.attempt, jitter) if after_s is None else after_s)
