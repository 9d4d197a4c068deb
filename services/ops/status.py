"""Where everything stands: the log, the projection behind it, the work waiting, what was set aside."""

from typing import Any

from rich.console import Console
from rich.table import Table

from libs.events.reactions import WORKERS
from libs.events.upkeep import TIGHT_FROM, Pressure
from services.ops.history import tips
from services.ops.parking import PARKED_MAX
from services.ops.stack import Stack

MIB = 1024 * 1024
_ROOM = {
    "ok": ("green", ""),
    "tight": ("yellow", ": orders that wait for a price are refused, archived events trimmed early"),
    "full": ("red", ": new orders are refused"),
}


async def read_status(stack: Stack, memory_max_bytes: int) -> dict[str, Any]:
    """The stack's numbers, for people and programs; `projected` is None where Postgres does not know the partition.

    `memory_max_bytes`: of Redis, beyond which gateways refuse new orders.
    """
    ends = await tips(stack.log, range(stack.log.partitions))
    checkpoints = await stack.store.checkpoints() if stack.store else {}
    partitions = []
    for partition, tip in ends.items():
        checkpoint = checkpoints.get(partition)
        projected = checkpoint.at.position if checkpoint and checkpoint.epoch == stack.log.epoch else None
        lag = None if projected is None else max(0, tip.position - projected)
        partitions.append({"partition": partition, "tip": str(tip), "projected": projected, "lag": lag})
    pressure = await stack.log.pressure()
    return {
        "epoch": stack.log.epoch,
        "partitions": partitions,
        "backlog": {service: await stack.log.backlog(service) for service in WORKERS},
        "parked": len(await stack.log.parked(PARKED_MAX)),
        "memory": memory_of(pressure, memory_max_bytes),
        "archive": stack.why_no_store or "ok",
    }


def memory_of(pressure: Pressure, max_bytes: int) -> dict[str, Any]:
    """Bytes of Redis, used and allowed, and how it stands: `ok`, `tight` or `full`."""
    fullness = pressure.fullness(max_bytes)
    state = "full" if fullness > 1 else "tight" if fullness >= TIGHT_FROM else "ok"
    return {"used": pressure.memory_bytes, "allowed": pressure.allowed_bytes(max_bytes), "state": state}


def print_status(status: dict[str, Any], console: Console) -> None:
    """For people."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("partition", "log ends at", "projected to", "behind by"):
        table.add_column(title, justify="right")
    for row in status["partitions"]:
        lag = row["lag"]
        style = "green" if lag == 0 else "yellow" if lag is not None else "red"
        values = (row["partition"], row["tip"], "-" if row["projected"] is None else row["projected"])
        table.add_row(*map(str, values), f"[{style}]{'?' if lag is None else lag}[/]")
    console.print(f"log [bold]{status['epoch']}[/]\n")
    console.print(table)
    console.print()
    for service, waiting in status["backlog"].items():
        console.print(f"{service:<9} {waiting} waiting or in hand")
    many = "+" if status["parked"] == PARKED_MAX else ""
    hint = ": `swaplog parked` lists them" if status["parked"] else ""
    console.print(f"{'parked':<9} [{'red' if status['parked'] else 'green'}]{status['parked']}{many}[/]{hint}")
    memory = status["memory"]
    style, means = _ROOM[memory["state"]]
    console.print(f"{'memory':<9} [{style}]{memory['used'] / MIB:.0f} of {memory['allowed'] / MIB:.0f} MiB{means}[/]")
    if status["archive"] != "ok":
        console.print("archive   ", end="")
        console.print(status["archive"], style="red", markup=False)
