"""Names of every key of the log. All keys of one partition share a hash tag, so they live in one Redis Cluster slot."""

from libs.events.ids import PARTITIONS_MAX

# Frozen: a log's keys are found by these for ever. Chosen so that the first 2, 4, 8, … 64 of them spread evenly over
# the 16,384 slots of a cluster; bare numbers would crowd a few nodes.
TAGS = """
0pn 1cf 2ub 3vw 4sb 5pw 6fs 7zz 8jf 9vo 10df 11gs 12hx 13tq 14ww 15tb 16wt 17ta 18ac 19bv 20ya 21ji
22cq 23py 24va 25ei 26sm 27od 28ci 29pa 30yr 31zg 32fe 33ep 34yj 35ec 36jh 37va 38cc 39pk 40ar 41bg
42tc 43hj 44rc 45nj 46xn 47dg 48dw 49gb 50ap 51be 52rr 53qg 54ra 55qt 56bn 57qf 58ke 59wl 60cz 61pr
62vk 63jb
""".split()  # noqa: SIM905 - sixty-four quoted lines would hide the table
assert len(TAGS) == PARTITIONS_MAX


class Keys:
    """The keys of one partition."""

    def __init__(self, partition: int) -> None:
        self._prefix = f"orders:{{{TAGS[partition]}}}"
        self.log = f"{self._prefix}:log"
        self.meta = f"{self._prefix}:meta"
        self.timers = f"{self._prefix}:timers"
        self.parked = f"{self._prefix}:parked"
        self.discarded = f"{self._prefix}:discarded"
        self.readers = f"{self._prefix}:readers"

    def work(self, service: str) -> str:
        return f"{self._prefix}:work:{service}"

    def order(self, order_id: str) -> str:
        return f"{self._prefix}:order:{order_id}"

    def idempotency(self, user: str, key: str) -> str:
        return f"{self._prefix}:idem:{user}:{key}"

    def recent(self, user: str) -> str:
        return f"{self._prefix}:recent:{user}"

    def open(self, user: str) -> str:
        return f"{self._prefix}:open:{user}"
