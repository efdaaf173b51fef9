"""Tasks of the plugin NAME. Import everything at the top of a module: the component is made after
the imports have run, and there are none later.

    python3 -m venv venv && venv/bin/pip install componentize-py==0.25.1
    venv/bin/componentize-py -d wit -w plugin componentize plugin -o NAME.wasm
    nightshift plugin run NAME.wasm NAME.magnitude --args '[1000]'
    nightshift plugin install NAME NAME.wasm
    nightshift enqueue NAME.magnitude 1000 --wait
"""

import math

from nightshift_plugin import Tasks, fetch, log, task

__all__ = ["Tasks"]


@task("NAME.magnitude", "Turn a flux into a magnitude", timeout_s=10)
def magnitude(flux: float, zero_point: float = 25.0) -> float:
    log(f"zero point {zero_point}")
    return zero_point - 2.5 * math.log10(flux)


@task("NAME.size", "Say how many bytes there are at a URL", timeout_s=60)
def size(url: str) -> int:
    """The host has to be granted: `nightshift executor put NAME --grant-http HOST`, or
    `nightshift plugin run --http HOST`."""
    return len(fetch(url).body)
