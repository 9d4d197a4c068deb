"""Where a command prints, and in which of the two shapes."""

from libs.events.log import Entry
from services.ops.show import Describer, entry_json, event_line, json_line, make_console, print_line
from services.ops.stack import Stack


class Output:
    """One command's output."""

    def __init__(self, stack: Stack, *, as_json: bool, one_order: bool) -> None:
        self.console, self.errors = make_console(), make_console(stderr=True)
        self._epoch, self._as_json = stack.log.epoch, as_json
        self._describer, self._one_order = Describer(stack.find), one_order

    def note(self, why_no_store: str) -> None:
        if why_no_store:
            self.errors.print(f"without the archive: {why_no_store}", style="yellow", markup=False)

    async def event(self, entry: Entry) -> None:
        if self._as_json:
            json_line(entry_json(entry, self._epoch))
        else:
            body = await self._describer.body(entry)
            short = self.console.is_terminal
            print_line(self.console, event_line(entry, body, order_known=short and self._one_order, short=short))
