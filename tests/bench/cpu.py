"""CPU seconds of the processes of a stack, with everything they started."""

import os
import time
from collections.abc import Mapping

import psutil  # type: ignore[import-untyped]

from tests.bench.figures import Result, cpu_per_order_ms

# Of one core. A generator busier than this measures itself.
GENERATOR_MAX = 0.9


class CpuMeter:
    """Reads the processes named by `pids`, and this one as "generator"."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._processes: dict[str, psutil.Process] = {}
        for name, pid in pids.items():
            try:
                self._processes[name] = psutil.Process(pid)
            except psutil.NoSuchProcess:
                continue  # it ended since the list was written; its place stays empty
        self._self = psutil.Process()

    def read(self) -> dict[str, float]:
        """CPU seconds by name since each process began, its living and its dead children included."""
        return {name: _seconds(process) for name, process in self._processes.items()}

    def read_machine(self) -> float:
        """CPU seconds of everything on this machine, all cores together."""
        times = psutil.cpu_times()
        return float(times.user + times.nice + times.system + getattr(times, "irq", 0) + getattr(times, "softirq", 0))

    def read_self(self) -> float:
        times = self._self.cpu_times()
        return float(times.user + times.system)


class Costs:
    """CPU time from its making on."""

    def __init__(self, cpu: CpuMeter) -> None:
        self._cpu, self._began = cpu, time.perf_counter()
        self._before, self._own_before, self._all_before = cpu.read(), cpu.read_self(), cpu.read_machine()

    def per_order(self, orders: int) -> Result:
        used, everybody = spent(self._before, self._cpu.read()), self._cpu.read_machine() - self._all_before
        own, took = self._cpu.read_self() - self._own_before, time.perf_counter() - self._began
        others = max(0.0, everybody - own - sum(used.values()))
        each_ms = (sum(used.values()) + own) * 1_000 / max(1, orders)
        return {
            "cpu_ms_per_order": cpu_per_order_ms(used, orders),
            # Generator included, were the machine ours alone and never idle: what it carries at the very most.
            "per_s_of_all_cores": round((os.cpu_count() or 1) * 1_000 / each_ms) if each_ms else 0,
            "generator_cpu_ms_per_order": cpu_per_order_ms({"generator": own}, orders).get("total", 0.0),
            "generator_cores": round(own / took, 2),
            # Somebody else's work on the same cores: the first thing to look at when figures differ.
            "cores_used_by_others": round(others / took, 2),
        }


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """CPU seconds by name between two readings, the most expensive first."""
    used = {name: round(after[name] - before[name], 4) for name in after if name in before}
    return dict(sorted(used.items(), key=lambda item: -item[1]))


def _seconds(process: psutil.Process) -> float:
    total = 0.0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return total
    for one in family:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        # Children that have ended count with the parent that waited for them.
        total += times.user + times.system + times.children_user + times.children_system
    return total
