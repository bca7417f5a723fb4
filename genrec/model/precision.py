"""Devices and number formats: what this machine computes fastest."""

import contextlib
import functools
import json
import os
import time

import torch

from ..data.fetch import cache_folder

BF16_GAIN = 1.1  # bf16 is chosen on a CPU only if it is this much faster
PROCESSOR_FEATURES = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")


def default_device() -> str:
    """`cuda` if torch can use one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_precision(device: torch.device | str) -> torch.dtype:
    """bf16 if the processor multiplies it in hardware and faster than fp32, else fp32.

    Having the instructions says little on a CPU (measured: bf16 at half the speed of fp32 on one processor with
    AVX512-BF16, at twice on another), so the speeds are measured once per processor and thread count and noted in the
    cache folder.
    """
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if _cpu_bf16() and _bf16_speed() >= BF16_GAIN else torch.float32


def describe_precision(device: torch.device | str) -> str:
    """The chosen precision and the reason, as text: `bf16 (1.9 x the speed of fp32 on this processor)`."""
    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name(torch.device(device))
        bf16 = choose_precision(device) == torch.bfloat16
        return f"bf16 ({name})" if bf16 else f"fp32 ({name} has no bf16)"
    if not _cpu_bf16():
        return "fp32 (the processor has no bf16)"
    name = "bf16" if choose_precision(device) == torch.bfloat16 else "fp32"
    return f"{name} (bf16 runs at {_bf16_speed():.1f} x the speed of fp32 on this processor)"


@functools.cache
def _bf16_speed() -> float:
    """Speed of a bf16 matrix product relative to fp32, measured once per processor and thread count."""
    record = cache_folder() / "precision.json"
    cpu = torch.cpu.get_capabilities().get("cpu_name", "unknown")
    key = f"{cpu} {'+'.join(_cpu_bf16())} {torch.get_num_threads()} {torch.__version__}"
    try:
        speeds = json.loads(record.read_text())
    except (OSError, ValueError):
        speeds = {}
    if key not in speeds:
        seconds = {}
        for dtype in (torch.float32, torch.bfloat16):
            a, b = torch.ones(1024, 576, dtype=dtype), torch.ones(1536, 576, dtype=dtype)
            runs = []
            for _ in range(8):
                start = time.perf_counter()
                torch.nn.functional.linear(a, b)
                runs.append(time.perf_counter() - start)
            seconds[dtype] = min(runs)
        speeds[key] = round(seconds[torch.float32] / seconds[torch.bfloat16], 2)
        with contextlib.suppress(OSError):  # a cache that cannot be written: measured again next time
            record.parent.mkdir(parents=True, exist_ok=True)
            scratch = record.with_name(f".{record.name}.{os.getpid()}")
            scratch.write_text(json.dumps(speeds))
            scratch.replace(record)
    return float(speeds[key])


def describe_processor() -> str:
    """The processor's name and the instructions that matter here."""
    cpu = torch.cpu.get_capabilities()
    names = [key.upper().replace("_", "-") for key in PROCESSOR_FEATURES if cpu.get(key)]
    return (
        f"{cpu.get('cpu_name', 'unknown')}, {cpu.get('architecture', '')}: {', '.join(names) or 'no vector extensions'}"
    )


def describe_accelerator() -> str:
    """The GPU's name and memory, or `none`."""
    if not torch.cuda.is_available():
        build = "this torch is a CPU build" if torch.version.cuda is None else "no CUDA device"
        return f"none ({build})"
    gpu = torch.cuda.get_device_properties(0)
    return (
        f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}; {torch.cuda.device_count()} in all"
    )


def _cpu_bf16() -> list[str]:
    """Which bf16 instructions the processor has."""
    cpu = torch.cpu.get_capabilities()
    return [name for key, name in (("avx512_bf16", "AVX512-BF16"), ("amx_bf16", "AMX-BF16")) if cpu.get(key)]
