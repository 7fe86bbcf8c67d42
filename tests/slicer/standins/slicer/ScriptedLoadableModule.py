"""Stand-in for `slicer.ScriptedLoadableModule`, which no package has: what a module's file needs to be imported and run.
The parameter node is the real vtkMRMLScriptedModuleNode. Passing here proves nothing about PythonQt."""

import os
import sys
import unittest

import slicer


def _resource(owner, name):
    return os.path.join(os.path.dirname(sys.modules[type(owner).__module__].__file__), "Resources", name)


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__

    def resourcePath(self, name):
        return _resource(self, name)


class ScriptedLoadableModuleWidget:
    def __init__(self, parent=None):
        self.parent = parent
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.logic = None
        if parent is not None:
            self.layout = parent.layout()

    def resourcePath(self, name):
        return _resource(self, name)

    def setup(self):
        pass

    def cleanup(self):
        pass


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        return node or self.createParameterNode()

    def createParameterNode(self):
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        node.SetSingletonTag(self.moduleName)
        node.SetModuleName(self.moduleName)
        node.SetName(self.moduleName)
        return slicer.mrmlScene.AddNode(node)


class ScriptedLoadableModuleTest(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def delayDisplay(self, message, *_, **__):
        print(message)
