"""What memory this process holds, without what it has freed and only not given back."""

import ctypes
import gc


def held():
    """Bytes by name: `own`, anonymous memory; `resident`, with the pages of files, which the system takes as it likes.

    Before that the allocator gives back what is free. It does so anyway, but at some time of its own: some 340 MB that
    loading a model and preparing its graph have left behind would go at once, a thousand requests later.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)
    with open("/proc/self/status", encoding="utf-8") as file:
        values = dict(line.split(":", 1) for line in file)
    own, resident = (int(values[name].split()[0]) * 1024 for name in ("RssAnon", "VmRSS"))
    return {"own": own, "resident": resident}
