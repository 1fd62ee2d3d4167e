"""Checks of the machine: disk, GPU, vLLM, installed versions."""

from __future__ import annotations

import importlib.util
import shutil

from protocols.bundle import fednotes_version, installed_versions
from protocols.error_codes import ContractError
from site_client.doctor.finding import Finding, fail, ok, warn
from site_client.folder import SiteFolder
from site_client.gateway.folder import GatewayFolder

_LEAST_FREE = 10**9  # receipts, logs and a small model
_UPDATES_ON_DISK = 8  # update and weights at SuperNode and gateway, two optimizer states in the checkpoint


def check_disk(folder: SiteFolder) -> Finding:
    """Whether a round fits on the disk."""
    try:
        need = max(_LEAST_FREE, _UPDATES_ON_DISK * folder.manifest().num_bytes)
    except ContractError:
        need = _LEAST_FREE
    free = shutil.disk_usage(folder.path).free
    if free < need:
        return fail("disk", f"{free / 1e9:.1f} GB free, a round needs {need / 1e9:.1f} GB: free some space")
    if free < 3 * need:
        return warn("disk", f"{free / 1e9:.1f} GB free: enough for a round, not for many checkpoints")
    return ok("disk", f"{free / 1e9:.1f} GB free")


def check_gpu() -> Finding:
    """Whether training finds a GPU."""
    import torch

    if not torch.cuda.is_available():
        return warn("gpu", "none found: training runs on the CPU; if there is one, look at nvidia-smi and the driver")
    return ok("gpu", f"{torch.cuda.get_device_name(0)} ({torch.cuda.device_count()} in all)")


def check_vllm() -> Finding:
    """Whether rephrasing with a model of one's own works in this environment."""
    if importlib.util.find_spec("vllm") is None:
        return warn(
            "vllm", "not in this environment: rephrase with --engine rules or openai, or install vLLM beside it"
        )
    return ok("vllm", "importable")


def check_versions(folder: SiteFolder) -> Finding:
    """Whether both ends run the same version, as far as this site was told."""
    versions = installed_versions()
    if missing := [name for name, version in versions.items() if version == "not installed"]:
        return fail("versions", f"not installed: {', '.join(missing)}; install fednotes again")
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    gateway = GatewayFolder(folder.gateway)
    if gateway.enrolment_file.exists() and (theirs := gateway.enrolment().fednotes_version) != fednotes_version():
        return warn("versions", f"{listed}; the coordinator ran fednotes {theirs} at enrolment: ask what it runs now")
    return ok("versions", listed)
