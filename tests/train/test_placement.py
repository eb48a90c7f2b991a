"""Where vectors go, for every size, and how much memory there is under a control group."""

from pathlib import Path

import pytest

from train.placement import available_host_bytes, choose_placement


@pytest.mark.parametrize(
    ("kind", "needed", "free", "available", "expected"),
    [
        ("cuda", 60, 100, 0, "device"),
        ("cuda", 61, 100, 122, "pinned"),
        ("cuda", 61, 100, 121, "mapped"),
        ("cpu", 50, 0, 100, "device"),
        ("cpu", 51, 0, 100, "mapped"),
        ("cpu", 0, 0, 0, "device"),
    ],
)
def test_the_fastest_placement_that_fits(kind, needed, free, available, expected) -> None:
    """60 % of free device memory, then 50 % of host memory, then the shards."""
    chosen = choose_placement(
        nbytes=needed,
        free_device_bytes=free,
        available_host_bytes=available,
        device_kind=kind,
    )
    assert chosen == expected


def proc(root: Path, group: str | None) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemTotal: 2000 kB\nMemAvailable:    1000 kB\n")
    if group is not None:
        (root / "proc/self/cgroup").write_text(group)
    return root / "proc"


def limit(folder: Path, names: tuple[str, str], values: tuple[str, int], stat: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, values, strict=True):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(stat)


V2 = ("memory.max", "memory.current")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def test_without_groups_it_is_what_the_machine_has(tmp_path) -> None:
    """MemAvailable, in bytes."""
    assert available_host_bytes(proc(tmp_path, None), tmp_path / "groups") == 1000 * 1024


def test_the_tightest_group_above_the_process_counts(tmp_path) -> None:
    """Version 2: a limit of any ancestor holds; file cache can be given back; `max` is none."""
    files = proc(tmp_path, "0::/user/job\n")
    groups = tmp_path / "groups"
    limit(groups / "user/job", V2, ("max", 400), "inactive_file 0\n")
    limit(groups / "user", V2, ("900", 500), "anon 1\ninactive_file 100\n")
    assert available_host_bytes(files, groups) == 900 - 500 + 100


def test_version_1_groups_count_too(tmp_path) -> None:
    """The memory controller has a tree of its own, beside others."""
    files = proc(tmp_path, "9:cpu,cpuacct:/other\n4:memory:/job\n")
    limit(tmp_path / "groups/memory/job", V1, ("700", 650), "total_inactive_file 20\n")
    assert available_host_bytes(files, tmp_path / "groups") == 70


def test_a_group_over_its_limit_leaves_nothing(tmp_path) -> None:
    """Never negative."""
    files = proc(tmp_path, "0::/\n")
    limit(tmp_path / "groups", V2, ("10", 50), "inactive_file 0\n")
    assert available_host_bytes(files, tmp_path / "groups") == 0


def test_this_machine_has_some() -> None:
    """The real files of this system are understood."""
    assert available_host_bytes() > 1 << 20
