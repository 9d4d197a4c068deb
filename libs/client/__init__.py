"""A client for Swaplog's API: places orders without fear of repeats, and watches them across every disconnect.

It stands alone: it needs aiohttp and nothing else of this project.
"""

from libs.client.client import Client
from libs.client.entry import Entry
from libs.client.errors import ApiError, NotSettled, SwaplogError, Unreachable
from libs.client.transport import RateLimit
from libs.client.types import TERMINAL, Event, Order, Quote

__all__ = [
    "TERMINAL",
    "ApiError",
    "Client",
    "Entry",
    "Event",
    "NotSettled",
    "Order",
    "Quote",
    "RateLimit",
    "SwaplogError",
    "Unreachable",
]
