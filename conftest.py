"""What the examples in docstrings need when they run as tests."""

import pytest


@pytest.fixture(autouse=True)
def pictures(request):
    """Let examples draw without a window, and close what they drew."""
    if not isinstance(request.node, pytest.DoctestItem) or ".plots." not in request.node.name:
        yield
        return
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    yield
    plt.close("all")
