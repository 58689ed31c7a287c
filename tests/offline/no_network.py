"""Refuses connections and name look-ups beyond this machine, and notes them in $BGAD_NETWORK_NOTES.

It hooks Python's audit events, which no Python library bypasses; other programs are not covered.
"""

import ipaddress
import os
import socket
import sys

ADDRESS_OF = {  # the address among an event's arguments
    "socket.connect": lambda of_socket, address: address,
    "socket.sendto": lambda of_socket, address: address,
    "socket.sendmsg": lambda of_socket, address: address,
    "socket.getaddrinfo": lambda host, *others: (host,),
    "socket.gethostbyname": lambda host: (host,),
}


def forbid() -> None:
    """Until the process ends."""
    if not hasattr(sys, "bgad_has_no_network"):
        sys.bgad_has_no_network = True
        sys.addaudithook(_check)


def _check(event: str, arguments: tuple) -> None:
    if event not in ADDRESS_OF:
        return
    address = ADDRESS_OF[event](*arguments)
    if not isinstance(address, tuple) or _is_here(address[0]):  # else the path of a Unix socket
        return
    with open(os.environ["BGAD_NETWORK_NOTES"], "a", encoding="utf-8") as notes:  # noqa: PTH123  pathlib is slow to import
        notes.write(f"{event} {address[0]} by {' '.join(sys.argv)[:200]!r}\n")
    raise OSError(f"tests use no network: {event} {address[0]}")


def _is_here(host: str | bytes | None) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if not name or name in ("localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False
