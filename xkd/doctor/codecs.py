"""Does a tiny video of each codec decode?"""

from collections.abc import Iterator

from xkd.doctor.context import Context
from xkd.doctor.verdict import Verdict, judged, ok

FIXES = {
    "cpu": "install the release of DALI that `xkd env` should show, 2.4; shards in another codec still decode",
    "gpu": "convert the shards to a codec that is ok here (--codec), or see the verdict on libnvcuvid",
}


def check(context: Context) -> Iterator[Verdict]:
    """Each codec of shards through DALI, on the GPU where there is one."""
    from xkd.pipelines.loading.trial import DECODES, decode_fault
    from xkd.pipelines.media.encode import CODECS

    for codec in CODECS:
        name, device = f"decode {codec}", context.device
        if codec not in DECODES[device]:
            found = f"DALI decodes it on a {'GPU' if device == 'cpu' else 'CPU'} only"
            yield Verdict(name, "not checked", found, f"matters only where shards are in {codec}")
            continue
        fault = decode_fault(codec, device)
        yield judged(name, True, fault, FIXES[device]) if fault else ok(name, f"as it should be, on the {device.upper()}")
