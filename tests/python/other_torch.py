"""A process that has another libtorch loaded asks for the libtorch plugin: it must be refused, naming both files, and go on
with the processor. Plain ctypes, so that any Python will do.

    ADAPTMEDSEG_LIBRARY=libadaptmedseg.so python other_torch.py PLUGIN [LIBRARY]

LIBRARY is loaded in place of PyTorch, if this Python has none of another version.
"""

import ctypes as c
import os
import sys

plugin, stand_in = sys.argv[1], sys.argv[2:]
try:
    import torch

    torch.ones(2).sum()
    loaded = os.path.dirname(torch.__file__)
    print("PyTorch", torch.__version__, "in", loaded)
    if torch.__version__.startswith("2.9.0"):
        raise ImportError
except ImportError:
    loaded = os.path.realpath(stand_in[0])
    # Before the library's own of this name, where PyTorch has been imported: a process of its own.
    if "torch" in sys.modules:
        os.execv(sys.executable, [sys.executable, "-S", __file__, plugin, loaded])
    c.CDLL(loaded)
print("loaded", loaded)


class Options(c.Structure):
    _fields_ = [
        ("struct_size", c.c_size_t),
        ("device", c.c_char_p),
        ("threads", c.c_uint32),
        ("log_level", c.c_int32),
        ("log_callback", c.c_void_p),
        ("log_user_data", c.c_void_p),
        ("precision", c.c_int32),
        ("plugin", c.c_char_p),
    ]


library = c.CDLL(os.environ["ADAPTMEDSEG_LIBRARY"])
library.ams_error_message.restype = library.ams_error_hint.restype = c.c_char_p
for name in ("ams_error_message", "ams_error_hint", "ams_error_free", "ams_model_free"):
    getattr(library, name).argtypes = [c.c_void_p]


def open_model(device: str) -> str:
    """Opens the built-in model on a device and frees it; what is wrong, or nothing."""
    options = Options(struct_size=c.sizeof(Options), device=device.encode(), threads=2, plugin=plugin.encode())
    model, error = c.c_void_p(), c.c_void_p()
    if library.ams_model_open(b"builtin", c.byref(options), c.byref(model), c.byref(error)) == 0:
        library.ams_model_free(model)
        return ""
    message, hint = library.ams_error_message(error).decode(), library.ams_error_hint(error).decode()
    library.ams_error_free(error)
    print(message, "|", hint)
    return f"{message} | {hint}"


assert open_model("cpu") == "", "the processor works before"
refused = open_model("torch:cpu")
assert loaded in refused, f"{loaded} is not named"
assert os.path.realpath(plugin) in refused, "nor is the plugin"
assert "cpu" in refused.split("|")[1], "nor a way round"
assert open_model("cpu") == "", "the processor works after"
print("refused, and the processor goes on")
