"""Follow every event of Swaplog from Redis, without any of its code: only `pip install redis`.

    python tap.py [--url redis://host:6379/0] [--cursors tap.cursors] [--once]

The URL may be that of any node of a Redis Cluster. Prints one JSON document per event, in the order of each partition.
A file remembers where it is, so that the next run goes on there. After a crash an event may be printed again (drop
repeats by `id`); none is left out: a hole stops it. Its first run begins with the oldest that is left.
"""

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisClusterException

COUNT = 500  # entries per read: never read a stream without a limit
BLOCK_MS = 1_000
PAUSE_S = 0.1  # on a cluster, between two looks when nothing came


class Stop(Exception):
    """Going on would lose events: a person must look."""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--url", default=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
    options.add_argument(
        "--cursors", type=Path, default=Path("tap.cursors"), help="the file that remembers where it is"
    )
    options.add_argument("--once", action="store_true", help="stop at the end instead of waiting for more")
    given = options.parse_args()
    try:
        with connected(given.url) as client:
            tap(client, given.cursors, once=given.once)
    except (KeyboardInterrupt, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever reads us may be gone
    # A URL that is none is a ValueError, a file that cannot be used an OSError.
    except (Stop, redis.RedisError, RedisClusterException, ValueError, OSError) as reason:
        print(f"tap: {reason}", file=sys.stderr)
        return 1
    return 0


def connected(url: str) -> Any:
    """A client of the one server there, or of the cluster it is a node of."""
    # Protocol 2, because replies of XREAD have another shape in 3.
    client = redis.Redis.from_url(url, decode_responses=True, protocol=2)
    server = client.info("server")
    if "cluster" not in {server.get("redis_mode"), server.get("server_mode")}:  # Redis' word, and Valkey's
        return client
    client.close()
    return redis.RedisCluster.from_url(url, decode_responses=True, protocol=2)


def read(client: Any, after: dict[str, str], *, wait: bool) -> list[Any]:
    """What comes after these ids of these streams; empty when there is nothing, or not yet."""
    if not isinstance(client, redis.RedisCluster):
        return list(client.xread(after, count=COUNT, block=BLOCK_MS if wait else None))
    # There one call may not name two of them, and one that waits would keep the others waiting.
    found = [part for stream, last in after.items() for part in client.xread({stream: last}, count=COUNT)]
    if wait and not found:
        time.sleep(PAUSE_S)
    return found


def tap(client: Any, cursors: Path, *, once: bool) -> None:
    """Print what comes after the cursors, for ever or to the end."""
    epoch, streams = find_streams(client)
    known = load_cursors(cursors, epoch)
    if unknown := known.keys() - streams:
        raise Stop(f"{cursors} names partition {unknown.pop()}, which this log does not have")
    at = {partition: known.get(partition) or beginning(client, partition, name) for partition, name in streams.items()}
    save_cursors(cursors, epoch, at)  # also where nothing is yet: what is trimmed there from now on is a hole
    while True:
        answer = read(client, {streams[partition]: last for partition, last in at.items()}, wait=not once)
        for stream, entries in answer:
            partition = next(number for number, name in streams.items() if name == stream)
            for entry_id, fields in entries:
                check_next(partition, at[partition], entry_id)
                print_event(f"{epoch}:{partition}:{entry_id}", fields)
                at[partition] = entry_id
        if answer:
            sys.stdout.flush()  # first what was read must be safe, then the note that it was
            save_cursors(cursors, epoch, at)
        elif once:
            return


def find_streams(client: Any) -> tuple[str, dict[int, str]]:
    """The log's epoch and the stream of each partition. `orders:{3vw}:meta` describes partition 3."""
    streams: dict[int, str] = {}
    epochs: set[str] = set()
    layout = ""
    for key in client.scan_iter("orders:{*}:meta", count=1_000):
        found = re.fullmatch(r"(orders:\{(\d+)[a-z]+\}):meta", key)
        if found:
            meta = client.hgetall(key)
            if not meta.keys() >= {"epoch", "layout"}:
                raise Stop("the log is being restored: come back when it is")
            epochs.add(meta["epoch"])
            layout = meta["layout"]
            streams[int(found[2])] = f"{found[1]}:log"
    if not streams:
        raise Stop("this Redis holds no log of Swaplog")
    if len(epochs) > 1 or not layout.endswith(f" {len(streams)} partitions"):
        raise Stop(f"parts of the log are missing: found {len(streams)} of '{layout}', epochs {', '.join(epochs)}")
    return epochs.pop(), dict(sorted(streams.items()))


def beginning(client: Any, partition: int, stream: str) -> str:
    """The cursor before the oldest entry that is left of a partition, for whoever has none."""
    # In this order: what is committed between the two looks is then found, and not passed over.
    ended = int(client.hget(stream.removesuffix("log") + "meta", "position") or 0)
    first = client.xrange(stream, count=1)
    before = position_of(first[0][0]) - 1 if first else ended
    if before:
        print(f"tap: partition {partition} begins at position {before + 1}: older ones are trimmed", file=sys.stderr)
    return f"0-{before}"


def check_next(partition: int, last: str, entry_id: str) -> None:
    """An entry's id is <ms>-<position>; positions of a partition are 1, 2, 3, … without exception."""
    position, expected = position_of(entry_id), position_of(last) + 1
    if position != expected:
        found = f"partition {partition}: expected position {expected}, found {position}: entries are missing"
        raise Stop(f"{found}; docs/integrators.md says where those are that were only trimmed")


def position_of(entry_id: str) -> int:
    return int(entry_id.partition("-")[2])


def print_event(cursor: str, fields: dict[str, str]) -> None:
    """Fields we do not know are passed on: new ones may be added any time."""
    print(json.dumps({"cursor": cursor, **fields, "data": json.loads(fields["data"])}))


def load_cursors(path: Path, epoch: str) -> dict[int, str]:
    """Where to go on in each partition: `epoch:partition:ms-position`, one a line."""
    at: dict[int, str] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        if not (found := re.fullmatch(r"(\w+):(\d+):(\d+-\d+)", line)):
            raise Stop(f"{path} is no file of cursors; without it everything is told from the beginning")
        if found[1] != epoch:
            raise Stop(f"{path} is of log {found[1]}, this is log {epoch}: Redis was emptied, restored or exchanged")
        at[int(found[2])] = found[3]
    return at


def save_cursors(path: Path, epoch: str, at: dict[int, str]) -> None:
    """All or nothing, so that a crash leaves the old file."""
    new = path.with_name(f"{path.name}.new")
    new.write_text("".join(f"{epoch}:{partition}:{last}\n" for partition, last in at.items()))
    new.replace(path)


if __name__ == "__main__":
    sys.exit(main())
