"""Something the chain is asked for and does not give: said once when it begins, and once when it is over."""

from dataclasses import dataclass, field

from libs.events.order import Order
from services.executor import observe


@dataclass(slots=True)
class Outage:
    """One for each thing that is asked: a node may do one and not the other. `what`: in the past tense."""

    what: str
    _orders: set[str] = field(default_factory=set)

    def met(self, order: Order) -> bool:
        """An order has to wait for it. True: it is the first."""
        begins = not self._orders
        self._orders.add(order.id)
        return begins

    def over(self) -> None:
        """The chain has answered, if only to refuse."""
        if self._orders:
            observe.outage_over(self.what, len(self._orders))
            self._orders.clear()
