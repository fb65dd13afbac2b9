import subprocess
import sys

import juanji.data


def test_what_is_public_is_there():
    for name in juanji.data.__all__:
        assert getattr(juanji.data, name) is not None
    for module in (juanji.data.transforms, juanji.data.datasets):
        for name in module.__all__:
            assert getattr(module, name) is not None


def test_importing_loads_neither_pillow_nor_the_network():
    code = (
        "import sys, numpy; before = set(sys.modules); import juanji.data;"
        "new = set(sys.modules) - before;"
        "print(sorted(new & {'PIL', 'urllib.request', 'http.client', 'ssl'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
