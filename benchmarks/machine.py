"""What the machine is: figures without it say nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

LIBRARIES = ("mlflow", "torch", "lightning", "wandb", "trackio", "neptune-scale", "tensorboard", "aim")


def describe_machine() -> dict[str, str]:
    """Facts about this machine and its libraries, as text to be shown; the load is that of now."""
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    gib = psutil.virtual_memory().total / 2**30
    return {
        "processor": f"{_processor()}, {os.cpu_count()} CPUs, {gib:.0f} GiB",
        **({"GPU": gpu} if (gpu := _gpu()) else {}),
        "system": system,
        "Python": platform.python_version(),
        **{name: version for name in LIBRARIES if (version := _version(name))},
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def in_a_line(machine: dict[str, str]) -> str:
    """The same in a line."""
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _gpu() -> str:
    """The name of NVIDIA's card, and its driver. Empty without one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
    return f"{found[0].replace(', ', ' (driver ')})" if found else ""


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
