"""What C programs ask of an extension: of other interpreters, and of buffers that are refused."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from typing import Any

import pytest
from workers import DEADLINE_S

import shmheap

SUBINTERPRETER = """
import sys
sys.path[:] = {path!r}
try:
    import {module} as interpreters
except ImportError:
    sys.exit(77)
other = interpreters.create()
code = '''
import sys
sys.path[:] = {path!r}
try:
    import shmheap
except ImportError as error:
    print("refused:", error, flush=True)
'''
interpreters.run_string(other, code)
interpreters.destroy(other)
import shmheap
with shmheap.create_memfd(1 << 20) as heap:
    print(heap.get(heap.put("main")))
"""


def test_other_interpreters_are_refused() -> None:
    module = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    code = SUBINTERPRETER.format(module=module, path=sys.path)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=DEADLINE_S)
    if done.returncode == 77:
        pytest.skip(f"no {module}")
    refused, *rest = done.stdout.splitlines()
    assert refused.startswith("refused:")
    assert rest == ["main"] and done.returncode == 0


class View(ctypes.Structure):
    """A Py_buffer, as it is up to Python 3.14: its first two fields, and room for the others."""

    _fields_ = [("buf", ctypes.c_void_p), ("obj", ctypes.c_void_p), ("rest", ctypes.c_char * 200)]


def test_a_refused_view_is_nobodys(heap: shmheap.Heap) -> None:
    get_buffer: Any = ctypes.pythonapi.PyObject_GetBuffer
    get_buffer.argtypes = [ctypes.py_object, ctypes.POINTER(View), ctypes.c_int]
    writable = 1
    assert heap.name is not None
    freed, buffer = heap.alloc(10), heap.alloc(10)
    freed.free()
    reader = shmheap.connect(heap.name, read_only=True)
    for refused in (freed, reader.resolve(buffer.handle)):
        view = View(obj=0x1234)
        with pytest.raises((BufferError, shmheap.Stale)):
            get_buffer(refused, ctypes.byref(view), writable)
        assert view.obj is None
    buffer.free()
