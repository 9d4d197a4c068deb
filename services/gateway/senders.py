"""Where a request comes from, behind however many proxies of ours."""

from aiohttp import hdrs, web


def sender_of(request: web.Request, proxies: int) -> str:
    """The address our outermost proxy saw; what clients wrote into the header before that is theirs to invent."""
    seen = [each.strip() for line in request.headers.getall(hdrs.X_FORWARDED_FOR, ()) for each in line.split(",")]
    return seen[-proxies] if 0 < proxies <= len(seen) else request.remote or ""
