"""Where a request comes from, behind however many proxies of ours."""

from ipaddress import AddressValueError, IPv6Address

from aiohttp import hdrs, web

_OWN_HALF = 64  # bits: the other half of an IPv6 address its owner chooses


def sender_of(request: web.Request, proxies: int) -> str:
    """The address our outermost proxy saw; what clients wrote into the header before that is theirs to invent."""
    seen = [each.strip() for line in request.headers.getall(hdrs.X_FORWARDED_FOR, ()) for each in line.split(",")]
    return _owned(_without_port(seen[-proxies]) if 0 < proxies <= len(seen) else request.remote or "")


def _without_port(seen: str) -> str:
    """Some proxies write it behind the address, and it is another with each connection."""
    if seen.startswith("["):
        return seen[1:].partition("]")[0]
    address, _, port = seen.partition(":")
    return seen if ":" in port else address


def _owned(address: str) -> str:
    """One name for all the addresses of whoever has this one: with another for each try, nothing would be limited."""
    try:
        found = IPv6Address(address)
    except AddressValueError:
        return address
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> _OWN_HALF << _OWN_HALF)}/{_OWN_HALF}"
