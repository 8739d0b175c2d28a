"""Every codec of shards has a verdict."""

from xkd.doctor.codecs import check
from xkd.pipelines.loading.trial import DECODES
from xkd.pipelines.media.encode import CODECS


def test_what_this_machine_decodes_is_ok_and_the_rest_is_not_checked(alone):
    found = {verdict.check: verdict.status for verdict in check(alone)}
    assert found == {f"decode {codec}": "ok" if codec in DECODES[alone.device] else "not checked" for codec in CODECS}
