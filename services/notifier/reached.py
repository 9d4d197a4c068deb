"""How far the tail is, and which listeners were told of more than that."""

import asyncio
from collections.abc import Mapping

from libs.events.ids import Cursor, Position, partition_of_user
from libs.events.log import Reads
from services.notifier.limits import Limits
from services.notifier.listeners import Listeners
from services.notifier.subscriber import Subscriber
from services.notifier.wire import Message


class Reached:
    """Of the partitions, and of listeners whose snapshot or history goes beyond it."""

    def __init__(self, log: Reads, listeners: Listeners, limits: Limits) -> None:
        self._log, self._listeners, self._limits = log, listeners, limits
        self._at: Mapping[int, Position] = {}
        self._ahead: dict[Subscriber, Position] = {}
        self.epoch = log.epoch
        """Of the log the tail reads. Another may be open already, where the same positions are other events: a listener
        that was told of these must not go on there.
        """

    def of(self, user: str) -> Position | None:
        """Where the tail is in what happens to this user; None: it has not begun."""
        return self._at.get(partition_of_user(user, self._log.partitions))

    @property
    def in_another_log(self) -> bool:
        """Whether what is read now is of another log than the tail's, and what stands where is not comparable."""
        return self._log.epoch != self.epoch

    def is_ahead(self, subscriber: Subscriber, tip: Position) -> None:
        """It was told of what is up to there, until the tail is there too."""
        self._ahead[subscriber] = tip

    def forget(self, subscriber: Subscriber) -> None:
        """It has gone."""
        self._ahead.pop(subscriber, None)

    def start_over(self) -> None:
        """Everybody is told anew."""
        self._ahead.clear()
        self.epoch = self._log.epoch

    def settle(self, at: Mapping[int, Position]) -> None:
        """The tail is here: listeners whose snapshot is older need not compare versions any more."""
        self._at = at
        for subscriber, tip in list(self._ahead.items()):
            partition = partition_of_user(subscriber.user, self._log.partitions)
            if at[partition].position >= tip.position and subscriber.settle():
                del self._ahead[subscriber]

    async def beat(self) -> None:
        """Send everybody who is up to date a heartbeat: a sign of life, with a cursor to come back to."""
        beats = self._beats()
        for number, subscriber in enumerate(self._listeners, start=1):
            if subscriber.live and subscriber not in self._ahead and beats:
                subscriber.send(beats[partition_of_user(subscriber.user, self._log.partitions)])
            if number % self._limits.writes_at_once == 0:
                await asyncio.sleep(0)  # others have their turn
                beats = self._beats()  # the tail may have gone on: nobody may be sent a cursor behind what was told

    def _beats(self) -> dict[int, Message]:
        return {
            partition: Message({"type": "heartbeat", "cursor": cursor}, kind="heartbeat", cursor=cursor)
            for partition, at in self._at.items()
            for cursor in [str(Cursor(self.epoch, partition, at))]
        }
