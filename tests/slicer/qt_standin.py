"""PySide6 as the module `qt`, with the manners of PythonQt: properties are attributes, `widget.connect("clicked(bool)", f)`,
and the loader knows Slicer's custom widgets as layout stand-ins; their node choosers list the nodes of the real scene.

It tests the panel's file and the widget's code, not Slicer's own widgets and not PythonQt. Names that Slicer does not have
stay absent, so that a mistyped property fails.
"""

from __future__ import annotations

import sys
import types

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtUiTools import QUiLoader


class qMRMLWidget(QtWidgets.QWidget):
    mrmlSceneChanged = QtCore.Signal(object)

    def setMRMLScene(self, scene):
        self.mrmlSceneChanged.emit(scene)


class qMRMLNodeComboBox(QtWidgets.QComboBox):
    currentNodeChanged = QtCore.Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene, self._tags = None, []
        self._ids, self._filling = [], False
        self.currentIndexChanged.connect(self._changed)

    def _changed(self, _index=-1):
        if not self._filling:
            self.currentNodeChanged.emit(self.currentNode())

    def setMRMLScene(self, scene):
        self.forget()
        self._scene = scene
        events = (scene.NodeAddedEvent, scene.NodeRemovedEvent)
        self._tags = [scene.AddObserver(event, self._list) for event in events]
        self._list()

    def forget(self):
        """Hears of the scene no more: the widget is about to be deleted."""
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._tags = []

    def _current(self):
        index = self.currentIndex()
        return self._ids[index] if 0 <= index < len(self._ids) else ""

    def _list(self, *_):
        """Lists the nodes there are, and keeps the chosen one as long as it is there."""
        before, self._filling = self._current(), True
        kinds = self.property("nodeTypes") or []
        nodes = [node for node in _nodes(self._scene) if node.GetClassName() in kinds]
        none = [("None", "")] if self.property("noneEnabled") else []
        entries = none + [(node.GetName(), node.GetID()) for node in nodes]
        self._ids = [node_id for _, node_id in entries]
        self.clear()
        self.addItems([name for name, _ in entries])
        self.setCurrentIndex(self._ids.index(before) if before in self._ids else min(0, len(entries) - 1))
        self._filling = False
        if self._current() != before:
            self._changed()

    def setCurrentNode(self, node):
        node_id = node.GetID() if node is not None else ""
        self.setCurrentIndex(self._ids.index(node_id) if node_id in self._ids else -1)

    def currentNode(self):
        return self._scene.GetNodeByID(self._current()) if self._scene is not None and self._current() else None


def _nodes(scene):
    return [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]


class qMRMLSegmentsTableView(QtWidgets.QTableWidget):
    def __init__(self, parent=None):
        super().__init__(0, 3, parent)
        self.setHorizontalHeaderLabels(["", "Color", "Name"])
        self.horizontalHeader().setStretchLastSection(True)
        self.setMinimumHeight(110)
        self.setMaximumHeight(130)
        self.verticalHeader().hide()
        self.ids, self.node, self.tag = [], None, None

    def setMRMLScene(self, _scene):
        pass

    def setSegmentationNode(self, node):
        if self.node is not None and self.tag is not None:
            self.node.RemoveObserver(self.tag)
        self.node, self.tag = node, None
        if node is not None:
            import vtk

            self.tag = node.AddObserver(vtk.vtkCommand.AnyEvent, lambda *_: self._list())
        self._list()

    def _list(self):
        inside = self.node.GetSegmentation() if self.node is not None else None
        self.ids = list(inside.GetSegmentIDs()) if inside is not None else []
        self.setRowCount(len(self.ids))
        for row, segment_id in enumerate(self.ids):
            segment = inside.GetSegment(segment_id)
            colour = QtWidgets.QTableWidgetItem()
            colour.setBackground(QtGui.QColor.fromRgbF(*segment.GetColor()))
            self.setItem(row, 1, colour)
            self.setItem(row, 2, QtWidgets.QTableWidgetItem(segment.GetName()))

    def selectedSegmentIDs(self):
        return [self.ids[index.row()] for index in self.selectionModel().selectedRows()]


class ctkCollapsibleButton(QtWidgets.QWidget):
    def __init__(self, parent=None):
        super().__init__(parent)
        self.setContentsMargins(0, 22, 0, 0)

    def finish(self):
        """Hides what a collapsed button hides; called once everything is loaded."""
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget) and self.property("collapsed"):
                child.setVisible(False)

    def paintEvent(self, _event):
        painter, option = QtWidgets.QStylePainter(self), QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width(), 20)
        option.text = ("▸ " if self.property("collapsed") else "▾ ") + (self.property("text") or "")
        painter.drawControl(QtWidgets.QStyle.CE_PushButton, option)

    def minimumSizeHint(self):
        hint = super().minimumSizeHint()
        hint.setHeight(22 if self.property("collapsed") else max(hint.height(), 22))
        return hint


class ctkPathLineEdit(QtWidgets.QLineEdit):
    currentPathChanged = QtCore.Signal(str)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.textChanged.connect(self.currentPathChanged)

    def _path(self):
        return self.text()

    def _set_path(self, path):
        self.setText(path)

    currentPath = QtCore.Property(str, _path, _set_path)


_CUSTOM = {
    kind.__name__: kind
    for kind in (qMRMLWidget, qMRMLNodeComboBox, qMRMLSegmentsTableView, ctkCollapsibleButton, ctkPathLineEdit)
}


class _Loader(QUiLoader):
    """Remembers what it made; refuses a class that is neither Qt's nor a stand-in."""

    def __init__(self):
        super().__init__()
        self.made, self.unknown = [], []

    def createWidget(self, kind, parent=None, name=""):
        if kind in _CUSTOM:
            widget = _CUSTOM[kind](parent)
        elif kind in self.availableWidgets():
            widget = super().createWidget(kind, parent, name)
        else:
            self.unknown.append(kind)
            widget = QtWidgets.QLabel(f"[{kind}]", parent)
        widget.setObjectName(name)
        self.made.append(widget)
        return widget


def load_panel(path):
    """The root widget of a `.ui` file, with `_loader` telling what was made."""
    loader = _Loader()
    root = loader.load(QtCore.QFile(str(path)))
    if root is None:
        raise RuntimeError(loader.errorString())
    for widget in loader.made:
        if isinstance(widget, ctkCollapsibleButton):
            widget.finish()
        if isinstance(root, qMRMLWidget) and widget is not root and hasattr(widget, "setMRMLScene"):
            root.mrmlSceneChanged.connect(widget.setMRMLScene)
    root._loader = loader
    return root


def wrap(value):
    if isinstance(value, QtCore.QObject):
        return Wrapped(value)
    return type(value)(map(wrap, value)) if isinstance(value, (list, tuple)) else value


def unwrap(value):
    return object.__getattribute__(value, "_widget") if isinstance(value, Wrapped) else value


class Wrapped:
    """A Qt object as PythonQt shows it."""

    def __init__(self, widget):
        object.__setattr__(self, "_widget", widget)

    def __eq__(self, other):
        return unwrap(self) is unwrap(other)

    def __hash__(self):
        return id(unwrap(self))

    def __getattr__(self, name):
        widget = unwrap(self)
        if name == "name":
            return widget.objectName()
        if name == "className":
            return lambda: type(widget).__name__
        if name == "connect":
            return lambda signal, slot: getattr(widget, signal.split("(")[0]).connect(slot)
        if widget.metaObject().indexOfProperty(name) >= 0:
            return widget.property(name)
        found = getattr(widget, name)
        if callable(found) and not isinstance(found, QtCore.SignalInstance):
            return lambda *arguments: wrap(found(*map(unwrap, arguments)))
        return found

    def __setattr__(self, name, value):
        widget = unwrap(self)
        if widget.metaObject().indexOfProperty(name) < 0:
            raise AttributeError(f"{type(widget).__name__} has no Qt property {name!r}")
        widget.setProperty(name, value)


class _UiLoader:
    def load(self, file):
        return Wrapped(load_panel(file.fileName()))


def install():
    """Publishes the module `qt`; returns the application."""
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    QtCore.QCoreApplication.setOrganizationName("AdaptMedSeg tests")
    module = types.ModuleType("qt")
    for source in (QtCore, QtGui, QtWidgets):
        for name in dir(source):
            if name.startswith("Q"):
                setattr(module, name, getattr(source, name))
    module.Qt = QtCore.Qt
    module.QUiLoader = _UiLoader
    module.QTimer = lambda: Wrapped(QtCore.QTimer())
    sys.modules["qt"] = module
    return application


def panel():
    """An empty module panel."""
    widget = qMRMLWidget()
    widget.setLayout(QtWidgets.QVBoxLayout())
    return Wrapped(widget)
