"""Memory of this process, without freed memory that has not been returned to the system."""

import ctypes
import gc


def used():
    """Return the number of bytes of `own` (anonymous) and of `resident` memory, which includes pages of files.

    First the allocator is made to return free memory. By itself it would do so at an arbitrary time: the 340 MB that
    loading a model leaves free could be returned all at once after a thousand requests.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only in glibc
    if trim is not None:
        trim(0)
    with open("/proc/self/status", encoding="utf-8") as file:
        values = dict(line.split(":", 1) for line in file)
    own, resident = (int(values[name].split()[0]) * 1024 for name in ("RssAnon", "VmRSS"))
    return {"own": own, "resident": resident}
