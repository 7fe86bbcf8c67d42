"""A real 3D Slicer session without a window, on the classes of the package `slicer-core`: scene, application logic and
module logics, published as `slicer.mrmlScene` and `slicer.modules.<name>.logic()`.

There is no Qt, no widget and no layout manager: code that needs them fails loudly, because those names stay absent.
"""

from __future__ import annotations

import os
import tempfile
import types
from pathlib import Path

import slicer
import vtk

# Module logics by their name in `slicer.modules`, and the names they are registered under where these differ.
_LOGICS = {
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "volumes": "vtkSlicerVolumesLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "models": "vtkSlicerModelsLogic",
    "transforms": "vtkSlicerTransformLogic",
    "tables": "vtkSlicerTablesLogic",
    "texts": "vtkSlicerTextsLogic",
    "sequences": "vtkSlicerSequencesLogic",
    "plots": "vtkSlicerPlotsLogic",
}
_REGISTERED_NAMES = {"subjecthierarchy": "SubjectHierarchy"}

# Flags of vtkSlicerVolumesLogic::AddArchetypeVolume.
_LABEL_MAP, _SINGLE_FILE = 1, 8


class _Module:
    """What `slicer.modules.<name>` is here: the logic is the real one."""

    def __init__(self, name, logic):
        self.name = name
        self._logic = logic

    def logic(self):
        return self._logic


class HeadlessSlicer:
    """One session; make one per process. The order of the steps is that of Slicer's own start."""

    def __init__(self, temp_dir=None):
        self.temp_dir = temp_dir or tempfile.mkdtemp(prefix="slicer-headless-")
        messages = vtk.vtkOutputWindow()
        messages.SetDisplayModeToAlwaysStdErr()
        vtk.vtkOutputWindow.SetInstance(messages)
        self.scene = slicer.vtkMRMLScene()
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        self.scene.AddNode(crosshair)
        # Without it vtkSlicerCLIModuleLogic::CreateNode follows a null pointer.
        self.scene.RegisterNodeClass(slicer.vtkMRMLCommandLineModuleNode())
        self.app_logic = slicer.vtkSlicerApplicationLogic()
        self.app_logic.SetMRMLScene(self.scene)
        self.app_logic.SetTemporaryPath(self.temp_dir)
        self.app_logic.GetColorLogic().SetMRMLScene(self.scene)
        self.app_logic.GetColorLogic().AddDefaultColorNodes()
        self.app_logic.SetSliceLogics(vtk.vtkCollection())
        self.app_logic.SetViewLogics(vtk.vtkCollection())
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)
        self._start_file_access()
        self.modules = types.SimpleNamespace()
        self._add("colors", "Colors", self.app_logic.GetColorLogic())
        for name, kind in _LOGICS.items():
            self._add(name, _REGISTERED_NAMES.get(name, name.capitalize()), getattr(slicer, kind)())
        slicer.mrmlScene, slicer.modules = self.scene, self.modules

    def _start_file_access(self):
        """Storage nodes and scene bundles need these two."""
        self.remote_io, self.data_io = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
        for logic in (self.remote_io, self.data_io):
            logic.SetMRMLScene(self.scene)
            logic.SetMRMLApplicationLogic(self.app_logic)
        self.remote_io.GetCacheManager().SetRemoteCacheDirectory(self.temp_dir)
        self.data_io.SetAndObserveDataIOManager(self.remote_io.GetDataIOManager())
        self.remote_io.AddDataIOToScene()

    def _add(self, attribute, name, logic):
        """With the scene, a logic registers its node classes; segmentations their representations too."""
        logic.SetMRMLScene(self.scene)
        logic.SetMRMLApplicationLogic(self.app_logic)
        self.app_logic.SetModuleLogic(name, logic)
        setattr(self.modules, attribute, _Module(name, logic))

    def load_volume(self, path, name=None, labelmap=False, single_file=True):
        flags = (_LABEL_MAP if labelmap else 0) | (_SINGLE_FILE if single_file else 0)
        logic = self.modules.volumes.logic()
        node = logic.AddArchetypeVolume(str(path), name or Path(path).name.split(".")[0], flags)
        if node is None:
            raise RuntimeError(f"Slicer cannot read the volume {path}")
        return node

    def load_segmentation(self, path, name=""):
        node = self.modules.segmentations.logic().LoadSegmentationFromFile(str(path), True, name)
        if node is None:
            raise RuntimeError(f"Slicer cannot read the segmentation {path}")
        return node

    def save_node(self, node, path):
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode()
        storage = node.GetStorageNode()
        storage.SetFileName(str(path))
        if not storage.WriteData(node):
            raise RuntimeError(f"Slicer cannot write {path}: {storage.GetUserMessages().GetAllMessagesAsString()}")

    def save_mrb(self, path):
        path = os.path.abspath(path)
        self.scene.SetURL(path)
        self.scene.SetRootDirectory(os.path.dirname(path))
        if not self.scene.WriteToMRB(path):
            raise RuntimeError(f"Slicer cannot write {path}")

    def load_mrb(self, path):
        self.scene.Clear(False)
        if not self.scene.ReadFromMRB(os.path.abspath(path), False):
            raise RuntimeError(f"Slicer cannot read {path}")


class _Application:
    """The few members of `slicer.app` that `slicer.util` calls outside any window."""

    applicationName = "Slicer"
    majorVersion, minorVersion = 5, 13
    commandOptions = None

    def __init__(self, host):
        self._host = host
        self.temporaryPath = host.temp_dir

    def applicationLogic(self):
        return self._host.app_logic

    def mrmlScene(self):
        return self._host.scene

    def testingEnabled(self):
        """Message boxes are logged and answered instead of shown."""
        return True

    def processEvents(self):
        """What timers of the desktop application do for the queues of its logic."""
        logic = self._host.app_logic
        logic.ProcessModified()
        logic.ProcessReadData()
        logic.ProcessWriteData()

    def pauseRender(self):
        pass

    def resumeRender(self):
        pass

    def setOverrideCursor(self, *_):
        pass

    def restoreOverrideCursor(self):
        pass


def install_app(host):
    """Publishes `slicer.app` for a session."""
    slicer.app = _Application(host)
    return slicer.app
