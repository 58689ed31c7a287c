"""Nothing reaches beyond this machine: connections and look-ups of names are refused, and noted in $BGAD_NETWORK_NOTES.

Python's own audit events carry them, so no library's own way of connecting goes past this one. What is not Python is not seen.
"""

import ipaddress
import os
import socket
import sys

ADDRESS_OF = {  # where the arguments of an event have the host
    "socket.connect": lambda of_socket, address: address,
    "socket.sendto": lambda of_socket, address: address,
    "socket.sendmsg": lambda of_socket, address: address,
    "socket.getaddrinfo": lambda host, *others: (host,),
    "socket.gethostbyname": lambda host: (host,),
}


def forbid() -> None:
    """For the rest of this process's life."""
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
