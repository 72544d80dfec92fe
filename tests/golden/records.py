"""Golden records: what the code gave before, so that a refactoring that changes a number shows itself.

`pytest <test> --record-golden` writes those of the tests that it runs, and `--golden-bits` holds figures to the
last digit, as one machine gives them before and after a change; without it they may differ as processors do.
"""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
# Two threads of torch round differently from one. First losses differ by up to 2e-6 of their value then, the later
# by up to 1e-5, but SSDLite's by up to 2e-2: its norms see two values a channel on maps of one pixel.
FIRST = 1e-4
LATER = 5e-2


def pytest_addoption(parser):
    parser.addoption("--record-golden", action="store_true", help="write golden records instead of reading them")
    parser.addoption("--golden-bits", action="store_true", help="hold golden figures to the last digit")


@pytest.fixture
def golden(request):
    """golden(name, figures, facts) -> holds rows of figures and facts against the record of that name.

    Facts are equal on every machine; `bits` are compared on one machine alone.
    """

    def hold(name, figures, facts, bits=()):
        path = FOLDER / f"{name.replace('/', '-')}.json"
        found = json.loads(json.dumps({"figures": figures, "facts": facts, "bits": dict(bits)}))
        if request.config.getoption("--record-golden"):
            rows = [f'"{part}": {{{_rows(table)}}}' for part, table in found.items()]
            path.write_text("{" + ",\n".join(rows) + "}\n")
        assert path.is_file(), f"no golden record of {name}: pytest {request.node.nodeid} --record-golden"
        wanted = json.loads(path.read_text())
        assert found["facts"] == wanted["facts"]
        assert found["figures"].keys() == wanted["figures"].keys()
        if request.config.getoption("--golden-bits"):
            assert found == wanted
        for key, row in wanted["figures"].items():
            assert found["figures"][key][0] == pytest.approx(row[0], rel=FIRST), key
            assert found["figures"][key] == pytest.approx(row, rel=LATER), key

    return hold


def _rows(table):
    """A line for each entry, so that a difference is seen in its place."""
    return ",".join(f"\n  {json.dumps(key)}: {json.dumps(value)}" for key, value in table.items())
