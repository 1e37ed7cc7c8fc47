"""`embcli vacuum`."""

from embcli.options import DB, Db, Quiet
from embcli.output import Output, size

PANEL = "Keep"
ORDER = 31
EXAMPLE = "embcli vacuum"


def command(db: Db = DB, quiet: Quiet = False) -> None:
    """Drop deleted vectors and make the store's file as small as it can be."""
    from embcli.pipelines.compress import encode_again
    from embcli.store import Store

    with Store.existing(db) as store:
        before = db.stat().st_size
        store.vacuum()
        encode_again(store)
    Output(quiet=quiet).summary(f"{db}: {size(before)} before, {size(db.stat().st_size)} now")
