"""Runs a command-line module by the classes 3D Slicer runs it by: the real parser of its description, the real
`vtkSlicerCLIModuleLogic`, temporary files and threads included.

The package `slicer-core` has these classes, but not their functions that take a `ModuleDescription` in Python; in the
desktop application C++ code calls them. Its libraries export them, so they are called here through ctypes, as
`qSlicerCLIModule` calls them. That holds for the Linux wheels, whose `std::string` is the one-pointer one of the
old ABI; `supported()` says whether the installed wheel is such.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import time
from pathlib import Path

import slicer
import slicer_core

# More than sizeof(ModuleDescription), of which only Slicer's own code looks at the inside.
_DESCRIPTION_BYTES = 16384
_PARSE = "_ZN23ModuleDescriptionParser5ParseERKSsR17ModuleDescription"
_SET_DEFAULT = "_ZN23vtkSlicerCLIModuleLogic27SetDefaultModuleDescriptionERK17ModuleDescription"
_REGISTER = "_ZN28vtkMRMLCommandLineModuleNode25RegisterModuleDescriptionE17ModuleDescription"


def _library(name):
    return ctypes.CDLL(str(next(Path(slicer_core.__file__).parent.rglob(name))))


def supported():
    """Whether the functions are there under the names this file knows them by."""
    try:
        return hasattr(_library("libModuleDescriptionParser.so"), _PARSE)
    except (OSError, StopIteration):
        return False


class _String:
    """A `std::string` of the old ABI: one pointer, made by the constructor from `const char *`."""

    def __init__(self, text):
        self._content = ctypes.c_void_p()
        self._allocator = ctypes.c_char(b"\0")
        construct = ctypes.CDLL("libstdc++.so.6")["_ZNSsC1EPKcRKSaIcE"]
        construct.restype = None
        construct(ctypes.byref(self._content), ctypes.c_char_p(text.encode()), ctypes.byref(self._allocator))

    @property
    def reference(self):
        return ctypes.byref(self._content)


def _call(library, symbol, *arguments, restype=None):
    function = library[symbol]
    function.restype = restype
    return function(*arguments)


def _address(vtk_object):
    """Where the C++ object behind a Python object of VTK is."""
    return ctypes.c_void_p(int(re.match(r"_([0-9a-fA-F]+)_p_", vtk_object.__this__).group(1), 16))


def describe(executable):
    """The description Slicer would take: the .xml beside the program, else what `--xml` prints within five seconds."""
    beside = Path(executable).with_suffix(".xml")
    if beside.exists():
        return beside.read_text(encoding="utf-8")
    return subprocess.run([str(executable), "--xml"], capture_output=True, text=True, timeout=5, check=True).stdout


class CommandLineModule:
    """A module registered with a headless session."""

    def __init__(self, host, executable, xml=None):
        self._host = host
        self._parser = _library("libModuleDescriptionParser.so")
        self._description = ctypes.create_string_buffer(_DESCRIPTION_BYTES)
        self._parse(xml or describe(executable))
        path = str(Path(executable).resolve())
        for setter, value in (("SetLocation", path), ("SetTarget", path), ("SetType", "CommandLineModule")):
            self._set(setter, value)
        self.logic = slicer.vtkSlicerCLIModuleLogic()
        self.logic.SetMRMLScene(host.scene)
        self.logic.SetMRMLApplicationLogic(host.app_logic)
        _call(_library("libvtkSlicerBaseLogic.so"), _SET_DEFAULT, _address(self.logic), self._description)
        # A class passed by value is a pointer to a copy that the caller owns.
        _call(_library("libMRMLCLI.so"), _REGISTER, self._description)

    def _parse(self, xml):
        _call(self._parser, "_ZN17ModuleDescriptionC1Ev", self._description)
        stateless_parser = ctypes.create_string_buffer(64)
        text = _String(xml)
        failed = _call(
            self._parser, _PARSE, stateless_parser, text.reference, self._description, restype=ctypes.c_int
        )
        if failed:
            raise ValueError(f"Slicer's parser refuses the description: {failed}")

    def _set(self, setter, value):
        text = _String(value)
        _call(self._parser, f"_ZN17ModuleDescription{len(setter)}{setter}ERKSs", self._description, text.reference)

    def node(self, **parameters):
        """A node with parameters, set as `slicer.cli` sets them."""
        node = self.logic.CreateNodeInScene()
        for name, value in parameters.items():
            if hasattr(value, "IsA"):
                node.SetParameterAsNode(name, value)
            elif isinstance(value, int):
                node.SetParameterAsInt(name, value)
            elif isinstance(value, float):
                node.SetParameterAsDouble(name, value)
            else:
                node.SetParameterAsString(name, str(value))
        return node

    def start(self, node):
        """Starts the run on Slicer's processing thread."""
        self.logic.Apply(node, False)

    def wait(self, node, on_tick=lambda: None, timeout=120.0):
        """Does what timers of the desktop application do until the run is over and its results are in the scene."""
        end = time.monotonic() + timeout
        while node.IsBusy():
            self._pump()
            on_tick()
            if time.monotonic() > end:
                node.Cancel()
                raise TimeoutError(f"the module is still {node.GetStatusString()}")
            time.sleep(0.005)
        for _ in range(3):
            self._pump()
        return node

    def run(self, node, **wait):
        self.start(node)
        return self.wait(node, **wait)

    def _pump(self):
        logic = self._host.app_logic
        logic.ProcessModified()
        logic.ProcessReadData()
        logic.ProcessWriteData()
