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
# The hash tag of each partition there can be, fixed for ever: nobody need look for keys, nor be allowed to.
TAGS = """
0pn 1cf 2ub 3vw 4sb 5pw 6fs 7zz 8jf 9vo 10df 11gs 12hx 13tq 14ww 15tb 16wt 17ta 18ac 19bv 20ya 21ji
22cq 23py 24va 25ei 26sm 27od 28ci 29pa 30yr 31zg 32fe 33ep 34yj 35ec 36jh 37va 38cc 39pk 40ar 41bg
42tc 43hj 44rc 45nj 46xn 47dg 48dw 49gb 50ap 51be 52rr 53qg 54ra 55qt 56bn 57qf 58ke 59wl 60cz 61pr
62vk 63jb
""".split()  # noqa: SIM905 - sixty-four quoted lines would hide the table


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
    first = meta_of(client, 0)
    partitions = int(first["layout"].split()[1])  # of `2, 4 partitions`
    epochs = {first["epoch"], *(meta_of(client, number)["epoch"] for number in range(1, partitions))}
    if len(epochs) > 1:
        raise Stop(f"the partitions are of different logs: {', '.join(epochs)}")
    return epochs.pop(), {number: f"orders:{{{TAGS[number]}}}:log" for number in range(partitions)}


def meta_of(client: Any, partition: int) -> dict[str, str]:
    meta: dict[str, str] = client.hgetall(f"orders:{{{TAGS[partition]}}}:meta")
    if not meta:
        raise Stop(f"partition {partition} is not there" if partition else "this Redis holds no log of Swaplog")
    if not meta.keys() >= {"epoch", "layout"}:
        raise Stop("the log is being restored: come back when it is")
    return meta


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
