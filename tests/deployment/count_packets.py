"""Run a command in a network namespace whose only way out is this program, and count what goes there.

    unshare --map-root-user --net python count_packets.py COMMAND ...

Prints a line for each packet to anywhere but loopback, and ends with the status of the command.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
from pathlib import Path

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def main() -> None:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", b"out", _IFF_TUN | _IFF_NO_PI))
    Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    for words in (
        "link set lo up",
        "address add 192.0.2.2/24 dev out",
        "link set out up",
        "route add default dev out",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
    while process.poll() is None or select.select([device], [], [], 0.2)[0]:
        if select.select([device], [], [], 0.2)[0]:
            packet = os.read(device, 65_536)
            print(f"a packet to {socket.inet_ntoa(packet[16:20])}", flush=True)
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
