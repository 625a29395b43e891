"""nbformat, whose import this makes light.

It needs jsonschema, which makes a grammar of all addresses of the web when it is imported, if a
package for that is there: a second, of which notebooks need nothing.
"""

import sys

_GRAMMAR = "rfc3987_syntax"
if _GRAMMAR not in sys.modules:
    sys.modules[_GRAMMAR] = None  # type: ignore[assignment]
    try:
        import jsonschema  # noqa: F401
    finally:
        del sys.modules[_GRAMMAR]

import nbformat as nbformat  # noqa: E402
