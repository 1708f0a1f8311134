"""How much of one client a connection holds, and for how long it waits. Pure."""

from __future__ import annotations

from typing import Final

BACKLOG_MAX: Final = 100
"""Values waiting behind a command that needs the log; beyond it the socket is not read. One array may go over it."""
BACKLOG_BYTES_MAX: Final = 2_097_152
"""The same in bytes: more than the window of an upload over text (4 chunks of 350 KB), so that no polite client meets it. Without
it a hundred messages of the size limit would be 100 MB a socket."""
JOIN_BYTES_MAX: Final = 16_384
"""What one tick brings is joined into writes of about this size; with larger ones a thousand short answers would each copy all
before it."""
UNREAD_BYTES_MAX: Final = 1_048_576
"""Answers written to a client that does not read, beyond a full write buffer, before nothing more is taken of it. One may go over
it. Without it fifty questions for history cost fifty pages of memory."""
PACE_REST_S: Final = 0.05
"""How long nothing is taken of a user whose frames come faster than all limits together allow (`RateLimiter.is_in_pace`)."""
ANSWER_BEFORE_RESTART_S: Final = 1.0
"""How long a restart waits for a command under way. A replay may take longer: its client comes back with its cursor."""
