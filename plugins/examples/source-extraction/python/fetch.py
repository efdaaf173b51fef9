"""Gets the bytes of a file: from a granted directory, or over HTTP."""

import nightshift_plugin


def fetch(place: str) -> bytes:
    """`place` is a path below /data/ or a URL."""
    if place.startswith("/data/"):
        with open(place, "rb") as file:
            return file.read()
    if place.startswith(("http://", "https://")):
        return download(place)
    raise ValueError(f"{place!r} is neither a path below /data/ nor a URL")


def download(url: str) -> bytes:
    response = nightshift_plugin.fetch(url)
    if response.status != 200:
        raise ConnectionError(f"{url}: answered with status {response.status}")
    return response.body
