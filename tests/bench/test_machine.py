"""Facts from trees of ``/proc`` and ``/sys`` as devices show them, and from none at all."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import msgspec
import pytest

from sspcab_bench.cgroups import cpu_limit, memory_limit_mb
from sspcab_bench.machine import Machine, read_machine

_CPU = "sys/devices/system/cpu"

# A virtual machine on an AMD EPYC 9004, kernel 6.18, hybrid control groups; recorded and shortened.
_CLOUD = {
    "proc/cpuinfo": "".join(
        f"processor\t: {number}\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel name\t: AMD EPYC\n"
        f"cpu MHz\t\t: 2596.138\nphysical id\t: 0\ncore id\t\t: {number}\n"
        "flags\t\t: fpu sse4_1 avx fma f16c avx2 avx512f avx512bw avx512_bf16 avx512_vnni\n\n"
        for number in range(2)
    ),
    "proc/meminfo": "MemTotal:       24684444 kB\nMemFree:  20000000 kB\nMemAvailable:   22424444 kB\n",
    "proc/self/status": "Name:\tpython\nVmHWM:\t   2076 kB\nCpus_allowed_list:\t0-1\n",
    "proc/self/cgroup": "9:name=systemd:/\n4:memory:/process_api/e35b\n2:cpuacct:/\n1:cpu:/\n0::/\n",
    "proc/sys/kernel/osrelease": "6.18.44-fc-v669\n",
    f"{_CPU}/cpu0/topology/thread_siblings_list": "0\n",
    f"{_CPU}/cpu1/topology/thread_siblings_list": "1\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/memory/process_api/e35b/memory.limit_in_bytes": "9223372036854771712\n",
    "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\n',
    ".dockerenv": "",
}

# An ARM board shaped like a Jetson Orin Nano: no model name, a device tree, a systemd service with limits.
_ARM = {
    "proc/cpuinfo": "".join(
        f"processor\t: {number}\nBogoMIPS\t: 62.50\n"
        "Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\n"
        "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd42\n\n"
        for number in range(6)
    ),
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/meminfo": "MemTotal:        7802340 kB\nMemAvailable:    5602340 kB\n",
    "proc/self/status": "Cpus_allowed_list:\t0-3,5\n",
    "proc/self/cgroup": "0::/system.slice/sspcab.service\n",
    "proc/sys/kernel/osrelease": "5.15.148-tegra\n",
    **{
        f"{_CPU}/cpu{number}/{name}": value
        for number in range(6)
        for name, value in (
            ("cpufreq/scaling_governor", "schedutil\n"),
            ("cpufreq/scaling_cur_freq", f"{729600 + number * 100}\n"),
            ("cpufreq/cpuinfo_max_freq", "1510400\n"),
            ("topology/thread_siblings_list", f"{number}\n"),
        )
    },
    "sys/fs/cgroup/system.slice/sspcab.service/cpu.max": "350000 100000\n",
    "sys/fs/cgroup/system.slice/cpu.max": "max 100000\n",
    "sys/fs/cgroup/system.slice/sspcab.service/memory.max": "max\n",
    "sys/fs/cgroup/system.slice/memory.max": "4294967296\n",
    "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
    "dev/nvhost-gpu": "",
}

# Two threads a core, turbo off, in a Kubernetes pod whose group is the root of what is mounted.
_SERVER = {
    "proc/cpuinfo": "".join(
        f"processor\t: {number}\nmodel name\t: Intel(R) Xeon(R) Gold\ncpu MHz\t: 2100.0\n"
        f"physical id\t: {number // 4}\ncore id\t: {number % 4 // 2}\nflags\t: sse4_1 avx2 avx512_vnni\n\n"
        for number in range(8)
    ),
    "proc/self/status": "Cpus_allowed_list:\t0-7\n",
    "proc/self/cgroup": "7:cpu,cpuacct:/kubepods/burstable/pod1/abc\n5:memory:/kubepods/burstable/pod1/abc\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "2147483648\n",
    f"{_CPU}/intel_pstate/no_turbo": "1\n",
    f"{_CPU}/cpu0/cpufreq/scaling_governor": "performance\n",
}


def _grow(root: Path, tree: dict[str, str]) -> Path:
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def _read(root: Path) -> Machine:
    return read_machine(root / "proc", root / "sys", root)


def test_cloud_machine(tmp_path: Path) -> None:
    machine = _read(_grow(tmp_path, _CLOUD))
    assert machine.cpu == "AMD EPYC"
    assert "avx512_vnni" in machine.flags
    assert (machine.logical_cores, machine.physical_cores, machine.affinity_cores) == (2, 2, 2)
    assert (machine.cpu_limit, machine.usable_cores) == (None, 2)
    assert (machine.governors, machine.clock_mhz, machine.max_clock_mhz) == ((), 2596.138, None)
    assert (machine.memory_mb, machine.memory_limit_mb) == (24105, None)
    assert machine.kernel == "6.18.44-fc-v669"
    assert machine.system == "Debian GNU/Linux 12 (bookworm)"
    assert machine.container == "docker"
    assert (machine.board, machine.gpus, machine.boost) == (None, (), None)


def test_arm_board(tmp_path: Path) -> None:
    machine = _read(_grow(tmp_path, _ARM))
    assert "Jetson Orin Nano" in machine.cpu
    assert "0xd42" in machine.cpu
    assert machine.flags == ("asimd", "fphp", "asimdhp", "asimddp")
    assert machine.board == "NVIDIA Jetson Orin Nano Developer Kit"
    assert machine.gpus == ("NVIDIA GPU",)
    assert (machine.logical_cores, machine.physical_cores, machine.affinity_cores) == (6, 6, 5)
    assert (machine.cpu_limit, machine.usable_cores) == (3.5, 3)
    assert machine.governors == ("schedutil",)
    assert machine.clock_mhz == pytest.approx(730.1)
    assert machine.max_clock_mhz == pytest.approx(1510.4)
    assert machine.memory_limit_mb == 4096
    assert machine.container is None


def test_server_with_two_threads_a_core(tmp_path: Path) -> None:
    machine = _read(_grow(tmp_path, _SERVER))
    assert (machine.logical_cores, machine.physical_cores) == (8, 4)
    assert (machine.cpu_limit, machine.usable_cores) == (2.5, 2)
    assert machine.memory_limit_mb == 2048
    assert machine.boost is False
    assert machine.governors == ("performance",)
    assert machine.container == "kubernetes"


def test_nothing_readable_is_no_error(tmp_path: Path) -> None:
    machine = _read(tmp_path)
    assert machine.usable_cores >= 1
    assert machine.logical_cores >= 1
    assert machine.kernel
    assert machine.physical_cores is None
    assert (machine.memory_mb, machine.memory_available_mb, machine.memory_limit_mb) == (None, None, None)
    assert (machine.system, machine.container, machine.board) == (None, None, None)


@pytest.mark.parametrize("missing", sorted(name for name in _ARM if not re.search("cpu[1-5]", name)))
def test_any_one_file_may_be_missing(tmp_path: Path, missing: str) -> None:
    _read(_grow(tmp_path, {name: text for name, text in _ARM.items() if name != missing}))


@pytest.mark.parametrize("text", ["", "\0", "garbage", "-", "1 2 3", "0-\n", "a-b,3", ":::\n:\n"])
def test_nonsense_is_no_error(tmp_path: Path, text: str) -> None:
    machine = _read(_grow(tmp_path, dict.fromkeys(_ARM | _SERVER, text)))
    assert machine.usable_cores >= 1


def test_facts_are_plain_data(tmp_path: Path) -> None:
    assert msgspec.json.decode(msgspec.json.encode(asdict(_read(_grow(tmp_path, _ARM)))))["cpu_limit"] == 3.5


def test_this_machine() -> None:
    machine = read_machine()
    assert machine.cpu
    assert 1 <= machine.usable_cores <= machine.logical_cores
    assert machine.packages["sspcab-edge"]
    assert "numpy" in machine.packages


def test_the_tightest_group_holds(tmp_path: Path) -> None:
    root = _grow(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/a/b/memory.max": "1073741824\n",
        },
    )
    assert cpu_limit(root / "proc", root / "sys") == 0.5
    assert memory_limit_mb(root / "proc", root / "sys") == 1024


def test_less_than_a_core_is_one_thread(tmp_path: Path) -> None:
    tree = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/cpu.max": "50000 100000\n",
        "proc/self/status": "Cpus_allowed_list:\t0-3\n",
    }
    machine = _read(_grow(tmp_path, tree))
    assert (machine.cpu_limit, machine.affinity_cores, machine.usable_cores) == (0.5, 4, 1)


def test_a_group_outside_of_what_is_mounted(tmp_path: Path) -> None:
    root = _grow(tmp_path, {"proc/self/cgroup": "0::/../other\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"})
    assert cpu_limit(root / "proc", root / "sys") == 1.0
