"""Messages on their way from the thread that reads them to the one that asks for them."""

from __future__ import annotations

import threading
from collections import deque

from ..contract.messages import Message, ProgressMessage, WarningMessage

_MAX_WAITING_MESSAGES = 1_000


class MessageQueue:
    """Messages from the reading thread to the polling one, bounded however seldom they are taken.

    A progress replaces an untaken one of the same phase; warnings beyond the bound are dropped.
    """

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._lock = threading.Lock()
        self.arrived = threading.Event()

    def put(self, message: Message) -> None:
        """Add a message."""
        with self._lock:
            last = self._messages[-1] if self._messages else None
            if _is_same_phase(last, message):
                self._messages.pop()
            is_news = isinstance(message, ProgressMessage | WarningMessage)
            if not (is_news and len(self._messages) >= _MAX_WAITING_MESSAGES):
                self._messages.append(message)
        self.arrived.set()

    def take(self, limit: int) -> list[Message]:
        """Remove and return the oldest messages."""
        self.arrived.clear()
        with self._lock:
            return [self._messages.popleft() for _ in range(min(limit, len(self._messages)))]

    def __len__(self) -> int:
        return len(self._messages)


def _is_same_phase(first: Message | None, second: Message) -> bool:
    return (
        isinstance(first, ProgressMessage)
        and isinstance(second, ProgressMessage)
        and (first.phase, first.job) == (second.phase, second.job)
    )
